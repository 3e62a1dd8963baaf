"""``shutdown`` in a pod: which key is tried how, and what is said where none will do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runctl.providers.runpod import end_pod

Asked = list[tuple[str, str, str]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Asked:
    """What is asked of RunPod, whose answers are those of `answers`."""
    found: Asked = []

    def ask(method: str, url: str, key: str, body: object = None) -> tuple[int, str]:
        found.append((method, url, key))
        return ANSWERS.get((method, key), (403, "access denied"))

    monkeypatch.setattr(end_pod, "ask", ask)
    monkeypatch.setattr(end_pod, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(end_pod, "KEY_FILE", str(tmp_path / "key"))
    known = {"RUNPOD_POD_ID": "abc", "RUNPOD_API_KEY": "pods", "RUNPOD_API_URL": ""}
    monkeypatch.setattr(end_pod, "variables", lambda: known)
    ANSWERS.clear()
    return found


ANSWERS: dict[tuple[str, str], tuple[int, str]] = {}
DELETE = ("DELETE", "https://api.runpod.io/v2/pods/abc", "pods")
OLDER = ("POST", "https://api.runpod.io/graphql", "pods")


@pytest.mark.parametrize("status", [204, 404])
def test_the_pods_own_key_deletes_it(asked: Asked, status: int) -> None:
    ANSWERS["DELETE", "pods"] = (status, "")
    assert end_pod.main(["-h", "now"]) == 0
    assert asked == [DELETE]


def test_the_older_api_is_asked_where_the_newer_refuses(asked: Asked) -> None:
    ANSWERS["POST", "pods"] = (200, '{"data": {"podTerminate": null}}')
    assert end_pod.main(["now"]) == 0
    assert asked == [DELETE, OLDER]


def test_then_the_key_that_the_user_has_put_there(asked: Asked) -> None:
    Path(end_pod.KEY_FILE).write_text("users\n")
    ANSWERS["DELETE", "users"] = (204, "")
    assert end_pod.main(["now"]) == 0
    assert asked == [DELETE, OLDER, (*DELETE[:2], "users")]


def test_where_none_will_do_it_says_so(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    ANSWERS["POST", "pods"] = (200, '{"errors": [{"message": "Unauthorized"}]}')
    assert end_pod.main(["now"]) == 1
    assert len(asked) == 2 * end_pod.TRIES
    said = capsys.readouterr().err
    assert "does not let this pod end itself: 403 access denied" in said
    assert "pods" not in said.replace("/pods", "")


@pytest.mark.parametrize("words", [["-h", "+5"], ["-c"]])
def test_it_plans_nothing(asked: Asked, words: list[str]) -> None:
    assert end_pod.main(words) == 1
    assert asked == []


def test_a_pod_that_was_told_nothing_cannot_end(monkeypatch: pytest.MonkeyPatch, asked: Asked) -> None:
    nothing: dict[str, Any] = {}
    monkeypatch.setattr(end_pod, "variables", lambda: nothing)
    assert end_pod.main(["now"]) == 1
