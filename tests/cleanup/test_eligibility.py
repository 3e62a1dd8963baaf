"""What may be removed, and why not: one table, and what must hold whatever the table says."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.cleanup.eligibility import SHARED, KeptBecause, eligibility
from runctl.cleanup.facts import Facts, Include, IntentFact, RunFact
from runctl.core.tags import (
    ATTEMPT,
    EXPIRES_AT,
    INTENT,
    MOVE,
    MOVED_TO,
    NODE,
    OWNED,
    PERSISTENT,
    RANK,
    RUN,
    UNUSED,
)
from runctl.providers.abilities.inventory import Resource, ResourceKind
from tests.cleanup.resources import ME, NOW, a_resource

K, B = ResourceKind, KeptBecause
RUN_ID = "run-0123456789"
OVER = "2026-05-01T11:59:59Z"
"""A moment ago."""
FACTS = Facts(users={"aws": ME})
EVERYTHING = replace(FACTS, include=frozenset(Include))


def a_run(**changes: Any) -> RunFact:
    values: dict[str, Any] = {
        "id": RUN_ID,
        "instance_id": "i-1",
        "volumes": frozenset({"vol-1"}),
        "store": f"s3://mine/{RUN_ID}",
        "goes_on": False,
        "unfinished": False,
        **changes,
    }
    return RunFact(**values)


def with_run(**changes: Any) -> Facts:
    return replace(EVERYTHING, runs=(a_run(**changes),))


def with_intent(*, busy: bool = False) -> Facts:
    return replace(FACTS, intents={"t": IntentFact("t", "instance", unfinished=True, busy=busy)})


def knowing(*resources: Resource, facts: Facts = EVERYTHING) -> Facts:
    return replace(facts, existing={each.id: each for each in resources})


MACHINE = a_resource(K.INSTANCE, "i-1", state="running", market="on-demand")
DISK = a_resource(K.VOLUME, "vol-1")
COPY = a_resource(K.SNAPSHOT, "snap-1", source="vol-1")
GROUP = a_resource(K.GROUP, "runctl-run", state="active", tags={RUN: RUN_ID})
OBJECTS = a_resource(K.OBJECTS, f"s3://mine/{RUN_ID}/", name=RUN_ID, state="")
ROLE = a_resource(K.ROLE, "runctl-instance", owner=None)
IMAGE = a_resource(K.IMAGE, "digits@sha256:1")
SECOND = a_resource(K.INSTANCE, "i-2", state="running", tags={RANK: "1", INTENT: "t", ATTEMPT: f"{RUN_ID}/1"})
NODE_COPY = a_resource(K.VOLUME, "vol-2", tags={NODE: "t/1/vol-1"})
NETWORK = a_resource(K.SECURITY_GROUP, "sg-2", tags={INTENT: "t"})
MADE_FOR_A_RUN = [
    a_resource(kind, "runctl-run", tags={RUN: RUN_ID})
    for kind in (K.ROLE, K.INSTANCE_PROFILE, K.LAUNCH_TEMPLATE, K.SECURITY_GROUP, K.PLACEMENT_GROUP)
]
"""None of its machines is there at the moment."""
UNFINISHED = with_run(unfinished=True)
RUNNING = with_run(unfinished=True, goes_on=True)


@pytest.mark.parametrize(
    ("resource", "facts", "because"),
    [
        (replace(DISK, tags={}), EVERYTHING, B.NOT_OURS),
        (replace(DISK, tags={OWNED: "True"}), EVERYTHING, B.NOT_OURS),
        (replace(DISK, owner="bob"), EVERYTHING, B.NOT_YOURS),
        (replace(DISK, owner="ADA"), EVERYTHING, B.NOT_YOURS),
        (replace(DISK, owner=""), EVERYTHING, B.NOT_YOURS),
        (replace(DISK, owner=None), EVERYTHING, B.NOT_YOURS),
        (replace(ROLE, owner="bob"), EVERYTHING, B.NOT_YOURS),
        # Who the caller is, nobody could say.
        (DISK, replace(EVERYTHING, users={}), B.NOT_YOURS),
        (a_resource(tags={PERSISTENT: "true"}), EVERYTHING, B.PERSISTENT),
        (MACHINE, replace(EVERYTHING, protected={"i-1": "it is protected"}), B.PROTECTED),
        (replace(MACHINE, attached_to=("i-9",)), EVERYTHING, B.IN_USE),
        (a_resource(K.INSTANCE, "i-1", tags={INTENT: "t"}), with_intent(busy=True), B.IN_USE),
        (a_resource(tags={MOVE: "m"}), FACTS, B.IN_USE),
        (
            a_resource(tags={MOVE: "m"}),
            knowing(a_resource(K.SNAPSHOT, "snap-9", age=timedelta(minutes=9), tags={MOVE: "m"})),
            B.IN_USE,
        ),
        (
            a_resource(tags={MOVE: "t"}),
            replace(with_intent(busy=True), include=frozenset(Include)),
            B.IN_USE,
        ),
        (replace(DISK, attached_to=("i-1",)), EVERYTHING, B.IN_USE),
        (replace(DISK, attached_to=("i-1",), ends_with="i-1"), knowing(MACHINE), B.GOES_ALONG),
        # Its machine could not be listed.
        (replace(DISK, attached_to=("i-1",), ends_with="i-1"), EVERYTHING, B.GOES_ALONG),
        (MACHINE, RUNNING, B.IN_USE),
        (DISK, UNFINISHED, B.HOLDS_CHECKPOINT),
        (OBJECTS, UNFINISHED, B.HOLDS_CHECKPOINT),
        (
            replace(OBJECTS, kind=K.UPLOAD, id=f"s3://mine/{RUN_ID}/x?uploadId=1"),
            UNFINISHED,
            B.HOLDS_CHECKPOINT,
        ),
        (replace(OBJECTS, id=f"s3://ours/{RUN_ID}/"), UNFINISHED, B.HOLDS_CHECKPOINT),
        # The volume itself is gone, so that the snapshot is what the run goes on from.
        (COPY, UNFINISHED, B.HOLDS_CHECKPOINT),
        (GROUP, UNFINISHED, B.IN_USE),
        (IMAGE, with_run(unfinished=True, image_digest="sha256:1"), B.IN_USE),
        *((made, UNFINISHED, B.IN_USE) for made in MADE_FOR_A_RUN),
        *((made, replace(EVERYTHING, state_error="no state"), B.UNKNOWN) for made in MADE_FOR_A_RUN),
        (MACHINE, replace(EVERYTHING, state_error="no state"), B.UNKNOWN),
        (DISK, replace(EVERYTHING, state_error="no state"), B.UNKNOWN),
        (replace(DISK, created_at=NOW - timedelta(minutes=59)), EVERYTHING, B.TOO_YOUNG),
        # A clock that is behind makes nothing old.
        (replace(DISK, created_at=NOW + timedelta(days=9)), EVERYTHING, B.TOO_YOUNG),
        (a_resource(K.SECURITY_GROUP, "sg-1", age=None), FACTS, B.TOO_YOUNG),
        # Of what nobody knows the age of, a command elsewhere may be making it now, whatever else is asked for.
        (a_resource(age=None), EVERYTHING, B.TOO_YOUNG),
        (a_resource(age=None, known_since=NOW - timedelta(minutes=59)), EVERYTHING, B.TOO_YOUNG),
        (MACHINE, FACTS, B.WANTED),
        (DISK, FACTS, B.WANTED),
        (COPY, FACTS, B.WANTED),
        (OBJECTS, FACTS, B.WANTED),
        (IMAGE, FACTS, B.WANTED),
        (ROLE, FACTS, B.WANTED),
        (GROUP, FACTS, B.WANTED),
        # A run's machine waits for its results to be fetched, however many options are given.
        (MACHINE, with_run(rented=True, fetched_until=NOW + timedelta(minutes=1)), B.WANTED),
        (a_resource(K.INSTANCE, "i-1", tags={EXPIRES_AT: "2026-05-01T12:00:01Z"}), FACTS, B.WANTED),
        (a_resource(K.INSTANCE, "i-1", tags={EXPIRES_AT: "never"}), FACTS, B.WANTED),
        # The time for which it is stopped does not count: it may have most of its own left.
        *(
            (a_resource(K.INSTANCE, "i-1", state=state, tags={EXPIRES_AT: OVER}), FACTS, B.WANTED)
            for state in ("stopped", "stopping")
        ),
        (
            a_resource(K.INSTANCE, "i-1", age=timedelta(minutes=2), state="stopped", tags={EXPIRES_AT: OVER}),
            FACTS,
            B.TOO_YOUNG,
        ),
        (a_resource(tags={UNUSED: "true"}), FACTS, B.WANTED),
        (a_resource(K.SNAPSHOT, "snap-1", tags={MOVE: "m"}), knowing(a_resource(tags={MOVE: "m"})), B.IN_USE),
        (
            a_resource(K.ROLE, "runctl-prewarm-vol-1", helper_for="vol-1"),
            knowing(replace(MACHINE, helper_for="vol-1")),
            B.IN_USE,
        ),
        (a_resource(K.ROLE, "runctl-run", tags={RUN: RUN_ID}), knowing(GROUP), B.IN_USE),
        # Of several machines of a run, each; and what was made for one that is there, or that is being rented.
        (SECOND, RUNNING, B.IN_USE),
        (NODE_COPY, knowing(SECOND), B.IN_USE),
        (NODE_COPY, with_intent(busy=True), B.IN_USE),
        (replace(NETWORK, attached_to=("i-2",)), EVERYTHING, B.IN_USE),
    ],
)
def test_what_stays(resource: Resource, facts: Facts, because: KeptBecause) -> None:
    verdict = eligibility(resource, facts, NOW)

    assert (verdict.kept, verdict.removable) == (because, False), verdict.why
    assert verdict.why


@pytest.mark.parametrize(
    ("resource", "facts", "why"),
    [
        (MACHINE, replace(FACTS, include=frozenset({Include.INSTANCES})), "no run"),
        (a_resource(K.INSTANCE, "i-1", tags={EXPIRES_AT: OVER}), FACTS, "end itself"),
        # Nobody has stopped it: it has shut itself down, and may be billed.
        (
            a_resource(K.INSTANCE, "i-1", state="stopped", tags={EXPIRES_AT: OVER}),
            replace(FACTS, cannot_stop={"aws": "no machine can be stopped"}),
            "end itself",
        ),
        # It costs as long as it is there, and nobody is making what is over its time.
        (
            a_resource(K.INSTANCE, "i-1", age=timedelta(minutes=2), tags={EXPIRES_AT: OVER}),
            FACTS,
            "end itself",
        ),
        (replace(MACHINE, helper_for="vol-1"), FACTS, "fill vol-1"),
        (a_resource(K.INSTANCE, "i-1", tags={INTENT: "t"}), with_intent(), "interrupted"),
        (MACHINE, replace(with_run(rented=True), include=frozenset()), f"rented for {RUN_ID}"),
        (MACHINE, with_run(rented=True, fetched_until=NOW), f"rented for {RUN_ID}"),
        # An attempt that was interrupted: the run goes on elsewhere, and its data stays.
        (MACHINE, with_run(rented=True, unfinished=True), f"rented for {RUN_ID}"),
        (a_resource(K.INSTANCE, "i-7", tags={ATTEMPT: f"{RUN_ID}/2"}), with_run(), f"rented for {RUN_ID}"),
        (replace(GROUP, state="empty"), FACTS, "nothing any more"),
        (GROUP, replace(with_run(), include=frozenset()), "has ended"),
        (a_resource(K.FLEET, "fleet-1", state="active"), FACTS, "goes on asking"),
        (a_resource(K.SPOT_REQUEST, "sir-1", state="open"), FACTS, "no instance"),
        (DISK, replace(FACTS, include=frozenset({Include.VOLUMES})), "may hold data"),
        (a_resource(age=None, known_since=NOW - timedelta(hours=1)), EVERYTHING, "may hold data"),
        (a_resource(tags={MOVED_TO: "vol-9"}), EVERYTHING, "in vol-9 as well"),
        (a_resource(tags={MOVE: "m"}), EVERYTHING, "interrupted"),
        (a_resource(tags={UNUSED: "true", INTENT: "t"}), with_intent(), "never used"),
        (replace(DISK, state="error"), FACTS, "could not be created"),
        (
            replace(DISK, attached_to=("i-1",)),
            replace(EVERYTHING, going=frozenset({"i-1"})),
            "attached to nothing",
        ),
        (COPY, EVERYTHING, "only copy"),
        (COPY, knowing(DISK), "it is a copy"),
        (a_resource(K.SNAPSHOT, "snap-1", tags={MOVE: "m"}), FACTS, "move"),
        (a_resource(K.LAUNCH_TEMPLATE, "lt-1"), FACTS, "no group uses it"),
        (a_resource(K.UPLOAD, "s3://b/k?uploadId=1"), FACTS, "not completed"),
        (a_resource(K.OBJECTS, "s3://b/staging/x", state="staged"), FACTS, "left behind"),
        (OBJECTS, EVERYTHING, RUN_ID),
        (IMAGE, EVERYTHING, "no unfinished run"),
        (ROLE, EVERYTHING, "makes it again"),
        (a_resource(K.SECURITY_GROUP, "sg-1", age=None), EVERYTHING, "makes it again"),
        (a_resource(K.ROLE, "runctl-prewarm-vol-1", helper_for="vol-1"), FACTS, "left behind"),
        (a_resource(K.ROLE, "runctl-run", tags={RUN: RUN_ID}), FACTS, "left behind"),
        (a_resource(K.INTENT, "t", owner=None, details="volume"), with_intent(), "volume"),
        (SECOND, with_run(unfinished=True), f"rented for {RUN_ID}"),
        (NODE_COPY, FACTS, "left behind"),
        (NODE_COPY, knowing(SECOND, facts=replace(FACTS, going=frozenset({"i-2"}))), "left behind"),
        (NETWORK, FACTS, "left behind"),
        (replace(NETWORK, kind=K.PLACEMENT_GROUP), FACTS, "left behind"),
    ],
)
def test_what_may_go(resource: Resource, facts: Facts, why: str) -> None:
    verdict = eligibility(resource, facts, NOW)

    assert verdict.removable, verdict
    assert why in verdict.why


def test_of_what_has_no_age_it_is_said_since_when_it_is_known() -> None:
    known = a_resource(age=None, known_since=NOW - timedelta(minutes=5))

    assert eligibility(known, EVERYTHING, NOW).why == (
        "its provider does not say how old it is; this computer has known it for 5m, less than 1h00m"
    )


tags = st.dictionaries(
    st.sampled_from([OWNED, PERSISTENT, MOVE, INTENT, ATTEMPT, RUN, UNUSED, EXPIRES_AT, "Name"]),
    st.sampled_from(["true", "false", "True", "", "t", RUN_ID, f"{RUN_ID}/1", "2020-01-01T00:00:00Z"]),
)
resources = st.builds(
    Resource,
    kind=st.sampled_from(ResourceKind),
    id=st.sampled_from(["i-1", "vol-1", f"s3://mine/{RUN_ID}/x", "x"]),
    name=st.sampled_from([None, RUN_ID, "data"]),
    provider=st.just("aws"),
    region=st.just("us-east-1"),
    zone=st.none(),
    state=st.sampled_from(["", "running", "stopped", "available", "error", "empty", "staged"]),
    created_at=st.sampled_from([None, NOW, NOW - timedelta(days=9)]),
    project=st.none(),
    owner=st.sampled_from([None, ME, "bob"]),
    size_bytes=st.none(),
    attached_to=st.sampled_from([(), ("i-1",), ("i-1", "i-2")]),
    ends_with=st.sampled_from([None, "i-1"]),
    tags=tags,
)
facts_of_all_kinds = st.builds(
    Facts,
    users=st.sampled_from([{"aws": ME}, {"aws": None}, {}]),
    runs=st.sampled_from(
        [(), (a_run(),), (a_run(unfinished=True),), (a_run(unfinished=True, goes_on=True),)]
    ),
    going=st.sampled_from([frozenset(), frozenset({"i-1"})]),
    include=st.frozensets(st.sampled_from(Include)),
    older_than=st.sampled_from([timedelta(0), timedelta(hours=1)]),
)


@given(resources, facts_of_all_kinds)
def test_nothing_of_somebody_elses_is_ever_removable(resource: Resource, facts: Facts) -> None:
    verdict = eligibility(resource, facts, NOW)

    ours = resource.tags.get(OWNED) == "true"
    mine = resource.owner == facts.users.get("aws") if resource.owner is not None else resource.kind in SHARED
    if not (ours and mine) or resource.tags.get(PERSISTENT) == "true":
        assert not verdict.removable
    if set(resource.attached_to) - facts.going:
        assert not verdict.removable
    if any(run.unfinished for run in facts.runs) and resource.kind is K.VOLUME and resource.id == "vol-1":
        assert not verdict.removable


@given(resources, facts_of_all_kinds)
def test_without_being_asked_for_nothing_more_goes(resource: Resource, facts: Facts) -> None:
    plain = eligibility(resource, replace(facts, include=frozenset()), NOW)

    if plain.removable:
        assert eligibility(resource, facts, NOW).removable


@pytest.mark.parametrize("machine", ["i-1", "i-2"])
def test_every_machine_of_a_run_waits_for_what_it_wrote_to_be_fetched(machine: str) -> None:
    until = NOW + timedelta(minutes=5)
    runs = tuple(a_run(instance_id=each, rented=True, fetched_until=until) for each in ("i-1", "i-2"))
    resource = replace(SECOND, id=machine)
    verdict = eligibility(resource, knowing(resource, facts=replace(EVERYTHING, runs=runs)), NOW)
    assert verdict.kept is B.WANTED
    assert RUN_ID in verdict.why
