import errno
import os
import socket
from pathlib import Path

import pytest

from fastgw.node import listeners
from fastgw.node.errors import StartError


def test_every_address_of_a_name_has_the_same_port() -> None:
    ends = listeners.bind_tcp(["localhost", "127.0.0.1", "localhost"], 0)
    try:
        assert len({end.getsockname()[1] for end in ends}) == 1
        assert len({end.getsockname() for end in ends}) == len(ends)
        assert all(not end.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) for end in ends)
        assert not any(end.getblocking() for end in ends)
    finally:
        listeners.close_all(ends)


def test_taken_port_names_its_owner() -> None:
    first = listeners.bind_tcp(["127.0.0.1"], 0)
    port = first[0].getsockname()[1]
    try:
        with pytest.raises(StartError) as caught:
            listeners.bind_tcp(["127.0.0.1"], port)
    finally:
        listeners.close_all(first)
    assert caught.value.code == 3
    assert f"(pid {os.getpid()})" in caught.value.problems[0]
    assert listeners.owner_of(port) == ""


def test_ipv4_and_ipv6_wildcards_do_not_collide() -> None:
    first = listeners.bind_tcp(["0.0.0.0"], 0)
    second = listeners.bind_tcp(["::"], first[0].getsockname()[1])
    assert listeners.describe(second[0]).startswith("http://[::]:")
    listeners.close_all([*first, *second])


def test_foreign_address() -> None:
    with pytest.raises(StartError) as caught:
        listeners.bind_tcp(["192.0.2.1"], 0)
    assert caught.value.code == 2


def test_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    end = listeners.bind_unix(path)
    assert os.stat(path).st_mode & 0o777 == 0o660
    assert listeners.describe(end) == f"unix:{path}"
    with pytest.raises(StartError) as caught:
        listeners.bind_unix(path)
    assert caught.value.code == 3
    listeners.close_all([end])
    assert not os.path.exists(path)


def test_unix_socket_left_behind_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    listeners.close_all([listeners.bind_unix(str(path))])
    path.write_text("precious")
    with pytest.raises(StartError) as caught:
        listeners.bind_unix(str(path))
    assert caught.value.code == 3
    assert path.read_text() == "precious"
    with pytest.raises(StartError) as caught:
        listeners.bind_unix(str(tmp_path / ("x" * 200)))
    assert caught.value.code == 2


def test_beyond_loopback() -> None:
    hosts = ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "0.0.0.0", "::", "10.0.0.1", "example.org"]
    assert listeners.beyond_loopback(hosts) == ["0.0.0.0", "::", "10.0.0.1", "example.org"]


def test_a_name_whose_other_address_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(*_: object, **__: object) -> list[object]:
        return [
            (socket.AF_INET, 1, 6, "", ("192.0.2.1", 0)),
            (socket.AF_INET, 1, 6, "", ("127.0.0.1", 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    ends = listeners.bind_tcp(["name"], 0)
    assert [end.getsockname()[0] for end in ends] == ["127.0.0.1"]
    listeners.close_all(ends)


def test_a_chosen_port_that_is_not_free_everywhere_is_chosen_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    usual, calls = listeners._listen_tcp, []

    def sometimes(family: int, address: tuple[object, ...]) -> socket.socket:
        calls.append(address)
        if len(calls) == 2:
            raise OSError(errno.EADDRINUSE, "in use")
        return usual(family, address)

    monkeypatch.setattr(listeners, "_listen_tcp", sometimes)
    ends = listeners.bind_tcp(["127.0.0.1", "::1"], 0)
    assert len(calls) == 4
    assert len({end.getsockname()[1] for end in ends}) == 1
    listeners.close_all(ends)
