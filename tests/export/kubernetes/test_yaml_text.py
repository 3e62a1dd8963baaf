"""YAML that every reader reads alike."""

from __future__ import annotations

import re

import yaml
from hypothesis import given
from hypothesis import strategies as st

from runctl.export.kubernetes.yaml_text import Document, render

NOT_TEXT = re.compile(r"[-+]?[0-9._]|[.~]|(y|n|yes|no|on|off|true|false|null|nan|inf)\Z", re.IGNORECASE)
"""What a reader of YAML 1.1 or 1.2 may take for a number, a date, a truth or nothing, where it is not quoted."""


@given(st.lists(st.text()))
def test_text_comes_back(texts: list[str]) -> None:
    assert yaml.safe_load(render(("About this",), [Document({"a": texts})])) == {"a": texts}


@given(
    st.one_of(
        st.from_regex(r"[-+]?[0-9][0-9eExXoO_.:+-]*", fullmatch=True),
        st.sampled_from(("y", "No", "~", ".inf")),
    )
)
def test_text_that_looks_like_something_else_is_quoted(text: str) -> None:
    line = render((), [Document({"a": text})]).splitlines()[-1].removeprefix("a: ")

    assert line.startswith(('"', "'")) or not NOT_TEXT.match(line)


def test_comments_are_wrapped_and_commands_are_not() -> None:
    text = render(("word " * 40, "- one", "$ " + "kubectl " * 30, "a\nb"), [])

    assert all(line.startswith("#") for line in text.splitlines())
    assert max(map(len, text.splitlines()[:2])) <= 102
    assert f"#   {'kubectl ' * 30}".rstrip() in text
