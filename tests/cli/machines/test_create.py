"""``aws create``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runctl.core.errors import CapacityError, QuotaExceeded
from runctl.core.machine_models import InstanceState, Market
from runctl.providers.instance_plans import InstanceRequest, VolumeMount
from tests.cli.conftest import Invoke, data_of, error_of
from tests.cli.fake_provider import INSTANCE_ID, OTHER_ID, Script, a_plan, an_instance


@pytest.fixture
def aws(script: Script) -> Script:
    """Everything goes well."""
    script.answers.update(
        instances=(),
        plan_create=a_plan,
        create=an_instance(state=InstanceState.PENDING),
        wait_ready=an_instance(),
    )
    return script


def requested(script: Script) -> InstanceRequest:
    (request,) = script.only("plan_create")
    assert isinstance(request, InstanceRequest)
    return request


def test_quiet_prints_the_id_and_nothing_else(invoke: Invoke, aws: Script) -> None:
    result = invoke("aws", "create", "--quiet")
    assert (result.stdout, result.stderr, result.exit_code) == (f"{INSTANCE_ID}\n", "", 0)


def test_the_plan_with_its_price_is_shown_before_anything_is_created(invoke: Invoke, aws: Script) -> None:
    result = invoke("aws", "create", "--spot", "--ttl", "12h")
    plan, _, rest = result.stderr.partition(f"waiting for {INSTANCE_ID}")
    assert rest
    for phrase in (
        "g4dn.xlarge, spot",
        "$0.1578 an hour",
        "$0.5260",
        "the volume is there",
        "the role runctl-instance",
    ):
        assert phrase in plan
    assert aws.names() == ["plan_create", "create", "wait_ready"]


def test_every_option_reaches_the_request(invoke: Invoke, aws: Script) -> None:
    argv = (
        "aws create p3.2xlarge --spot --ebs-volume a --mount-point /mnt/a --ebs-volume vol-1 --mount-point /mnt/b/"
        " --data-volume-size 50 --data-mount-point /scratch --root-volume-size 40 --ami-id ami-1 --key-name k"
        " --security-group sg-1 --security-group sg-2 --instance-profile ip --subnet s --zone z --project p --name n"
        " --ttl 1h30m --tag a=1 --tag b=x=y"
    )
    assert invoke(*argv.split()).exit_code == 0
    request = requested(aws)
    assert request.ttl is not None
    assert request.ttl.total_seconds() == 5400
    assert replace(request, token=None) == InstanceRequest(
        instance_type="p3.2xlarge",
        market=Market.SPOT,
        volumes=(VolumeMount("a", "/mnt/a"), VolumeMount("vol-1", "/mnt/b")),
        data_volume_size_gib=50,
        data_mount_point="/scratch",
        root_volume_size_gib=40,
        image="ami-1",
        key_name="k",
        security_groups=("sg-1", "sg-2"),
        instance_profile="ip",
        subnet="s",
        zone="z",
        project="p",
        name="n",
        ttl=request.ttl,
        tags={"a": "1", "b": "x=y"},
    )


@pytest.mark.parametrize(
    ("configured", "flags", "market"),
    [
        (False, (), Market.ON_DEMAND),
        (True, (), Market.SPOT),
        (True, ("--on-demand",), Market.ON_DEMAND),
        (False, ("--spot",), Market.SPOT),
    ],
)
def test_the_market_is_the_flags_else_the_configurations(
    invoke: Invoke, aws: Script, configured: bool, flags: tuple[str, ...], market: Market
) -> None:
    Path(".runctl.toml").write_text(f"[aws]\nspot = {str(configured).lower()}\n")
    invoke("aws", "create", *flags)
    assert requested(aws).market is market


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--mount-point /mnt/a", "--mount-point /mnt/a has no --ebs-volume"),
        ("--ebs-volume a --mount-point /mnt/a --ebs-volume b", "--ebs-volume b has no --mount-point"),
        (
            "--ebs-volume a --mount-point /m/a --ebs-volume a --mount-point /m/b",
            "--ebs-volume a is given twice",
        ),
        (
            "--ebs-volume a --mount-point /m/a --ebs-volume b --mount-point /m/a/",
            "--mount-point /m/a is given twice",
        ),
        ("--ebs-volume a --mount-point /m/a --ebs-volume b --mount-point /m/a/b", "lies inside /m/a"),
        ("--ebs-volume a --mount-point mnt", "not an absolute path"),
        ("--ebs-volume a --mount-point /", "belongs to the system"),
        ("--ebs-volume a --mount-point /etc", "belongs to the system"),
        ("--ebs-volume a --mount-point /mnt/../etc", "holds '..'"),
        ("--ebs-volume a --mount-point /mnt/data --data-volume-size 5", "is both a volume's mount point"),
        ("m5.large --instance-type i-0123456789abcdef0", "is an instance"),
        ("--gpu :1", "names no model"),
        ("--gpu A10G:", "is not a GPU"),
        ("--max-price free", "'free' is not a price; write 0.50 for half a dollar an hour"),
        ("--spot --spot-fallback none:after=1h", "is not one of none, ask, on-demand"),
        ("--spot-fallback on-demand", "--spot-fallback is for spot machines"),
        ("i-0123456789abcdef0", "is an instance"),
        ("vol-0123456789abcdef0", "is a volume"),
        ("--ttl soon", "'soon' is not a duration"),
        ("--ttl 0", "is not a duration"),
        ("--root-volume-size 0", "0 is too small: 1 GiB is the least"),
        ("--tag a", "expected KEY=VALUE"),
        ("--tag runctl:managed=false", "not yours to set"),
        ("--tag a=1 --tag a=2", "given twice"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anybody_is_asked(
    invoke: Invoke, aws: Script, argv: str, message: str
) -> None:
    error = error_of(invoke("aws", "create", *argv.split(), "--output", "json"))
    assert message in error["message"]
    assert aws.calls == []


@pytest.mark.parametrize(
    ("configured", "flags", "project"),
    [
        ("", (), "project"),
        ('[project]\nname = "c"\n', (), "c"),
        ('[project]\nname = "c"\n', ("--project", "f"), "f"),
    ],
)
def test_it_is_tagged_with_the_flags_project_else_the_configurations_else_the_folders(
    invoke: Invoke, aws: Script, configured: str, flags: tuple[str, ...], project: str
) -> None:
    Path(".runctl.toml").write_text(configured)
    invoke("aws", "create", *flags)
    assert requested(aws).project == project


@pytest.mark.parametrize("flags", [(), ("--name", "y")])
def test_a_tag_that_would_name_it_is_refused(invoke: Invoke, aws: Script, flags: tuple[str, ...]) -> None:
    error = error_of(invoke("aws", "create", *flags, "--tag", "Name=my box", "--output", "json"))

    assert (error["message"], error["hint"]) == (
        "--tag Name=my box would have no effect",
        "--name 'my box'",
    )
    assert "create" not in aws.names()


def test_outside_of_any_project_it_is_tagged_with_none(
    invoke: Invoke, aws: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "plain").mkdir()
    monkeypatch.chdir(tmp_path / "plain")
    invoke("aws", "create")
    assert requested(aws).project is None


def test_several_types_in_one_text_are_refused(invoke: Invoke, aws: Script) -> None:
    result = invoke("aws", "create", "--instance-type", "g5.xlarge,g4dn.xlarge")

    assert (result.exit_code, aws.calls) == (2, [])
    assert "'g5.xlarge,g4dn.xlarge' is not one instance type" in result.stderr


def test_the_same_type_twice_is_fine(invoke: Invoke, aws: Script) -> None:
    invoke("aws", "create", "m5.large", "--instance-type", "m5.large")
    assert requested(aws).instance_type == "m5.large"


def test_a_dry_run_creates_nothing_and_its_plan_is_the_data(invoke: Invoke, aws: Script) -> None:
    plan = data_of(invoke("aws", "create", "--spot", "--dry-run", "--output", "json"))
    assert (plan["market"], plan["price"]["usd"], plan["ttl"]) == ("spot", "0.1578", None)
    assert "client_token" not in plan
    assert aws.names() == ["plan_create"]


def test_confirm_without_a_terminal_creates_nothing(invoke: Invoke, aws: Script) -> None:
    assert invoke("aws", "create", "--confirm").exit_code == 2
    assert aws.names() == ["plan_create"]


def test_no_wait_returns_as_soon_as_it_exists(invoke: Invoke, aws: Script) -> None:
    assert data_of(invoke("aws", "create", "--no-wait", "--output", "json"))["state"] == "pending"
    assert aws.names() == ["plan_create", "create"]


def test_warnings_of_the_plan_are_shown_under_quiet_too(invoke: Invoke, aws: Script) -> None:
    aws.answers["plan_create"] = lambda request: a_plan(request, warnings=("prices are from a snapshot",))
    result = invoke("aws", "create", "-q")
    assert result.stderr == "warning: prices are from a snapshot\n"
    assert result.stdout == f"{INSTANCE_ID}\n"


@pytest.mark.parametrize("error", [CapacityError("no g4dn.xlarge"), QuotaExceeded("0 vCPUs allowed")])
def test_no_capacity_and_no_quota_are_exit_code_6(invoke: Invoke, aws: Script, error: Exception) -> None:
    aws.answers["create"] = error
    result = invoke("aws", "create", "--spot", "-q")
    assert (result.exit_code, result.stdout) == (6, "")


def test_ctrl_c_while_waiting_names_the_instance(invoke: Invoke, aws: Script) -> None:
    aws.answers["wait_ready"] = KeyboardInterrupt()
    result = invoke("aws", "create", "--quiet")
    assert result.exit_code == 130
    assert result.stdout == ""
    assert f"undo: runctl aws terminate {INSTANCE_ID}" in result.stderr


def test_a_plan_has_no_volume_twice_in_json(invoke: Invoke, aws: Script) -> None:
    plan: dict[str, Any] = data_of(
        invoke(
            "aws", "create", "--ebs-volume", "v", "--mount-point", "/mnt/v", "--dry-run", "--output", "json"
        )
    )
    assert plan["volumes"] == [{"volume": "v", "mount_point": "/mnt/v", "read_only": False}]


def test_a_name_that_another_instance_has_is_warned_of(invoke: Invoke, aws: Script) -> None:
    aws.answers["instances"] = (an_instance(tags={"Name": "digits"}), an_instance(OTHER_ID))
    assert f"{INSTANCE_ID} is called digits too" in invoke("aws", "create", "--name", "digits").stderr
    assert "is called" not in invoke("aws", "create", "--name", "digit").stderr


def test_the_instance_that_the_command_goes_on_with_is_not_warned_of(invoke: Invoke, aws: Script) -> None:
    aws.answers["wait_ready"] = KeyboardInterrupt()
    invoke("aws", "create", "--name", "digits")
    aws.answers["instance"] = an_instance(tags={"Name": "digits"})
    aws.answers["instances"] = (
        an_instance(tags={"Name": "digits"}),
        an_instance(OTHER_ID, tags={"Name": "digits"}),
    )
    said = invoke("aws", "create", "--name", "digits").stderr
    assert f"warning: {OTHER_ID} is called digits too" in said
