"""The doctor: what it looks at, and that it finds what is wrong and nothing else."""

import resource
import socket
from types import SimpleNamespace

import pytest

from fastgw import _core, doctor
from fastgw.doctor import Finding, examine
from tests.plan.support import MODELS, PROVIDERS

CANARY = "sk-canary-6ab10"


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def peer():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def found(findings, subject):
    (one,) = [finding for finding in findings if finding.subject == subject]
    return one


def config_for(tmp_path, port, more=""):
    path = tmp_path / "fastgw.yaml"
    path.write_text(PROVIDERS.replace(":9/", f":{port}/") + MODELS + more)
    return str(path)


def test_a_sound_set_up_has_nothing_bad(tmp_path, data, peer):
    findings = examine(config_for(tmp_path, peer), data, 0)
    subjects = {finding.subject for finding in findings}
    assert {"python", "open files", "cores", "data directory", "port 0", "provider up"} <= subjects
    assert {f"native {name}" for name in _core.NATIVE} <= subjects
    ours = [finding for finding in findings if finding.subject not in ("disk", "open files")]
    assert [finding for finding in ours if finding.grade == "bad"] == []
    assert found(findings, "data directory").text.endswith("is private")
    assert "1 models, 0 keys" in found(findings, str(tmp_path / "fastgw.yaml")).text
    assert list(data.iterdir()) == []


def test_whatever_is_bad_says_how_to_mend_it(tmp_path, data):
    data.chmod(0o755)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        findings = examine(config_for(tmp_path, nobody.getsockname()[1]), data, 0)
    bad = [finding for finding in findings if finding.grade == "bad"]
    assert {"data directory", "provider up"} <= {finding.subject for finding in bad}
    assert all(finding.mend for finding in bad)
    assert found(findings, "data directory").mend == f"chmod 700 {data}"


def test_every_error_of_the_config_is_a_finding(tmp_path, data):
    path = config_for(tmp_path, 9, "nope: 1\nlog: {levle: x}\n")
    bad = [finding for finding in examine(path, data, 0) if finding.subject == path]
    assert [(finding.grade, finding.text.split(":")[0]) for finding in bad] == [("bad", "nope"), ("bad", "log.levle")]


def test_nothing_to_serve_is_worth_a_note(data):
    assert found(examine(None, data, 0), "config").grade == "note"


def test_a_data_directory_that_is_not_there_yet(tmp_path):
    finding = found(examine(None, tmp_path / "none", 0), "data directory")
    assert (finding.grade, "will be made" in finding.text) == ("note", True)
    assert not (tmp_path / "none").exists()


def test_a_port_that_is_taken(data, peer):
    finding = found(examine(None, data, peer), f"port {peer}")
    assert (finding.grade, str(peer) in finding.mend) == ("note", True)


def test_an_upstream_behind_a_proxy_is_not_tried(tmp_path, data, peer):
    path = tmp_path / "fastgw.yaml"
    path.write_text(PROVIDERS.replace("'}", f"', proxy: 'http://u:{CANARY}@127.0.0.1:1'}}") + MODELS)
    findings = examine(str(path), data, 0)
    assert found(findings, "provider up") == Finding("note", "provider up", "behind an egress proxy: not tried")
    assert CANARY not in repr(findings)


@pytest.mark.parametrize(("soft", "hard", "grade"), [(4096, 4096, "good"), (1024, 4096, "note"), (1024, 1024, "bad")])
def test_the_limit_of_open_files(monkeypatch, soft, hard, grade):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, hard))
    assert doctor._files().grade == grade


@pytest.mark.parametrize(("free", "grade"), [(doctor.DISK_WANTED, "good"), (doctor.DISK_WANTED - 1, "bad")])
def test_the_disk(monkeypatch, data, free, grade):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: SimpleNamespace(free=free))
    assert found(list(doctor._data(data)), "disk").grade == grade


def test_a_twin_that_serves_is_told_with_the_reason(monkeypatch):
    monkeypatch.setattr(_core, "NATIVE", {"headers": True, "table": False})
    monkeypatch.setattr(_core, "REASONS", {"table": "FASTGW_PURE=1"})
    good, note = doctor._native()
    assert (good.grade, note.grade, "FASTGW_PURE=1" in note.text) == ("good", "note", True)


def test_no_finding_shows_a_secret(tmp_path, data, peer, monkeypatch):
    monkeypatch.setenv("CANARY", CANARY)
    good = config_for(tmp_path, peer, "keys: [{name: a, secret: '${CANARY}'}]\n")
    assert CANARY not in repr(examine(good, data, 0))
    bad = config_for(tmp_path, peer, "keys: [{name: a, secret: '${CANARY} x'}]\n")
    assert CANARY not in repr(examine(bad, data, 0))
