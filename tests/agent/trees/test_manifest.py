"""What is read from a manifest's text is what all its entries would say."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from runctl.agent.trees.manifest import FEW, Entries, Manifest

SHAS = [*(f"{number:064x}" for number in range(4)), "f" * 64]
# Names that look like a piece of a manifest.
names = st.sampled_from(
    ["a", "b", "c", '],",', '"],"', "ü", ':["f"', "\\", SHAS[0], "f" * 64, "\udcff", "b,", '],"x']
)
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
entries = st.one_of(
    st.tuples(st.just("f"), st.integers(0, 1), st.integers(0, 9), st.sampled_from(SHAS)).map(list),
    st.tuples(st.just("l"), st.one_of(paths, st.sampled_from(SHAS))).map(list),
)
trees = st.dictionaries(paths, entries, max_size=30)
MANY: Entries = {
    f"{number % 100}/{number // 100}.py": ["f", 0, 1, f"{number:064x}"] for number in range(3000)
}


def from_text(tree: Entries) -> Manifest:
    return Manifest(text=Manifest(tree).text)


@given(trees)
def test_the_text_is_canonical_and_the_digest_its_hash(tree: Entries) -> None:
    manifest = from_text(tree)

    assert manifest.text == json.dumps(dict(sorted(tree.items())), separators=(",", ":"))
    assert manifest.entries == tree
    assert manifest.digest == Manifest(tree).digest


@given(trees, trees)
@example(MANY, MANY)
@example(MANY, {})
@example(MANY, {**MANY, "17/5.py": ["l", "x"], "new/x": ["l", "x"]})
def test_differences_and_what_is_made_of_them(before: Entries, after: Entries) -> None:
    differences = from_text(before).differences(from_text(after))

    assert differences == {
        path: (before.get(path), after.get(path))
        for path in {*before, *after}
        if before.get(path) != after.get(path)
    }
    changed = {path: new for path, (_, new) in differences.items() if new is not None}
    removed = [path for path, (_, new) in differences.items() if new is None]
    assert from_text(before).with_changes(changed, removed).text == Manifest(after).text


@given(trees, trees)
def test_a_few_changes_to_a_tree(before: Entries, more: Entries) -> None:
    after = {**before, **dict(list(more.items())[:3])}

    assert from_text(before).with_changes(more).text == Manifest({**before, **more}).text
    assert set(from_text(before).differences(from_text(after))) == {
        path for path in after if before.get(path) != after[path]
    }


@given(trees, paths, st.sampled_from(SHAS))
@example(MANY, "99/29.py", MANY["99/29.py"][3])
@example(MANY, "0", SHAS[0])
def test_one_entry_one_folder_and_one_content_are_found(tree: Entries, path: str, sha: str) -> None:
    manifest = from_text(tree)

    for each in [path, *list(tree)[:30]]:
        assert manifest.get(each) == tree.get(each)
        assert manifest.has_folder(each) == any(other.startswith(each + "/") for other in tree)
    with_sha = [each for each, entry in tree.items() if entry[0] == "f" and entry[3] == sha]
    assert sorted(each for each, _ in manifest.files_with({sha})) == sorted(with_sha)


def test_many_contents_are_found_too() -> None:
    wanted = {str(entry[3]) for entry in list(MANY.values())[: FEW + 1]}

    assert {entry[3] for _, entry in from_text(MANY).files_with(wanted)} == wanted
