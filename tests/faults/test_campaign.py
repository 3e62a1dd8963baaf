"""The campaign's short form: the commands that create and change, with every answer lost, and killed at each change.

The long one is `scripts/campaign`.
"""

from __future__ import annotations

from email.message import Message

import pytest

from tests.faults.account import Account
from tests.faults.campaign import COMMANDS, calls_of, main, point, points
from tests.faults.clouds import CLOUDS
from tests.faults.jobs import JOBS, Cleanup
from tests.faults.leaks import cleaned, leak_point
from tests.faults.proxy import Arm, is_change, name_of
from tests.faults.scenarios import SCENARIOS, Scenario

pytestmark = [pytest.mark.namespaces, pytest.mark.root, pytest.mark.linux]

SHORT = ("create", "train", "ebs-create", "ebs-attach", "ebs-detach", "ebs-snapshot", "ebs-delete")
KILLED_AT = [
    ("train", "ssm:SendCommand"),
    ("ebs-detach", "ec2:DetachVolume"),
]
"""What `tests.machines.test_cut_short` does not ask already, which is cheaper."""
AT_EVERY_CALL = ("ebs-create", "ebs-move")
"""Those are killed after calls that only look, too."""


@pytest.fixture(scope="session")
def scenarios(account: Account) -> dict[str, Scenario]:
    """With one machine for all that need one."""
    created = {name: kind(account) for name, kind in SCENARIOS.items()}
    for scenario in created.values():
        scenario.shares_with = tuple(created.values())
    return created


@pytest.mark.parametrize("name", SHORT)
def test_a_command_withstands_the_loss_of_every_answer_to_a_change(
    scenarios: dict[str, Scenario], name: str
) -> None:
    found = point(scenarios[name], "drop_after", each_change=True)

    assert found is not None
    assert (found.problems, found.code) == ((), 0), found


@pytest.mark.parametrize(("name", "call"), KILLED_AT)
def test_the_same_command_again_finishes_what_a_killed_one_began(
    scenarios: dict[str, Scenario], name: str, call: str
) -> None:
    found = point(scenarios[name], "kill_after", call)

    assert found is not None
    assert (found.problems, found.again) == ((), 0), found


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in AT_EVERY_CALL])
def test_the_same_command_again_finishes_what_was_killed_after_any_change(
    scenarios: dict[str, Scenario], name: str
) -> None:
    scenario = scenarios[name]
    chosen = points(calls_of(scenario), changes_only=True)
    found = [point(scenario, "kill_after", call, occurrence) for call, occurrence in chosen]

    assert chosen
    assert [finding for finding in found if finding is not None and finding.problems] == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill_before", "drop_after", "kill_after"])
@pytest.mark.parametrize("name", AT_EVERY_CALL)
def test_a_volume_is_made_and_moved_once_wherever_the_command_is_cut_short(
    scenarios: dict[str, Scenario], name: str, fault: str
) -> None:
    scenario = scenarios[name]
    chosen = points(calls_of(scenario))
    found = [point(scenario, fault, call, occurrence) for call, occurrence in chosen]

    assert {call for call, _ in chosen} >= {"ec2:DescribeVolumes", "ec2:CreateVolume"}
    assert [finding for finding in found if finding is not None and finding.problems] == []


def test_the_campaign_runs_one_command_with_one_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ebs-delete", "--fault", "throttle", "--calls", "ec2:DeleteVolume"]) == 0

    assert "| EbsDelete | throttle | 1 | 1 | 0 | 0 |" in capsys.readouterr().out


def test_calls_that_are_repeated_get_two_faults() -> None:
    calls = ["sts:GetCallerIdentity", *["ec2:DescribeVolumes"] * 9, "ec2:AttachVolume"]

    assert points(calls) == [
        ("sts:GetCallerIdentity", 1),
        ("ec2:DescribeVolumes", 1),
        ("ec2:DescribeVolumes", 2),
        ("ec2:AttachVolume", 1),
    ]
    assert points(calls, changes_only=True) == [("ec2:AttachVolume", 1)]


@pytest.mark.parametrize(
    ("arm", "hit"),
    [
        (Arm("drop_after", at=2), [2]),
        (Arm("drop_after", at=2, always=True), [2, 3, 4, 5]),
        (Arm("drop_after", match="ec2:AttachVolume", at=2), [4]),
        (Arm("drop_after", each_change=True), [2, 5]),
        (Arm(""), []),
    ],
)
def test_which_calls_go_wrong(arm: Arm, hit: list[int]) -> None:
    calls = ["ec2:DescribeVolumes", "ec2:AttachVolume", "ssm:GetParameter", "ec2:AttachVolume", "s3:PUT"]

    assert [n for n in range(1, 6) if arm.hits(calls[:n])] == hit


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("ec2:RunInstances", True),
        ("ec2:DescribeInstances", False),
        ("s3:PUT?tagging", True),
        ("s3:GET", False),
        ("s3:HEAD", False),
        ("ecr:BatchGetImage", True),
        ("sts:GetCallerIdentity", False),
        ("ssm:SendCommand", True),
        ("runpod:POST/graphql", False),
        ("runpod:POST/pods", True),
        ("lyceum:DELETE/vms/*", True),
    ],
)
def test_a_change_is_told_from_a_look(name: str, changes: bool) -> None:
    assert is_change(name) is changes


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/runpod/pods", "runpod:POST/pods"),
        ("GET", "/runpod/pods?limit=1000", "runpod:GET/pods"),
        ("POST", "/runpod/pods/7h9k2m4n6p/action", "runpod:POST/pods/*/action"),
        ("GET", "/lyceum/api/v2/external/vms/list", "lyceum:GET/vms/list"),
        ("DELETE", "/lyceum/api/v2/external/vms/9918b72c", "lyceum:DELETE/vms/*"),
    ],
)
def test_a_call_of_a_rest_api_is_named_by_its_path_without_ids(method: str, path: str, name: str) -> None:
    assert name_of(method, path, Message(), b"") == name


@pytest.mark.parametrize(("job", "call"), [(Cleanup, "ec2:TerminateInstances")])
def test_what_a_killed_command_leaves_is_listed_and_cleaned_up(
    account: Account, job: type[Scenario], call: str
) -> None:
    found = leak_point(job(account), "kill_after", call)

    assert found is not None
    assert found.problems == (), found


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill_before", "kill_after", "drop_after"])
@pytest.mark.parametrize("name", ["create", "terminate", "train", "ebs-move", *JOBS, *CLOUDS])
def test_nothing_is_leaked_wherever_a_command_is_cut_short(account: Account, name: str, fault: str) -> None:
    scenario = COMMANDS[name](account)
    chosen = points(calls_of(scenario))
    assert cleaned(account, scenario.where)[2] == []
    found = [leak_point(scenario, fault, call, occurrence) for call, occurrence in chosen]

    assert chosen
    assert [leak for leak in found if leak is not None and leak.problems] == []
