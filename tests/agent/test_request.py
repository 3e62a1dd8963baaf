"""No request makes the agent fail: what is of another kind than it has to be is refused, by its field's name."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.errors import AgentError
from runctl.agent.request import _FIELDS, checked
from runctl.agent.trees.requests import answer_requests

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size_bytes", {}),
        ("size_bytes", -1),
        ("size_bytes", 10**400),
        ("offset", True),
        ("wait_seconds", float("inf")),
        ("wait_seconds", float("nan")),
        ("wait_seconds", 10**400),
        ("grace_seconds", "30"),
        ("secrets", "x"),
        ("secrets", {"a": "not base64!"}),
        ("secrets", {"a": ["eA=="]}),
        ("logins", [{"host": "h"}]),
        ("pack_bytes", "x"),
        ("run_id", ["run-a"]),
        ("force", "yes"),
    ],
)
def test_a_field_of_another_kind_is_named(field: str, value: object) -> None:
    with pytest.raises(AgentError, match=field) as caught:
        checked({field: value})

    assert caught.value.code == "bad-request"


def test_what_every_verb_sends_today_passes() -> None:
    request = {
        "run_id": "run-a",
        "attempt": None,
        "offset": 0,
        "wait_seconds": 10,
        "grace_seconds": 0.5,
        "secrets": {"key": "eA=="},
        "logins": [{"host": "h", "username": "u", "password": "p"}],
        "size_bytes": 1 << 44,
    }

    assert checked(request) is request


@given(st.dictionaries(st.sampled_from(sorted(_FIELDS)) | st.text(max_size=8), JSON, max_size=4) | JSON)
def test_every_request_is_taken_or_refused(request: object) -> None:
    try:
        checked(request)
    except AgentError as error:
        assert error.code == "bad-request"


@given(
    st.dictionaries(st.sampled_from(["do", "project", "digest", "pack_bytes", "manifest"]), JSON, max_size=4)
)
def test_a_sync_answers_every_line(request: dict[str, object]) -> None:
    sink = io.BytesIO()

    answer_requests(json.dumps(request).encode() + b"\n", io.BytesIO(), sink, "/nonexistent")

    for line in sink.getvalue().splitlines():
        assert json.loads(line).get("error", {}).get("code") != "agent-failed"
