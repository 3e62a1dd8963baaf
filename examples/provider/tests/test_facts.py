"""What a machine says of itself."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from runctl.core.errors import MachineError
from runctl_hosts.facts import ASK, Facts, FactsMemory, parse

FACTS = Facts("boot-1", 1_700_000_000, "/home/ada", "linux", "x86_64", 64, ("NVIDIA A100", "NVIDIA A100"))


def asked(tmp_path: Path, *, boot: str = "", driver: str | None = None) -> str:
    """The command's answer on this computer, with such a driver."""
    if driver is not None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{driver}\n")
        program.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    return subprocess.run(
        ["sh", "-c", ASK, "sh", boot], env=env, capture_output=True, text=True, check=True
    ).stdout


def test_gpus_are_named_and_counted(tmp_path: Path) -> None:
    said = asked(tmp_path, driver="echo NVIDIA A100; echo NVIDIA A100; echo NVIDIA T4")
    assert parse(said, None).kind == "2 x NVIDIA A100, 1 x NVIDIA T4"


def test_a_driver_that_fails_is_no_gpu(tmp_path: Path) -> None:
    found = parse(asked(tmp_path, driver="echo NVIDIA-SMI has failed; exit 9"), None)
    assert found.gpus == ()
    assert found.kind == f"{found.architecture}, {found.cpus} CPUs"


def test_the_driver_is_asked_once_after_each_boot(tmp_path: Path) -> None:
    first = parse(asked(tmp_path, driver="echo NVIDIA T4"), None)
    again = parse(asked(tmp_path, boot=first.boot, driver="echo asked >&2; exit 1"), first)
    assert again.gpus == first.gpus == ("NVIDIA T4",)


def test_a_machine_that_says_something_else_is_an_error() -> None:
    with pytest.raises(MachineError):
        parse("welcome to the router\n", None)


def test_what_was_seen_is_remembered_by_name(tmp_path: Path) -> None:
    memory = FactsMemory(tmp_path / "cache" / "hosts.json")
    memory.keep({"a": FACTS})
    memory.keep({"b": replace(FACTS, cpus=8)})
    assert memory.all() == {"a": FACTS, "b": replace(FACTS, cpus=8)}


@pytest.mark.parametrize("text", ["", "[]", '{"a": {"boot": 1}}', '{"a": 1}'])
def test_a_file_that_is_not_understood_is_as_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "hosts.json"
    file.write_text(text)
    assert FactsMemory(file).all() == {}
