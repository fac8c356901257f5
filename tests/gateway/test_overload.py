"""When a worker has too much."""

import pytest

from fastgw.gateway.overload import Gauge, machine_memory, own_memory
from fastgw.plan.edge import Overload

MB = 1 << 20


def test_memory_has_a_bound_and_a_way_back():
    gauge = Gauge(1000 * MB)
    bounds = Overload(share=0.5)
    found = [gauge.look(bounds, 0.0, size * MB) for size in (499, 501, 460, 449, 499)]
    assert found == ["", "memory", "memory", "", ""]
    assert Gauge(1000 * MB).look(Overload(memory=10 * MB), 0.0, 11 * MB) == "memory"


def test_one_late_moment_is_none():
    gauge = Gauge(1000 * MB)
    bounds = Overload(lag=0.5)
    found = [gauge.look(bounds, lag, 0) for lag in (0.6, 0.1, 0.6, 0.6, 0.48, 0.4, 0.6)]
    assert found == ["", "", "", "lag", "lag", "", ""]


def test_without_bounds_nothing_is_too_much():
    assert Gauge(1).look(Overload(), 100.0, 1 << 50) == ""


def test_own_memory_grows_with_what_is_held():
    before = own_memory()
    held = bytearray(32 * MB)
    assert 24 * MB < own_memory() - before < 64 * MB
    assert len(held) == 32 * MB


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8192),
        ({"sys/fs/cgroup/memory.max": "max"}, 8192),
        ({"sys/fs/cgroup/memory.max": "4096"}, 4096),
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/memory.max": "2048"}, 2048),
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/b/memory.max": "99999999"}, 8192),
        ({"proc/self/cgroup": "4:cpu:/x\n3:memory:/y", "sys/fs/cgroup/memory/y/memory.limit_in_bytes": "1024"}, 1024),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}, 8192),
    ],
)
def test_memory_is_the_least_of_the_limits_there_are(tmp_path, files, expected):
    for name, text in {"proc/meminfo": "MemTotal:        8 kB\nMemFree: 1 kB", **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine_memory(tmp_path) == expected
