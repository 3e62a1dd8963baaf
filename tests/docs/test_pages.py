"""Reading pages: what is a command, what is its output, and when the two agree."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import BadPage, Step, blocks, matches, needs, script, steps


def page(*lines: str) -> str:
    return "\n".join(lines) + "\n"


def test_commands_and_what_they_print_are_told_apart() -> None:
    text = page("# Title", "", "```console", "$ echo one", "one", "", "$ true", "```")
    assert steps(text) == [Step(4, "echo one", ("one",)), Step(7, "true")]


def test_a_command_goes_on_after_a_backslash_and_after_a_prompt() -> None:
    text = page("```console", "$ echo \\", "    one", "one", "$ cat <<END", "> two", "> END", "two", "```")
    assert [step.command for step in steps(text)] == ["echo \\\n    one", "cat <<END\ntwo\nEND"]


def test_a_command_may_be_meant_to_fail() -> None:
    assert steps(page("```console", "$ false  # exits 1", "```")) == [Step(2, "false", (), 1)]


def test_blocks_of_other_languages_are_not_run() -> None:
    assert steps(page("```sh", "$ rm -rf /", "```", "```json", "{}", "```")) == []


def test_a_block_can_be_a_file(tmp_path: Path) -> None:
    (step,) = steps(page("```toml file=a.toml", 'name = "$HOME"', "```"))
    subprocess.run(["bash", "-c", step.command], cwd=tmp_path, check=True)
    assert (tmp_path / "a.toml").read_text() == 'name = "$HOME"\n'


def test_output_without_a_command_is_refused() -> None:
    with pytest.raises(BadPage, match="line 2"):
        steps(page("```console", "one", "```"))


def test_a_page_says_what_it_needs() -> None:
    assert needs(page("<!-- needs: namespaces docker -->", "# Title")) == ("namespaces", "docker")
    assert needs(page("# Title")) == ()


def test_blocks_know_their_line_and_options() -> None:
    (block,) = blocks(page("", "```json shape=Run", "{}", "```"))
    assert (block.line, block.language, block.options) == (2, "json", {"shape": "Run"})


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ((), "anything\n"),
        (("one",), "one\n"),
        (("one",), "one"),
        (("one",), "one  \n"),
        (("i-… running",), "i-0abc running\n"),
        (("…",), ""),
        (("…", "last"), "a\nb\nlast\n"),
        (("first", "…"), "first\na\nb\n"),
        (("first", "…", "last"), "first\nlast\n"),
    ],
)
def test_what_is_shown_matches(shown: tuple[str, ...], printed: str) -> None:
    assert matches(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        (("one",), ""),
        (("one",), "one\ntwo\n"),
        (("one.",), "ones\n"),
        (("i-… running",), "i-0abc\nrunning\n"),
        (("…", "last"), "a\nlast\nb\n"),
    ],
)
def test_what_is_shown_does_not_match(shown: tuple[str, ...], printed: str) -> None:
    assert not matches(shown, printed)


def test_variables_and_folders_last_from_step_to_step(tmp_path: Path) -> None:
    text = page("```console", "$ mkdir a && cd a && NAME=x", "$ echo $NAME ${PWD##*/}", "```")
    subprocess.run(["bash", "-c", script(steps(text), tmp_path)], cwd=tmp_path, check=True)
    assert (tmp_path / "1.out").read_text() == "x a\n"


def test_the_first_step_that_ends_otherwise_is_the_last(tmp_path: Path) -> None:
    text = page("```console", "$ (exit 3)", "$ echo two", "```")
    done = subprocess.run(["bash", "-c", script(steps(text), tmp_path)], cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert (tmp_path / "0.code").read_text() == "3\n"
    assert not (tmp_path / "1.code").exists()
