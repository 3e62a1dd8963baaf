"""What scripts ask of systemd on a machine without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from runctl.sandbox.machines import docker_supervisor
from runctl.sandbox.machines import systemd as machine_systemd
from runctl.sandbox.machines.systemd import commands_of, systemctl

ONESHOT = "[Unit]\nDescription=x\n[Service]\nType=oneshot\nRemainAfterExit=yes\n"


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of unit files, on a machine without Docker."""
    folder = tmp_path / "units"
    folder.mkdir()
    monkeypatch.setattr(machine_systemd, "ONESHOT_FOLDERS", (folder,))
    monkeypatch.setattr(machine_systemd, "ENABLED", tmp_path / "enabled")
    monkeypatch.setattr(machine_systemd, "BOOT_LOG", tmp_path / "boot.log")
    monkeypatch.setattr(docker_supervisor, "CONFIG", tmp_path / "none")
    return folder


def test_a_services_commands_are_read_as_words() -> None:
    text = ONESHOT + "ExecStart=/bin/sh -c 'echo \"a b\"'\nExecStart=/bin/true\n[Install]\nWantedBy=x\n"

    assert commands_of(text) == [["/bin/sh", "-c", 'echo "a b"'], ["/bin/true"]]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[Service]\nExecStart=/bin/sleep 9\n", "type simple"),
        ("[Service]\nType=forking\nExecStart=/bin/sleep 9\n", "type forking"),
        (ONESHOT + "User=nobody\nExecStart=/bin/true\n", "User="),
    ],
)
def test_what_only_systemd_can_do_is_refused_by_name(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        commands_of(text)


def test_starting_a_oneshot_runs_it(units: Path, tmp_path: Path) -> None:
    (units / "mark.service").write_text(f"{ONESHOT}ExecStart=/bin/touch {tmp_path}/marked\n")

    assert systemctl(["start", "mark"]) == 0
    assert (tmp_path / "marked").exists()


def test_a_oneshot_that_fails_says_which_command(units: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (units / "bad.service").write_text(f"{ONESHOT}ExecStart=/bin/sh -c 'exit 3'\n")

    assert systemctl(["start", "bad"]) == 1
    assert capsys.readouterr().err == "Job for bad.service failed: /bin/sh ended with 3\n"


def test_enabling_does_not_start(units: Path, tmp_path: Path) -> None:
    (units / "mark.service").write_text(f"{ONESHOT}ExecStart=/bin/touch {tmp_path}/marked\n")

    assert systemctl(["enable", "mark"]) == 0
    assert not (tmp_path / "marked").exists()


def test_enabled_services_start_with_the_machine_and_disabled_ones_do_not(
    units: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (units / f"{name}.service").write_text(f"{ONESHOT}ExecStart=/bin/touch {tmp_path}/{name}\n")
        systemctl(["enable", name])
    systemctl(["disable", "two"])

    machine_systemd.start_enabled()

    assert (tmp_path / "one").exists()
    assert not (tmp_path / "two").exists()


def test_a_service_that_fails_at_boot_keeps_none_of_the_others(units: Path, tmp_path: Path) -> None:
    (units / "a.service").write_text(f"{ONESHOT}ExecStart=/no/such/program\n")
    (units / "b.service").write_text(f"{ONESHOT}ExecStart=/bin/touch {tmp_path}/b\n")
    for name in ("a", "b"):
        systemctl(["enable", name])

    machine_systemd.start_enabled()

    assert (tmp_path / "b").exists()
    assert "a.service failed" in (tmp_path / "boot.log").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "answer"),
    [
        (["is-active", "docker"], 3, "inactive\n"),
        (["is-enabled", "docker.service"], 4, "not-found\n"),
        (["is-active", "--quiet", "docker"], 3, ""),
        (["daemon-reload"], 0, ""),
    ],
)
def test_without_an_engine_docker_is_no_unit(
    units: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, answer: str
) -> None:
    assert systemctl(arguments) == code
    assert capsys.readouterr().out == answer


@pytest.mark.parametrize(
    "arguments", [["enable", "--now", "docker"], ["start", "docker"], ["status", "docker"]]
)
def test_a_unit_that_is_not_there_is_an_error(
    units: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert systemctl(arguments) in {4, 5}
    assert "docker.service" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["poweroff", "halt", "reboot"])
def test_power_verbs_are_the_machines_own_shutdown(
    units: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    shutdown = tmp_path / "shutdown"
    shutdown.write_text(f'#!/bin/sh\necho "$@" > "{tmp_path}/asked"\n')
    shutdown.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    systemctl([verb])

    flag = {"poweroff": "-P", "halt": "-H", "reboot": "-r"}[verb]
    assert (tmp_path / "asked").read_text() == f"{flag} now\n"


def test_an_unknown_option_is_not_swallowed(units: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert systemctl(["--root=/x", "enable", "thing"]) == 1
    assert "--root=/x is not supported" in capsys.readouterr().err
