"""Every machine is tagged alike, and a provider that has names only keeps all that the tags say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from runctl.core import tags as tag
from runctl.core.ids import VolumeId
from runctl.providers.abilities.limits import MachineLimits, unused_tags
from runctl.providers.instance_plans import InstanceRequest
from runctl.providers.labels import label_of, left_out, tags_of
from runctl.providers.rental_tags import LETTERS, NOT_IN_LABELS, rental_tags

TOKEN = "0123456789abcdef" * 2
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LIMITS = MachineLimits(timedelta(hours=2), Decimal(5), timedelta(hours=3), timedelta(minutes=30))
REQUEST = InstanceRequest(
    name="mine",
    attempt="run-7kq2m9xd4t/2",
    helper_for=VolumeId("vol-1"),
    unused_for=timedelta(minutes=5),
)


def everything() -> dict[str, str]:
    common = rental_tags(REQUEST, LIMITS, project="digits", owner="ann", token=TOKEN, now=NOW)
    return {**common, **unused_tags(REQUEST.unused_for)}


def test_a_machine_says_whose_it_is_what_it_is_for_and_when_it_ends() -> None:
    assert everything() == {
        tag.OWNED: tag.OWNED_VALUE,
        tag.OWNER: "ann",
        tag.INTENT: TOKEN,
        tag.PROJECT: "digits",
        tag.NAME: "mine",
        tag.ATTEMPT: "run-7kq2m9xd4t/2",
        tag.HELPER_FOR: "vol-1",
        tag.EXPIRES_AT: "2026-05-01T14:00:00Z",
        tag.IDLE_TIMEOUT: "1800",
        tag.BUDGET: "5",
        tag.UNUSED_FOR: "300",
    }


def test_what_was_not_asked_for_is_no_tag() -> None:
    found = rental_tags(InstanceRequest(), MachineLimits(), project=None, owner="ann", token=TOKEN, now=NOW)

    assert found == {tag.OWNED: tag.OWNED_VALUE, tag.OWNER: "ann", tag.INTENT: TOKEN}


def test_the_users_own_tags_do_not_replace_ours() -> None:
    request = InstanceRequest(tags={"team": "vision", tag.OWNER: "bob"})

    found = rental_tags(request, MachineLimits(), project=None, owner="ann", token=TOKEN, now=NOW)

    assert (found["team"], found[tag.OWNER]) == ("vision", "ann")


def test_no_tag_of_a_rented_machine_is_lost_in_a_label_without_a_reason() -> None:
    assert set(left_out(everything())) == set(NOT_IN_LABELS)
    assert tags_of(label_of(everything())) == {
        key: value for key, value in everything().items() if key not in NOT_IN_LABELS
    }


def test_no_tag_has_both_a_letter_and_a_reason() -> None:
    assert not set(LETTERS.values()) & set(NOT_IN_LABELS)
