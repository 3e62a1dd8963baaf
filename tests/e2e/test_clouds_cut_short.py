"""RunPod's and Lyceum's machines when runctl is killed after any of its calls, or an answer is lost: none twice, none
left."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from runctl.sandbox.connection import SandboxInfo
from runctl.sandbox.fault_client import Faults
from tests.e2e.command_line import CommandLine, write_project

pytestmark = [pytest.mark.namespaces, pytest.mark.root]

TYPES = {"runpod": "rtx-a5000", "lyceum": "l40s"}
DELETES = {"runpod": "delete", "lyceum": "terminate"}
MOST_CALLS = 40


@pytest.fixture(params=sorted(TYPES))
def cloud(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def runctl(in_sandbox: SandboxInfo, tmp_path: Path) -> CommandLine:
    project = write_project(tmp_path / "project", {"train.py": "print('trained')\n"})
    return CommandLine(project, {"XDG_DATA_HOME": str(tmp_path / "data")})


@pytest.fixture
def faults(in_sandbox: SandboxInfo) -> Iterator[Faults]:
    found = Faults(in_sandbox)
    yield found
    found.clear()


def machines(runctl: CommandLine, cloud: str) -> set[str]:
    """All that are billed, whoever made them."""
    return set(runctl(cloud, "list", "--everyone", "--quiet").ok().out.split())


def was_killed(runctl: CommandLine, after: str, *argv: str) -> bool:
    """Whether the command made so many calls; else it has come to a good end."""
    done = runctl.another("tests.e2e.killed_rest", after, *argv)
    assert done.code in {0, -signal.SIGKILL}, str(done)
    return done.code != 0


@pytest.mark.slow
def test_create_and_terminate_that_are_killed_after_any_call_make_one_machine_and_leave_none(
    runctl: CommandLine, cloud: str
) -> None:
    before = machines(runctl, cloud)
    killed = 0
    for number in range(1, MOST_CALLS):
        name = f"cut{number}"
        create = (cloud, "create", "--instance-type", TYPES[cloud], "--name", name, "--no-wait", "--yes")
        creating = was_killed(runctl, str(number), *create)
        if creating:
            runctl(*create).ok()
        (made,) = machines(runctl, cloud) - before
        end = (cloud, "terminate", made, "--yes")
        ending = was_killed(runctl, str(number), *end)
        if ending:
            runctl(*end).ok()
        assert machines(runctl, cloud) == before
        killed += creating + ending
        if not creating and not ending:
            break
    else:
        pytest.fail(f"more than {MOST_CALLS} calls")
    assert killed >= 6


@pytest.mark.slow
def test_a_launch_that_is_killed_when_its_machine_is_there_goes_on_with_it_and_gives_it_back(
    runctl: CommandLine, cloud: str
) -> None:
    before = machines(runctl, cloud)
    launch = (
        cloud,
        "launch",
        "train.py",
        "--instance-type",
        TYPES[cloud],
        "--results",
        "results",
        "--wait",
        "--yes",
    )
    assert was_killed(runctl, "write:" + ("2" if cloud == "runpod" else "1"), *launch)
    (made,) = machines(runctl, cloud) - before
    done = runctl(*launch).ok()
    assert "trained" in done.out
    assert f"{made} was begun by the same command" in done.err
    assert machines(runctl, cloud) == before


def test_answers_that_are_lost_and_connections_that_are_reset_make_no_second_machine_and_leave_none(
    runctl: CommandLine, cloud: str, faults: Faults
) -> None:
    before = machines(runctl, cloud)
    behave = faults.runpod if cloud == "runpod" else faults.lyceum
    for trouble in ({"lost": {"create": 1, DELETES[cloud]: 1}}, {"dropped": {"create": ["middle"]}}):
        behave(**trouble)
        runctl(cloud, "create", "--instance-type", TYPES[cloud], "--name", "lost", "--no-wait", "--yes").ok()
        (made,) = machines(runctl, cloud) - before
        behave(dropped={"list": ["before"], DELETES[cloud]: ["after"]})
        runctl(cloud, "terminate", made, "--yes").ok()
        assert machines(runctl, cloud) == before
