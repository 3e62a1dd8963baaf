"""Which links a copy makes: none leads out of the folder, whatever other links are made with it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runctl.agent.errors import AgentError
from runctl.agent.files.protocol import finish, stays_inside

PART = st.sampled_from(["a", "b", "c", "..", "..", "."])
TARGETS = st.lists(PART, min_size=1, max_size=6).map("/".join)
PLACES = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map("/".join)


@pytest.mark.parametrize("target", ["x", "../x", "../../x", "../b/x", "./x", ".", "x/", ""])
def test_a_link_to_what_is_inside_may_be_made(target: str) -> None:
    assert stays_inside("a/b/link", target)


@pytest.mark.parametrize(
    "target", ["/", "/etc", "//etc", "../../..", "../../../x", "a/../x", "../a/../x", "a/.."]
)
def test_a_link_that_leads_out_or_may_lead_out_by_another_one_is_refused(target: str) -> None:
    assert not stays_inside("a/b/link", target)


@settings(max_examples=150)
@given(st.dictionaries(PLACES, TARGETS, max_size=5))
def test_no_set_of_links_leads_out(links: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "deep" / "root"
        root.mkdir(parents=True)
        made = []
        for place, target in links.items():
            link = root / place
            through_a_link = any(above.is_symlink() for above in link.parents)
            if stays_inside(place, target) and not (through_a_link or os.path.lexists(link)):
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(target)
                made.append(link)
        for link in made:
            try:
                leads_to = link.resolve()
            except (OSError, RuntimeError):
                continue  # In a circle: nobody gets anywhere by it.
            assert leads_to.is_relative_to(root)


def test_two_links_that_lead_out_together_are_not_made(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "er" / "results"
    links = [["a/b/c/up", "../../.."], ["x", "a/b/c/up/../../.."]]

    with pytest.raises(AgentError, match="the link x leads out"):
        finish({"path": str(root), "folders": [["a", 493], ["a/b", 493], ["a/b/c", 493]], "links": links})

    assert (root / "a/b/c/up").resolve() == root
    assert not (root / "x").is_symlink()
