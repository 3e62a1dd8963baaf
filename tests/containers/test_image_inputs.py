"""What decides an image: its digest, and the Dockerfile read as instructions and stages."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.containers.dockerfile_text import parse_dockerfile
from runctl.containers.image_inputs import ImageInputs, repository_name, unpinned_bases

PINNED = "alpine@sha256:" + "0" * 64
DOCKERFILE = f"""\
# syntax=docker/dockerfile:1
ARG PYTHON=3.11
FROM python:${{PYTHON}} AS Base
RUN apt-get update && \\
    # a comment in the middle

    apt-get install -y git
FROM base AS deps
COPY requirements.txt /
RUN --mount=type=secret,id=token pip install -r /requirements.txt
FROM {PINNED} AS unused
FROM base
COPY --from=deps /usr/lib /usr/lib
COPY <<EOF /greeting
FROM the inside of a document
EOF
COPY . /workspace
"""

INPUTS = ImageInputs(
    "Dockerfile", DOCKERFILE, {"a.py": "f 0644 aa", "b": "d 0755"}, {"PYTHON": "3.12"}, None, "linux/amd64"
)


def test_a_dockerfile_is_read_as_instructions_with_their_lines() -> None:
    parsed = parse_dockerfile(DOCKERFILE)

    assert [(item.line, item.keyword) for item in parsed.instructions][:4] == [
        (2, "ARG"),
        (3, "FROM"),
        (4, "RUN"),
        (8, "FROM"),
    ]
    assert parsed.instructions[2].text == "RUN apt-get update && apt-get install -y git"
    assert [(stage.index, stage.name, stage.target) for stage in parsed.stages] == [
        (0, "base", "base"),
        (1, "deps", "deps"),
        (2, "unused", "unused"),
        (3, None, "3"),
    ]
    assert [instruction.keyword for instruction in parsed.stages[3].instructions] == [
        "FROM",
        "COPY",
        "COPY",
        "COPY",
    ]


def test_the_stages_that_a_target_needs_are_those_it_is_made_of() -> None:
    parsed = parse_dockerfile(DOCKERFILE)

    assert [item.target for item in parsed.needed(None)] == ["base", "deps", "3"]
    assert [entry.target for entry in parsed.needed("DEPS")] == ["base", "deps"]
    assert parsed.needed("nonesuch") == ()


def test_base_images_without_a_digest_are_named() -> None:
    parsed = parse_dockerfile(DOCKERFILE)

    assert unpinned_bases(parsed, None) == ("python:${PYTHON}",)
    assert unpinned_bases(parsed, "unused") == ()


@pytest.mark.parametrize(
    "change",
    [
        {"dockerfile_text": DOCKERFILE + "\n"},
        {"context": {"a.py": "f 0755 aa", "b": "d 0755"}},
        {"context": {"a.py": "f 0644 ab", "b": "d 0755"}},
        {"context": {"a.py": "f 0644 aa"}},
        {"args": {}},
        {"args": {"PYTHON": "3.13"}},
        {"target": "deps"},
        {"platform": "linux/arm64"},
    ],
)
def test_whatever_goes_into_the_image_changes_its_tag(change: dict[str, Any]) -> None:
    assert dataclasses.replace(INPUTS, **change).tag != INPUTS.tag


@given(st.dictionaries(st.text(min_size=1), st.text()), st.randoms())
def test_the_order_in_which_files_are_found_does_not_matter(context: dict[str, str], random: Any) -> None:
    shuffled = list(context.items())
    random.shuffle(shuffled)

    item = dataclasses.replace(INPUTS, context=context)
    other = dataclasses.replace(INPUTS, context=dict(shuffled))

    assert item.digest == other.digest


@given(st.text())
def test_a_repository_has_a_name_that_registries_take(project: str) -> None:
    assert re.fullmatch(r"runctl/[a-z0-9]+(-[a-z0-9]+)*", repository_name(project))


@given(st.text())
def test_no_text_is_too_odd_to_be_read(text: str) -> None:
    parse_dockerfile(text).needed(None)
