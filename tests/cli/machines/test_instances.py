"""Looking at instances, and starting, stopping and ending them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from runctl.cli.machines.instances import monthly_cost
from runctl.core.errors import Conflict, MachineError, NotFound, PermissionDenied, Unreachable
from runctl.core.machine_models import InstanceState
from tests.cli.conftest import Invoke, data_of, error_of
from tests.cli.fake_provider import (
    INSTANCE_ID,
    OTHER_ID,
    FakeStopAndStart,
    Script,
    a_volume,
    an_instance,
)


def test_an_instance_has_the_promised_json_shape(invoke: Invoke, script: Script) -> None:
    script.answers["instance"] = an_instance()
    assert data_of(invoke("aws", "status", INSTANCE_ID, "--output", "json")) == {
        "id": INSTANCE_ID,
        "provider": "aws",
        "state": "running",
        "instance_type": "g4dn.xlarge",
        "market": "spot",
        "zone": "us-east-1a",
        "public_ip": "198.51.100.7",
        "private_ip": "10.0.0.7",
        "price_per_hour": "0.1578",
        "project": "digits",
        "owner": "ada",
        "created_at": "2026-05-01T12:00:00Z",
        "volumes": [{"volume_id": "vol-0123456789abcdef0", "device": "/dev/sdf", "mount_point": "/mnt/data"}],
        "tags": {"runctl:managed": "true"},
        "state_reason": None,
        "ended_itself": False,
        "interrupted": False,
        "ended_at": None,
    }


def test_a_list_is_an_array_even_when_it_is_empty(invoke: Invoke, script: Script) -> None:
    script.answers["instances"] = ()
    assert data_of(invoke("aws", "list", "--output", "json")) == []


def test_an_empty_list_is_nothing_on_stdout_and_a_hint_on_stderr(invoke: Invoke, script: Script) -> None:
    script.answers["instances"] = ()
    result = invoke("aws", "list")
    assert result.stdout == ""
    assert "runctl aws create" in result.stderr


def test_quiet_lists_ids_and_says_nothing_else(invoke: Invoke, script: Script) -> None:
    script.answers["instances"] = (an_instance(), an_instance(OTHER_ID))
    result = invoke("aws", "list", "-q")
    assert result.stdout == f"{INSTANCE_ID}\n{OTHER_ID}\n"
    assert result.stderr == ""


def test_the_table_shows_whole_ids_in_aligned_columns(invoke: Invoke, script: Script) -> None:
    script.answers["instances"] = (an_instance(), an_instance("local"))
    head, first, second = invoke("aws", "ls").stdout.splitlines()
    assert first.startswith(INSTANCE_ID)
    assert first.index("running") == second.index("running") == head.index("STATE")


def test_list_passes_its_flags_on(invoke: Invoke, script: Script) -> None:
    script.answers["instances"] = (an_instance(),)
    assert "OWNER" in invoke("aws", "list", "--all", "--everyone").stdout
    assert script.only("instances") == (True, True)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("vol-0123456789abcdef0", "is a volume"),
        ("run-abcdefghjk", "is a run"),
        ("train.py", "is a script"),
        ("", "an empty text was given"),
        ("i-XYZ", "look like i-"),
    ],
)
def test_what_cannot_be_an_instance_id_is_refused_before_anybody_is_asked(
    invoke: Invoke, script: Script, word: str, message: str
) -> None:
    error = error_of(invoke("aws", "status", word, "--output", "json"))
    assert message in error["message"]
    assert error["code"] == "bad-instance-id"
    assert script.calls == []


NAMED = (
    an_instance(tags={"Name": "digits"}),
    an_instance(OTHER_ID, tags={"Name": "digits*"}),
    an_instance("i-00000000000000001", tags={"Name": "twice"}),
    an_instance("i-00000000000000002", tags={"Name": "twice"}),
)


@pytest.mark.parametrize(("name", "found"), [("digits", INSTANCE_ID), ("digits*", OTHER_ID)])
def test_an_instance_is_found_by_its_name_as_it_is_written(
    invoke: Invoke, script: Script, name: str, found: str
) -> None:
    script.answers["instances"] = NAMED
    assert invoke("aws", "status", name, "-q").stdout == f"{found}\n"


@pytest.mark.parametrize("name", ["digit", "dig*", "DIGITS", "digits?", "*"])
def test_a_name_that_nothing_has_is_exit_code_5(invoke: Invoke, script: Script, name: str) -> None:
    script.answers["instances"] = NAMED
    result = invoke("aws", "terminate", name, "--yes")
    assert result.exit_code == 5
    assert f"there is no instance '{name}'" in result.stderr
    assert [call.name for call in script.calls] == ["instances"]


def test_a_name_of_several_instances_is_refused_with_their_ids(invoke: Invoke, script: Script) -> None:
    script.answers["instances"] = NAMED
    result = invoke("aws", "stop", INSTANCE_ID, "twice")
    assert result.exit_code == 2
    assert "i-00000000000000001, i-00000000000000002" in result.stderr
    assert [call.name for call in script.calls] == ["instances"]


def test_one_instance_named_twice_is_ended_once(invoke: Invoke, script: Script) -> None:
    script.answers.update(instances=NAMED, instance=NAMED[0], terminate=NAMED[0], volumes=())
    assert invoke("aws", "terminate", "digits", INSTANCE_ID, "digits", "--yes", "-q").exit_code == 0
    assert [call.name for call in script.calls].count("terminate") == 1
    assert [call.name for call in script.calls].count("instances") == 1


def test_an_unknown_instance_is_exit_code_5(invoke: Invoke, script: Script) -> None:
    script.answers["instance"] = NotFound(f"there is no instance {INSTANCE_ID}", hint="runctl aws list")
    result = invoke("aws", "status", INSTANCE_ID)
    assert result.exit_code == 5
    assert result.stderr == f"error: there is no instance {INSTANCE_ID}\nhint: runctl aws list\n"


def test_terminate_without_a_terminal_refuses_and_ends_nothing(invoke: Invoke, script: Script) -> None:
    root = a_volume("vol-1", name=None, size_gib=30, instances=(INSTANCE_ID,), ends_with_instance=True)
    brought = a_volume(instances=(INSTANCE_ID,), mount_point="/mnt/data")
    other = a_volume("vol-2", name="other", instances=(OTHER_ID,))
    script.answers.update(instance=an_instance, volumes=(root, brought, other))
    result = invoke("aws", "terminate", INSTANCE_ID)
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert (
        "deleted with it: vol-1 (30 GiB); datasets (100 GiB at /mnt/data) stays, for $8.00 a month"
        in result.stderr
    )
    assert "other" not in result.stderr
    assert "terminate" not in script.names()


@pytest.mark.parametrize(
    ("prices", "words"),
    [
        (("8.00",), "for $8.00 a month"),
        ((None,), "and is billed at a price that the provider does not tell"),
        ((None, None), "and are billed at a price that the provider does not tell"),
        (("8.00", None), "for $8.00 a month and at a price that the provider does not tell of the others"),
    ],
)
def test_a_price_that_nobody_tells_is_not_nothing(prices: tuple[str | None, ...], words: str) -> None:
    volumes = [a_volume(price_per_month=Decimal(price) if price else None) for price in prices]
    assert monthly_cost(volumes) == words


def test_terminate_takes_several_and_an_alias(invoke: Invoke, script: Script) -> None:
    script.answers.update(instance=an_instance, volumes=PermissionDenied("not allowed to DescribeVolumes"))
    script.answers["terminate"] = lambda i: replace(an_instance(i), state=InstanceState.SHUTTING_DOWN)
    ended = data_of(invoke("aws", "rm", INSTANCE_ID, OTHER_ID, INSTANCE_ID, "--yes", "--output", "json"))
    assert [(i["id"], i["state"]) for i in ended] == [
        (INSTANCE_ID, "shutting-down"),
        (OTHER_ID, "shutting-down"),
    ]


def test_one_that_cannot_be_ended_does_not_spare_the_others(invoke: Invoke, script: Script) -> None:
    def terminate(identifier: str) -> object:
        if identifier == INSTANCE_ID:
            raise PermissionDenied(f"{identifier} was not created by runctl", code="not-ours")
        return an_instance(identifier)

    script.answers.update(instance=an_instance, terminate=terminate, volumes=())
    result = invoke("aws", "terminate", INSTANCE_ID, OTHER_ID, "--yes", "--quiet")
    assert result.exit_code == 4
    assert result.stdout == f"{OTHER_ID}\n"
    assert "not created by runctl" in result.stderr


def test_an_unknown_one_among_several_ends_none(invoke: Invoke, script: Script) -> None:
    def instance(identifier: str) -> object:
        if identifier == OTHER_ID:
            raise NotFound("no such instance")
        return an_instance(identifier)

    script.answers["instance"] = instance
    assert invoke("aws", "terminate", INSTANCE_ID, OTHER_ID, "--yes").exit_code == 5
    assert "terminate" not in script.names()


def test_terminate_dry_run_ends_nothing(invoke: Invoke, script: Script) -> None:
    script.answers.update(instance=an_instance, volumes=[])
    assert invoke("aws", "terminate", INSTANCE_ID, "--dry-run", "-q").stdout == f"{INSTANCE_ID}\n"
    assert script.names() == ["instance", "volumes"]


def test_what_has_ended_already_is_not_asked_about(invoke: Invoke, script: Script) -> None:
    gone = an_instance(state=InstanceState.TERMINATED)
    script.answers.update(instance=gone, terminate=gone)
    assert invoke("aws", "terminate", INSTANCE_ID).exit_code == 0


def test_start_waits_until_it_can_be_used(invoke: Invoke, script: Script) -> None:
    script.answers.update(start=an_instance(state=InstanceState.PENDING), wait_ready=an_instance())
    assert data_of(invoke("aws", "start", INSTANCE_ID, "--output", "json"))["state"] == "running"


def test_start_without_waiting_returns_at_once(invoke: Invoke, script: Script) -> None:
    script.answers["start"] = an_instance(state=InstanceState.PENDING)
    assert data_of(invoke("aws", "start", INSTANCE_ID, "--no-wait", "--output", "json"))["state"] == "pending"


def test_stop_takes_several(invoke: Invoke, script: Script) -> None:
    script.answers.update(instance=an_instance, stop=lambda i: an_instance(i, state=InstanceState.STOPPING))
    assert invoke("aws", "stop", INSTANCE_ID, OTHER_ID, "-q").stdout == f"{INSTANCE_ID}\n{OTHER_ID}\n"


def test_stop_asks_where_the_machines_own_disk_is_lost(
    invoke: Invoke, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeStopAndStart, "keeps_disks", False)
    script.answers.update(instance=an_instance, stop=lambda i: an_instance(i, state=InstanceState.STOPPING))

    asked = invoke("aws", "stop", INSTANCE_ID)

    assert (asked.exit_code, script.names()) == (2, ["instance"])
    assert f"what is on the own disk of {INSTANCE_ID} is lost" in asked.stderr
    assert invoke("aws", "stop", INSTANCE_ID, "--yes", "-q").stdout == f"{INSTANCE_ID}\n"


@pytest.mark.parametrize(
    "error", [Unreachable("no ssh after 15m"), MachineError("user-data failed", hint="see its log")]
)
def test_a_wait_that_fails_says_that_the_machine_is_there_and_costs_money(
    invoke: Invoke, script: Script, error: Exception
) -> None:
    script.answers.update(instance=an_instance(), wait_ready=error)
    result = invoke("aws", "wait", INSTANCE_ID)
    assert result.exit_code == error.exit_code  # type: ignore[attr-defined]
    assert f"{INSTANCE_ID} exists and is billed; go on: runctl aws wait {INSTANCE_ID}" in result.stderr


def test_a_wait_for_a_machine_that_ended_does_not_say_that_it_is_billed(
    invoke: Invoke, script: Script
) -> None:
    ended = Conflict("it ended: Server.SpotInstanceTermination", code="instance-ended")
    script.answers.update(instance=an_instance(), wait_ready=ended)
    assert "billed" not in invoke("aws", "wait", INSTANCE_ID).stderr


def test_ctrl_c_while_waiting_says_how_to_go_on_and_how_to_undo(invoke: Invoke, script: Script) -> None:
    script.answers.update(instance=an_instance(), wait_ready=KeyboardInterrupt())
    result = invoke("aws", "wait", INSTANCE_ID, "--timeout", "5m")
    assert result.exit_code == 130
    assert f"{INSTANCE_ID} exists and is billed" in result.stderr
    assert f"go on: runctl aws wait {INSTANCE_ID}; undo: runctl aws terminate {INSTANCE_ID}" in result.stderr
    assert script.only("wait_ready")[1].total_seconds() == 300


def test_this_computer_needs_no_id(invoke: Invoke, script: Script) -> None:
    script.answers["instance"] = an_instance("local", provider="local")
    assert invoke("local", "status", "-q").stdout == "local\n"
