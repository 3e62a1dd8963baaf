"""What docker would send of a project; that it is so a real build shows (tests/containers/test_build.py)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.core.errors import ProjectError
from runctl.project.docker.build_context import context_of_manifest, read_context
from runctl.project.docker.dockerignore import Pattern, ignore_file, parse_ignore
from runctl.project.manifest import HashCache, build_manifest
from runctl.project.selection import select
from tests.project.files import write

RULES = [
    # pattern lines, left out, kept
    ("", [], ["a", ".git/x"]),
    ("*.pyc", ["a.pyc"], ["b/a.pyc", "apyc"]),
    ("**/*.pyc", ["a.pyc", "b/a.pyc", "b/c/a.pyc"], ["b/apyc"]),
    ("/data/", ["data", "data/x", "data/x/y"], ["my/data", "data2"]),
    ("data", ["data/x"], ["a/data/x"]),
    ("*/temp*", ["a/temp", "a/temporary/x"], ["temp", "a/b/temp"]),
    ("temp?", ["tempa", "tempb/x"], ["temp", "tempaa", "a/tempa"]),
    ("*\n!README.md", ["a", "b/c"], ["README.md"]),
    ("*.md\n!README*.md\nREADME-secret.md", ["a.md", "README-secret.md"], ["README.md", "README-x.md"]),
    ("*.md\nREADME-secret.md\n!README*.md", ["a.md"], ["README.md", "README-secret.md"]),
    ("data\n!data/keep", ["data/x"], ["data/keep", "data/keep/y"]),
    ("# data\n  spaced  \n", ["spaced"], ["data", "# data"]),
    ("a/**/z", ["a/z", "a/b/z", "a/b/c/z/q"], ["a/zz", "z"]),
    ("a/**", ["a/b", "a/b/c"], ["b"]),
    ("**", ["a", "a/b"], []),
    ("x[0-9].txt\ny[^a].txt", ["x1.txt", "yb.txt"], ["xx.txt", "ya.txt"]),
    ("a\\*b", ["a*b"], ["axb"]),
    ("./src/../lib", ["lib/x"], ["src/lib"]),
    ("a.b", ["a.b"], ["axb"]),
]


@pytest.mark.parametrize(("text", "out", "kept"), RULES)
def test_dockerignore_means_what_docker_means(text: str, out: list[str], kept: list[str]) -> None:
    rules = parse_ignore(text)

    assert [path for path in out if not rules.leaves_out(path)] == []
    assert [path for path in kept if rules.leaves_out(path)] == []


def backtracking(pattern: str) -> re.Pattern[str]:
    """As docker's own matcher translates a pattern (moby/patternmatcher), and matches by trying."""
    text = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    parts = re.findall(r"\*\*/?|.", pattern, re.DOTALL)
    out = [text.get(part.replace("**", "**/") if part == "**" else part, re.escape(part)) for part in parts]
    if parts and parts[-1] in {"**", "**/"}:
        out[-1] = ".*"
    return re.compile("".join(out), re.DOTALL)


PARTS = st.lists(st.sampled_from(["a", "b", "*", "**", "**/", "/", "?"]), min_size=1, max_size=7)
NAMES = st.lists(st.sampled_from(["a", "b", "ab", "bba"]), min_size=1, max_size=5)


@given(PARTS, NAMES, NAMES)
def test_a_pattern_matches_what_it_matches_by_trying(
    parts: list[str], names: list[str], others: list[str]
) -> None:
    text = re.sub(r"\*{3,}", "**", "".join(parts))
    expected, pattern = backtracking(text), Pattern(text)

    for path in (names, names[:-1] + others, others):
        above = ["/".join(path[:count]) for count in range(1, len(path) + 1)]
        assert pattern.matches("/".join(path)) is any(expected.fullmatch(item) for item in above)


@pytest.mark.parametrize("line", ["**/" * 15 + "x", "**/a/" * 15 + "x", "*a" * 30, "**a" * 20 + "x"])
def test_a_hostile_pattern_takes_no_longer_than_the_path_is(line: str) -> None:
    rules = parse_ignore(line)

    assert not rules.leaves_out("/".join("a" * 50) + "/" + "a" * 25 + "b")


@pytest.mark.parametrize("line", ["[a", "!", "a\\"])
def test_a_line_that_is_no_pattern_is_named(line: str) -> None:
    with pytest.raises(ProjectError, match=r"\.dockerignore:2: "):
        parse_ignore(f"ok\n{line}\n")


def test_the_dockerfiles_own_ignore_file_comes_before_the_roots(tmp_path: Path) -> None:
    write(tmp_path, {".dockerignore": "", "docker/Dockerfile": "", "Dockerfile": ""})
    assert ignore_file(tmp_path, "docker/Dockerfile") == ".dockerignore"

    write(tmp_path, {"docker/Dockerfile.dockerignore": ""})

    assert ignore_file(tmp_path, "docker/Dockerfile") == "docker/Dockerfile.dockerignore"
    assert ignore_file(tmp_path, "Dockerfile") == ".dockerignore"


def test_a_context_has_modes_links_and_empty_folders_and_what_is_brought_back(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "Dockerfile": "FROM scratch\n",
            ".dockerignore": "data\n!data/keep.txt\n",
            "data/big": "x",
            "data/keep.txt": "y",
            "run.sh": "",
        },
    )
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("run.sh")

    context = read_context(tmp_path, "Dockerfile")

    assert sorted(context.entries) == [
        *(".dockerignore", "Dockerfile", "data", "data/keep.txt", "empty", "link", "run.sh")
    ]
    assert context.entries["run.sh"].startswith("f 0755 ")
    assert context.entries["link"] == "l run.sh"
    assert context.entries["empty"].startswith("d ")
    assert (context.files, context.ignored_by) == (5, ".dockerignore")


def test_the_hashes_of_a_context_are_remembered_and_noticed_when_stale(tmp_path: Path) -> None:
    root = write(tmp_path / "project", {"Dockerfile": "FROM scratch\n", "a": "1"})
    cache = HashCache(tmp_path / "hashes.json")
    before = read_context(root, "Dockerfile", cache)

    (root / "a").write_text("2")
    after = read_context(root, "Dockerfile", cache)

    assert before.entries["a"] != after.entries["a"]
    assert before.entries["Dockerfile"] == after.entries["Dockerfile"]


def test_a_synced_tree_is_the_same_context_as_the_folder_it_came_from(tmp_path: Path) -> None:
    root = write(
        tmp_path / "project",
        {"Dockerfile": "FROM scratch\n", ".dockerignore": "*.log\n", "a/b.py": "1", "c.log": "x"},
    )
    for folder in (root, root / "a"):
        folder.chmod(0o755)
    for file in (root / "Dockerfile", root / ".dockerignore", root / "a/b.py"):
        file.chmod(0o644)

    here = read_context(root, "Dockerfile")
    there = context_of_manifest(root, "Dockerfile", build_manifest(select(root)))

    assert dict(here.entries) == dict(there.entries)
