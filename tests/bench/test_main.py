import json
import shutil

import pytest

from bench import report
from bench.__main__ import arguments, main, settings
from bench.cases import CASES, QUICK, Settings

tools = pytest.mark.skipif(
    not all(map(shutil.which, ("nginx", "haproxy", "wrk", "taskset", "setpriv"))),
    reason="nginx, haproxy or wrk is missing",
)


def test_options_come_before_what_quick_says():
    assert settings(arguments([])) == Settings()
    assert settings(arguments(["--quick"])) == QUICK
    assert settings(arguments(["--quick", "--pairs", "7"])) == QUICK._replace(pairs=7)


@pytest.mark.parametrize("argv", [["--pairs", "0"], ["--seconds", "0.2"], ["--seconds", "3600"], ["--case", "nosuch"]])
def test_what_is_out_of_bounds_is_refused(argv):
    with pytest.raises(SystemExit):
        arguments(argv)


def test_without_the_tools_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr("bench.processes.shutil.which", lambda name: None)
    monkeypatch.setattr(report, "meta", lambda **settings: {"cpu": "x", "cores": 2, "load_before": 0.0})
    assert main([]) == 1
    assert "nginx-light haproxy wrk util-linux" in capsys.readouterr().err


@tools
@pytest.mark.slow
def test_a_case_is_measured_printed_and_written(tmp_path, capsys):
    out = tmp_path / "latest.json"
    assert main(["--case", "stream", "--pairs", "1", "--seconds", "1", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    (figure,) = found["figures"]
    assert set(figure["servers"]) == {"fastgw", "nginx", "haproxy"}
    assert all(server["median"] > 0 for server in figure["servers"].values())
    assert figure["ratio"]["of"] == ["fastgw", "nginx"]
    assert figure["ratio"]["floor"] == 2.0
    assert found["meta"]["native"]["headers"] in (True, False)
    assert "promised at most 2" in capsys.readouterr().out


def test_every_promised_figure_has_its_case():
    assert {"chat-0.4k", "chat-10k", "chat-100k", "waiting", "stream", "latency", "workers", "memory"} <= set(CASES)
