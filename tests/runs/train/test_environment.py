from __future__ import annotations

from pathlib import Path

import pytest

from runctl.core.errors import NotFound, UsageError
from runctl.runs.train.environment import gather, read_env_file


def test_what_is_nearer_to_the_command_line_wins(tmp_path: Path) -> None:
    file = tmp_path / "train.env"
    file.write_text("A=file\nB=file\n")

    merged = gather({"A": "config", "C": "config"}, [file], ["B=flag"], {})

    assert merged == {"A": "file", "B": "flag", "C": "config"}


def test_a_value_may_hold_anything(tmp_path: Path) -> None:
    assert gather({}, [], ["A=x=y z $HOME 'q'\n"], {}) == {"A": "x=y z $HOME 'q'\n"}


def test_a_name_alone_takes_the_shells_value() -> None:
    assert gather({}, [], ["TOKEN"], {"TOKEN": "s3cret"}) == {"TOKEN": "s3cret"}


def test_a_name_alone_without_a_value_is_an_error() -> None:
    with pytest.raises(UsageError, match="TOKEN has no value"):
        gather({}, [], ["TOKEN"], {})


@pytest.mark.parametrize("text", ["=x", "1A=x", "A B=x", "", "A-B=x"])
def test_a_malformed_name_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a variable"):
        gather({}, [], [text], {})


def test_a_name_of_runctls_own_is_refused() -> None:
    with pytest.raises(UsageError, match="RUNCTL_RUN_ID"):
        gather({}, [], ["RUNCTL_RUN_ID=x"], {})


def test_an_env_file_is_read_like_dockers_with_quotes_and_export(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("# comment\n\nA=1\nexport B='two words'\nC=\"x\"\nD=a#b\nE=\nF\n")

    assert read_env_file(file, {"F": "from-shell"}) == {
        "A": "1",
        "B": "two words",
        "C": "x",
        "D": "a#b",
        "E": "",
        "F": "from-shell",
    }


def test_a_folder_and_what_is_not_text_are_told_apart_from_a_missing_file(tmp_path: Path) -> None:
    latin = tmp_path / "latin1.env"
    latin.write_bytes("NAME=Zoë\n".encode("latin1"))

    with pytest.raises(UsageError, match="is a folder, and a file is needed"):
        read_env_file(tmp_path, {})
    with pytest.raises(UsageError, match=r"is not UTF-8 text \(byte 7\)") as caught:
        read_env_file(latin, {})
    assert "iconv" in caught.value.hint
    with pytest.raises(NotFound, match="the file does not exist"):
        read_env_file(tmp_path / "none.env", {})


def test_an_error_in_an_env_file_names_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "x.env"
    file.write_text("A=1\nbad line=2\n")

    with pytest.raises(UsageError, match=r"x\.env:2"):
        read_env_file(file, {})


def test_a_missing_env_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="the file does not exist"):
        read_env_file(tmp_path / "none", {})
