"""Names of images."""

from __future__ import annotations

import pytest

from runctl.containers.reference import check_reference, is_repository
from runctl.core.errors import UsageError

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    "text",
    [
        "python",
        "python:3.12-slim",
        "library/python:A_b.C-1",
        "ghcr.io/ada/digits:1",
        "localhost:5000/a__b/c-d",
        "[::1]:5000/a",
        "Host.Example/a",
        f"a/b@{DIGEST}",
        f"a/b:1@{DIGEST}",
        DIGEST,
        "0123abcdef",
    ],
)
def test_what_docker_takes_is_taken(text: str) -> None:
    assert check_reference(text, "--image") == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bad image",
        "--privileged",
        "-x/y",
        "a:",
        "a:b:c",
        "/a",
        "a/",
        "a//b",
        "a@sha256:1",
        "a\n",
        "ä",
        "a" * 256,
    ],
)
def test_what_docker_refuses_is_refused_before_anything_is_sent(text: str) -> None:
    with pytest.raises(UsageError, match="is not an image's name") as caught:
        check_reference(text, "--image")
    assert caught.value.code == "bad-image"


def test_a_name_in_capitals_is_told_why() -> None:
    with pytest.raises(UsageError) as caught:
        check_reference("Ada/Digits", "--image")
    assert "lower case" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "fits"),
    [("ghcr.io/ada", True), ("h:5000/a/b", True), ("ada", False), ("--help/x", False), ("h/A", False)],
)
def test_a_repository_has_a_host(text: str, fits: bool) -> None:
    assert is_repository(text) is fits
