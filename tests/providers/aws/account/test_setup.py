"""``aws setup`` makes what is missing, finishes what was cut short, and takes back what is its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest

from runctl.core import tags as tag
from runctl.core.errors import PermissionDenied, UsageError
from runctl.providers.abilities.account import SetupPlan, SetupRequest, SetupState
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.parse import tags_of
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.iam.policies import machine_policy, policy_for
from runctl.providers.aws.iam.rights import RIGHTS, Whose
from runctl.providers.aws.iam.roles import BUCKET_POLICY, DEFAULT_PROFILE, plan_profile, store_profile
from runctl.providers.instance_plans import InstanceRequest

REQUEST = SetupRequest()
BUCKET = "runctl-123456789012-us-east-1"
CALLS = 12
"""The role, its four policies, the profile, the role put into it; the bucket and its four settings."""


@contextmanager
def changes(session: AwsSession, cut_after: int | None = None) -> Iterator[list[str]]:
    """The calls that change something; the command is killed after so many."""
    made: list[str] = []

    def hear(model: Any, **_: Any) -> None:
        if model.name.startswith(("Describe", "Get", "Head", "List")):
            return
        made.append(model.name)
        if len(made) == cut_after:
            raise KeyboardInterrupt

    clients = (session.iam, session.s3)
    for client in clients:
        client.meta.events.register("after-call.*.*", hear, unique_id="hear")
    try:
        yield made
    finally:
        for client in clients:
            client.meta.events.unregister("after-call.*.*", unique_id="hear")


def states(plan: SetupPlan) -> dict[str, SetupState]:
    return {part.kind: part.state for part in plan.parts}


def test_a_plan_changes_nothing_and_what_is_made_is_not_made_again(
    provider: AwsProvider, session: AwsSession
) -> None:
    with changes(session) as made:
        plan = provider.account.plan(REQUEST)
    assert made == []
    assert set(states(plan).values()) == {SetupState.MISSING}

    done = provider.account.create(plan)

    assert states(done) == {"instance profile": SetupState.READY, "bucket": SetupState.READY}
    assert done.to_do == ()
    with changes(session) as made:
        provider.account.create(provider.account.plan(REQUEST))
    assert made == []


def test_machines_that_keep_runs_in_the_bucket_need_no_further_role(
    provider: AwsProvider, session: AwsSession
) -> None:
    def profile(*writes: str) -> str | None:
        return plan_profile(session, None, ssh_works=False, writes=writes).name

    provider.account.create(provider.account.plan(REQUEST))

    assert profile(f"s3://{BUCKET}/runs", f"s3://{BUCKET}/runs/mine") == DEFAULT_PROFILE
    for other in (f"s3://{BUCKET}/runs2", f"s3://{BUCKET}"):
        assert profile(f"s3://{BUCKET}/runs", other) == store_profile((f"s3://{BUCKET}/runs", other))
    session.iam.delete_role_policy(RoleName=DEFAULT_PROFILE, PolicyName=BUCKET_POLICY)
    assert profile(f"s3://{BUCKET}/runs") == store_profile((f"s3://{BUCKET}/runs",))


def test_the_machines_role_has_exactly_the_printed_policy(provider: AwsProvider, session: AwsSession) -> None:
    provider.account.create(provider.account.plan(REQUEST))

    found: list[Any] = []
    for name in session.iam.list_role_policies(RoleName=DEFAULT_PROFILE)["PolicyNames"]:
        answer: Any = session.iam.get_role_policy(RoleName=DEFAULT_PROFILE, PolicyName=name)
        document = answer["PolicyDocument"]
        found += (json.loads(document) if isinstance(document, str) else document)["Statement"]

    def without_sid(statements: list[Any]) -> list[str]:
        return sorted(
            json.dumps({key: value for key, value in item.items() if key != "Sid"}, sort_keys=True)
            for item in statements
        )

    assert without_sid(found) == without_sid(machine_policy("aws", "123456789012")["Statement"])


def test_the_bucket_is_private_encrypted_and_rid_of_what_nobody_needs(
    provider: AwsProvider, session: AwsSession
) -> None:
    provider.account.create(provider.account.plan(REQUEST))

    block = session.s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"]
    rules: Any = session.s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert set(block.values()) == {True}
    assert session.s3.get_bucket_encryption(Bucket=BUCKET)
    assert {rule["Filter"]["Prefix"]: rule.get("Expiration", {}).get("Days") for rule in rules} == {
        "staging/": 1,
        "logs/": 90,
        "": None,
    }


@pytest.mark.parametrize("calls", range(1, CALLS + 1))
def test_what_was_cut_short_after_any_call_is_finished_or_taken_back(
    provider: AwsProvider, session: AwsSession, calls: int
) -> None:
    with changes(session, calls) as made, pytest.raises(KeyboardInterrupt):
        provider.account.create(provider.account.plan(REQUEST))
    assert len(made) == calls
    tagged = [
        session.s3.get_bucket_tagging(Bucket=each["Name"]) for each in session.s3.list_buckets()["Buckets"]
    ]
    assert all(tag.is_ours(tags_of(each["TagSet"])) for each in tagged)  # type: ignore[arg-type]

    if calls % 2:
        done = provider.account.create(provider.account.plan(REQUEST))
        assert set(states(done).values()) == {SetupState.READY}
    left = provider.account.remove(provider.account.plan_removal())

    assert left.parts == ()
    assert session.iam.list_roles()["Roles"] == []
    assert session.iam.list_instance_profiles()["InstanceProfiles"] == []
    assert session.s3.list_buckets()["Buckets"] == []


def test_what_an_older_runctl_has_made_gets_what_it_lacks_and_stays_while_it_is_used(
    provider: AwsProvider,
) -> None:
    provider.renting.create(provider.renting.plan(InstanceRequest()))

    found = provider.account.plan(SetupRequest(bucket=False))
    assert states(found) == {"instance profile": SetupState.INCOMPLETE}
    assert "pull-images" in found.parts[0].detail
    assert provider.account.create(found).to_do == ()

    removal = provider.account.plan_removal()
    assert states(removal) == {"instance profile": SetupState.IN_USE}
    assert "runctl aws terminate" in removal.parts[0].detail
    assert states(provider.account.remove(removal)) == states(removal)


def test_what_is_somebody_elses_or_has_something_in_it_is_left_alone(
    provider: AwsProvider, session: AwsSession
) -> None:
    session.iam.create_role(RoleName=DEFAULT_PROFILE, AssumeRolePolicyDocument="{}")
    with pytest.raises(PermissionDenied, match="was not created by runctl"):
        provider.account.create(provider.account.plan(REQUEST))
    assert not session.s3.list_buckets()["Buckets"]

    provider.account.create(provider.account.plan(SetupRequest(profile=False)))
    session.s3.put_object(Bucket=BUCKET, Key="runs/run-1/spec.json", Body=b"{}")
    removal = provider.account.plan_removal()
    assert removal.to_do == ()
    provider.account.remove(removal)
    assert session.iam.get_role(RoleName=DEFAULT_PROFILE)
    assert session.s3.head_bucket(Bucket=BUCKET)


def test_an_alarm_needs_somebody_to_tell(provider: AwsProvider) -> None:
    with pytest.raises(UsageError, match="somebody to tell"):
        provider.account.plan(SetupRequest(alarm=Decimal(5)))


@pytest.mark.parametrize("whose", list(Whose))
def test_a_policy_names_each_statement_once_and_its_own_partition_only(whose: Whose) -> None:
    policy = policy_for(whose, partition="aws-us-gov", account="123456789012")

    names = [statement["Sid"] for statement in policy["Statement"]]
    assert len(names) == len(set(names))
    assert "arn:aws:" not in json.dumps(policy)
    assert "{account}" not in json.dumps(policy)


def test_what_changes_or_spends_is_limited_to_what_is_ours() -> None:
    open_ = [
        action
        for right in RIGHTS
        if right.resources == ("*",) and not right.condition
        for action in right.actions
        if not action.partition(":")[2].startswith(("Describe", "Get", "List"))
    ]

    # A fleet rents by RunInstances, which is limited; a template costs nothing; a command is named by its own id.
    assert open_ == ["ec2:CreateFleet", "ec2:CreateLaunchTemplate", "ssm:CancelCommand"]
