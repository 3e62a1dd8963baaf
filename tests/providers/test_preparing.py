"""What ends a machine by itself, by what its tags say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from runctl.providers.abilities.limits import unused_tags
from runctl.providers.labels import label_of, tags_of
from runctl.providers.preparing import limits_of

NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)


def test_the_time_that_is_left_is_counted_from_the_tag() -> None:
    limits = limits_of({"runctl:expires-at": "2026-08-01T13:00:00Z", "runctl:idle-timeout": "1800"}, NOW)
    assert (limits.ttl_seconds, limits.idle_seconds) == (3600.0, 1800.0)
    assert (limits_of({}, NOW).ttl_seconds, limits_of({}, NOW).unused_seconds) == (None, None)
    # One that is over has a minute, in which its guard starts.
    assert limits_of({"runctl:expires-at": "2026-08-01T11:00:00Z"}, NOW).ttl_seconds == 60.0


def test_a_machine_of_a_run_is_told_how_long_it_may_wait_for_it() -> None:
    tags = tags_of(label_of({"runctl:intent": "0" * 32, **unused_tags(timedelta(hours=3))}))
    assert limits_of(tags, NOW).unused_seconds == 10800.0
    assert unused_tags(None) == {}
