"""The sandbox's registry: starts, is found again, takes blobs, says what is wrong."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from runctl.core.errors import Conflict, MachineError, NotFound, Unreachable, Unsupported
from runctl.sandbox.ecr.registry import CONFIG_TYPE, MANIFEST_TYPE, PROGRAM, Blob, Registry
from tests.availability import missing_programs
from tests.sandbox.conftest import free_port


def blob(content: bytes) -> Blob:
    return Blob(f"sha256:{hashlib.sha256(content).hexdigest()}", len(content), lambda: io.BytesIO(content))


def manifest(config: Blob) -> bytes:
    described = {"mediaType": CONFIG_TYPE, "size": config.size, "digest": config.digest}
    return json.dumps(
        {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": described, "layers": []}
    ).encode()


def test_a_started_registry_answers(registry: Registry) -> None:
    registry.start()

    assert registry.healthy()


def commands_of(pid: int) -> str:
    """Its command line; empty when it has ended. The number may be another process by now."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    except OSError:
        return ""


def test_a_stopped_registry_is_gone(registry: Registry) -> None:
    registry.start()
    pid = registry.pid
    registry.stop()

    assert registry.pid is None
    assert pid is not None
    assert str(registry.home) not in commands_of(pid)
    assert not registry.healthy()


def test_another_program_finds_and_stops_the_running_registry(registry: Registry) -> None:
    registry.start()
    other = Registry(registry.home, registry.host, registry.port)
    other.start()

    assert other.pid == registry.pid
    other.stop()
    assert not registry.healthy()


def test_a_killed_registry_is_started_again_with_what_it_had(registry: Registry) -> None:
    registry.start()
    config = blob(b"{}")
    registry.push_blob("library/thing", config)
    registry.push_manifest("library/thing", ("1",), manifest(config))
    assert registry.pid is not None
    os.kill(registry.pid, signal.SIGKILL)
    os.waitpid(int((registry.home / "registry.pid").read_text()), 0)

    registry.start()

    assert registry.tags("library/thing") == ("1",)


def test_a_registry_moves_to_the_address_it_is_started_at(registry: Registry) -> None:
    registry.start()
    moved = Registry(registry.home, "127.0.0.1", free_port())

    moved.start()

    assert moved.healthy()
    assert not registry.healthy()
    moved.stop()


def test_a_pid_that_is_another_process_by_now_is_left_alone(registry: Registry) -> None:
    registry.home.mkdir()
    (registry.home / "registry.pid").write_text(str(os.getpid()))

    registry.stop()

    assert registry.pid is None


def test_a_tag_names_what_was_pushed(registry: Registry) -> None:
    registry.start()
    config = blob(b'{"os": "linux"}')
    text = manifest(config)

    registry.push_blob("library/thing", config)
    registry.push_manifest("library/thing", ("1", "latest"), text)

    assert registry.has("library/thing", "latest") == f"sha256:{hashlib.sha256(text).hexdigest()}"
    assert registry.has("library/thing", "2") is None


def test_a_blob_is_sent_once(registry: Registry) -> None:
    registry.start()
    content = blob(b"x" * 100_000)
    registry.push_blob("library/thing", content)

    def refuse() -> io.BytesIO:
        raise AssertionError("sent again")

    registry.push_blob("library/thing", Blob(content.digest, content.size, refuse))


def test_a_blob_that_is_not_what_its_digest_says_is_refused(registry: Registry) -> None:
    registry.start()
    wrong = Blob(blob(b"one").digest, 3, lambda: io.BytesIO(b"two"))

    with pytest.raises(MachineError, match="DIGEST_INVALID"):
        registry.push_blob("library/thing", wrong)


def test_a_manifest_without_its_blobs_is_refused(registry: Registry) -> None:
    registry.start()

    with pytest.raises(MachineError, match="MANIFEST_BLOB_UNKNOWN"):
        registry.push_manifest("library/thing", ("1",), manifest(blob(b"never pushed")))


def test_a_repository_that_is_not_there_is_not_found(registry: Registry) -> None:
    registry.start()

    with pytest.raises(NotFound, match="library/nothing"):
        registry.tags("library/nothing")


def test_a_taken_port_is_a_conflict(registry: Registry) -> None:
    with socket.socket() as other:
        other.bind((registry.host, registry.port))
        other.listen()

        with pytest.raises(Conflict, match=str(registry.port)):
            registry.start()


def test_a_registry_that_ends_at_once_says_why(registry: Registry) -> None:
    registry.home.mkdir()
    (registry.home / "registry").write_text("in the way of the blobs' folder")
    registry.start()

    with pytest.raises(MachineError, match="500"):
        registry.push_blob("library/thing", blob(b"x"))


def test_a_registry_that_does_not_run_is_unreachable(registry: Registry) -> None:
    with pytest.raises(Unreachable, match=registry.address):
        registry.has("library/busybox", "latest")


def test_a_computer_without_the_program_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(Unsupported) as raised:
        Registry(tmp_path, "127.0.0.1", 1).start()

    assert raised.value.hint == "apt-get install docker-registry"


def test_one_without_a_port_is_reached_by_its_folder_only(tmp_path: Path) -> None:
    """However long the folder's name is: that of a socket has a limit."""
    if reason := missing_programs(PROGRAM):
        pytest.skip(reason)
    registry = Registry(tmp_path / ("long-" * 30))
    registry.start()
    try:
        assert registry.healthy()
        assert stat.S_IMODE(registry.home.stat().st_mode) == 0o700
        config = blob(b"{}")
        registry.push_blob("team/app", config)
        assert registry.blob_size("team/app", config.digest) == 2
        listening = subprocess.run(["ss", "-tlnpH"], capture_output=True, text=True, check=True).stdout
        assert f"pid={registry.pid}," not in listening
    finally:
        registry.stop()
    assert not registry.healthy()
