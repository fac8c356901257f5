"""Four processes on few slots, killed with SIGKILL at random, many times: the native twin only, real memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests._core.table_twins import loaded

KILLS = int(os.environ.get("FASTGW_STRESS_KILLS", "60"))


@pytest.mark.skipif("FASTGW_ASAN_TREE" in os.environ, reason="hundreds of forks are too slow under AddressSanitizer")
@pytest.mark.skipif(os.environ.get("FASTGW_PURE") == "1", reason="the pure twin is killed store by store elsewhere")
def test_many_kills_lose_and_double_nothing(tmp_path):
    loaded("table_c")
    nursery = Path(__file__).with_name("nursery.py")
    command = [sys.executable, str(nursery), str(tmp_path / "table-v2.map"), str(KILLS), os.environ.get("SEED", "1")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    records, sent, unsent = map(int, done.stdout.split())
    assert records > 10 * KILLS
    assert sent + unsent > 0, "no kill met a call in flight: it proves nothing"
