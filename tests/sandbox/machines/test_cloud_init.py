"""What a machine does with the steps of its user data."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from runctl.sandbox.machines import cloud_init
from runctl.sandbox.machines.user_data import steps_of


class Disk:
    """Where `cloud_init` reads and writes, in a folder of the test."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        for name, path in {"STEPS": "steps", "INSTANCE": "instance", "LOG": "log", "UP": "up"}.items():
            monkeypatch.setattr(cloud_init, name, folder / path)
        monkeypatch.setattr(cloud_init, "PER_BOOT", folder / "per-boot")

    def boot(self, **steps: Any) -> None:
        """Both parts of it, with these steps."""
        (self.folder / "steps").write_text(json.dumps(steps))
        cloud_init.early()
        cloud_init.final()
        assert (self.folder / "instance/boot-finished").exists()

    @property
    def error(self) -> str:
        """Empty where ``cloud-init status`` says ``done``."""
        file = self.folder / "instance/error"
        return file.read_text() if file.exists() else ""

    def file(self, name: str, **more: Any) -> dict[str, Any]:
        """A step that writes it, as root here."""
        owner = pwd.getpwuid(os.getuid()).pw_name
        step = {
            "do": "file",
            "path": str(self.folder / name),
            "content": name,
            "base64": False,
            "mode": 0o644,
        }
        return {**step, "owner": owner, "append": False, **more}


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path, monkeypatch)


def run(*argv: str) -> dict[str, Any]:
    return {"do": "run", "argv": list(argv)}


def test_what_ends_well_is_no_error(disk: Disk) -> None:
    disk.boot(boot=[run("true")], early=[disk.file("a", mode=0o600)], final=[run("true")], problem="")

    assert disk.error == ""
    assert (disk.folder / "a").read_text() == "a"
    assert (disk.folder / "a").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("phase", ["boot", "early", "final"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"argv": ["false"]},
        {"argv": ["/no/such/program"]},
        {"argv": ["true", "\0"]},
        {"do": "file", "owner": "nobody-of-that-name:nogroup"},
        {"do": "file", "base64": True, "content": "a"},
        {"do": "file", "content": "\ud800"},
        {"do": "file", "path": "/proc/none/file"},
    ],
)
def test_a_step_that_fails_in_any_phase_is_an_error_and_the_others_are_done_once(
    disk: Disk, phase: str, wrong: dict[str, Any]
) -> None:
    broken = {**(disk.file("wrong") if wrong.get("do") == "file" else run()), **wrong}
    steps = {
        name: [*([broken] if name == phase else []), disk.file(name, content=f"{name}\n", append=True)]
        for name in ("boot", "early", "final")
    }

    disk.boot(**steps)
    disk.boot(**steps)

    assert disk.error
    assert disk.error.splitlines()[0] in (disk.folder / "log").read_text()
    assert (disk.folder / "early").read_text() == "early\n"
    assert (disk.folder / "final").read_text() == "final\n"
    # These are those of every boot.
    assert (disk.folder / "boot").read_text() == "boot\nboot\n"


def test_a_script_has_the_bytes_that_it_had(disk: Disk) -> None:
    script = f"#!/bin/sh\nprintf '\\377' > {disk.folder}/byte\nexit 0\n".encode() + b"\xff\xfe\x00"

    disk.boot(**steps_of(script, "ubuntu"))

    assert (disk.error, (disk.folder / "byte").read_bytes()) == ("", b"\xff")
    assert (disk.folder / "instance/user-data.txt").read_bytes() == script


def test_what_could_not_be_carried_out_at_all_is_an_error(disk: Disk) -> None:
    disk.boot(final=[disk.file("a")], problem="user data: packages is not supported \ud800")

    assert "packages is not supported" in disk.error
    assert (disk.folder / "a").exists()


def test_a_script_of_every_boot_that_cannot_be_run_keeps_none_of_the_others(disk: Disk) -> None:
    (disk.folder / "per-boot").mkdir()
    for name, text, mode in (
        ("1", "#!/no/such/interpreter\n", 0o755),
        ("2", "#!/bin/sh\n", 0o644),
        ("3", f"#!/bin/sh\ntouch {disk.folder}/ran\n", 0o755),
    ):
        (disk.folder / "per-boot" / name).write_text(text)
        (disk.folder / "per-boot" / name).chmod(mode)

    disk.boot()

    assert (disk.folder / "ran").exists()
    assert [line.partition(":")[0] for line in disk.error.splitlines()] == ["run failed"]


@pytest.mark.parametrize("phase", ["boot", "early"])
def test_the_machine_is_up_before_its_user_data_is_carried_out(disk: Disk, phase: str) -> None:
    disk.boot(**{phase: [run("test", "-e", str(disk.folder / "up"))]})

    assert disk.error == ""


def test_without_what_comes_before_logins_the_machine_is_up_when_they_are_possible(disk: Disk) -> None:
    disk.boot(final=[run("test", "!", "-e", str(disk.folder / "up"))])

    assert disk.error == ""


def test_at_a_later_boot_only_what_is_done_again_comes_before_logins(disk: Disk) -> None:
    disk.boot(early=[disk.file("a")])
    (disk.folder / "up").unlink()

    disk.boot(early=[disk.file("a")])

    assert not (disk.folder / "up").exists()
