"""``exec`` and ``ssh``."""

from __future__ import annotations

import pytest

from runctl.core.errors import Unreachable
from runctl.core.machine_models import InstanceState
from runctl.transport.interface import PortForward
from tests.cli.conftest import Invoke
from tests.cli.fake_provider import INSTANCE_ID, Script, an_instance


@pytest.fixture
def machine(script: Script) -> Script:
    script.answers.update(instance=an_instance(), transport=None, stream=(b"", b"", 0), terminal=0)
    return script


def test_output_and_exit_code_are_the_commands_own(invoke: Invoke, machine: Script) -> None:
    machine.answers["stream"] = (b"out \xff\n", b"err\n", 42)
    result = invoke("aws", "exec", INSTANCE_ID, "--", "make")
    assert (result.stdout_bytes, result.stderr, result.exit_code) == (b"out \xff\n", "err\n", 42)


def test_what_is_piped_in_reaches_the_command(invoke: Invoke, machine: Script) -> None:
    invoke("aws", "exec", INSTANCE_ID, "--", "tar", "x", stdin=b"\x00\xffdata")
    assert machine.only("stream") == (("tar", "x"), b"\x00\xffdata", False)


def test_no_stdin_gives_it_none(invoke: Invoke, machine: Script) -> None:
    invoke("aws", "exec", "-n", INSTANCE_ID, "--", "cat", stdin="data")
    assert machine.only("stream")[1] is None


def test_root_is_passed_on(invoke: Invoke, machine: Script) -> None:
    invoke("aws", "exec", INSTANCE_ID, "--root", "--", "id")
    assert machine.only("stream")[2] is True


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("-h",),
        ("--output", "json"),
        ("--quiet", "-y", "--root"),
        ("", " ", "a b", "'", '"', "$HOME", "\n", "*", "é"),
        ("--",),
        ("a", "--", "--", "b"),
    ],
)
def test_what_follows_the_dashes_is_passed_exactly(
    invoke: Invoke, machine: Script, arguments: tuple[str, ...]
) -> None:
    result = invoke("aws", "exec", INSTANCE_ID, "--", "program", *arguments)
    assert result.exit_code == 0
    assert machine.only("stream")[0] == ("program", *arguments)


def test_a_command_without_dashes_is_told_where_they_go(invoke: Invoke, machine: Script) -> None:
    result = invoke("aws", "exec", INSTANCE_ID, "ls")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: runctl aws exec does not take 'ls'\n"
        "hint: arguments for the script or command go after two dashes: -- ls\n"
    )


@pytest.mark.parametrize("arguments", [(), ("--",)])
def test_no_command_at_all_is_an_error(invoke: Invoke, script: Script, arguments: tuple[str, ...]) -> None:
    result = invoke("aws", "exec", INSTANCE_ID, *arguments)
    assert result.exit_code == 2
    assert f"runctl aws exec {INSTANCE_ID} -- ls -l" in result.stderr
    assert script.calls == []


def test_a_machine_that_does_not_run_says_how_to_start_it(invoke: Invoke, machine: Script) -> None:
    machine.answers["instance"] = an_instance(state=InstanceState.STOPPED)
    result = invoke("aws", "exec", INSTANCE_ID, "--", "ls")
    assert result.exit_code == 1
    assert f"hint: runctl aws start {INSTANCE_ID}" in result.stderr


def test_a_machine_that_cannot_be_reached_is_exit_code_7(invoke: Invoke, machine: Script) -> None:
    machine.answers["stream"] = Unreachable("the connection broke")
    assert invoke("aws", "exec", INSTANCE_ID, "--", "ls").exit_code == 7
    assert machine.names()[-1] == "close"


@pytest.mark.parametrize(("flags", "choice"), [((), "auto"), (("--transport", "ssm"), "ssm")])
def test_the_transport_is_the_flags_else_the_configurations(
    invoke: Invoke, machine: Script, flags: tuple[str, ...], choice: str
) -> None:
    invoke("aws", "exec", INSTANCE_ID, *flags, "--", "ls")
    assert machine.only("transport") == (INSTANCE_ID, choice)


def test_ssh_hands_over_the_terminal_and_returns_its_code(invoke: Invoke, machine: Script) -> None:
    machine.answers["terminal"] = 3
    assert invoke("aws", "ssh", INSTANCE_ID, "--", "htop", "-d", "1").exit_code == 3
    assert machine.only("terminal") == (("htop", "-d", "1"),)


def test_ssh_forwards_ports_meanwhile(invoke: Invoke, machine: Script) -> None:
    machine.answers["terminal"] = 0
    assert invoke("aws", "ssh", INSTANCE_ID, "-L", "8265", "-L", "80:db:5432").exit_code == 0
    assert machine.only("forwarding") == (PortForward(8265), PortForward(80, "db", 5432))
    for wrong in ("0", "65536", "80:db", "x", "80:db:x", "a:80:db:5432"):
        assert invoke("aws", "ssh", INSTANCE_ID, "-L", wrong).exit_code == 2
