"""Editing configuration files."""

from __future__ import annotations

from pathlib import Path

import pytest

from runctl.core.config.edit import set_value
from runctl.core.config.files import ConfigFile
from runctl.core.errors import ConfigError, UsageError

COMMENTED = """# ours
[aws]
region = "us-east-1"  # close to the data
# spot = true

[train]
grace = "10s"
"""


def test_comments_and_order_stay(tmp_path: Path) -> None:
    path = tmp_path / ".runctl.toml"
    path.write_text(COMMENTED)
    set_value(ConfigFile(path), "aws.region", "eu-west-1")
    assert path.read_text() == COMMENTED.replace("us-east-1", "eu-west-1")


def test_a_new_file_is_made_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "config.toml"
    set_value(ConfigFile(path), "aws.spot", "true")
    assert path.read_text() == "[aws]\nspot = true\n"


def test_lists_are_written_with_commas(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    set_value(ConfigFile(path), "aws.security_groups", "sg-1,sg-2")
    assert 'security_groups = ["sg-1", "sg-2"]' in path.read_text()


def test_one_variable_of_the_environment_is_set(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    set_value(ConfigFile(path), "train.env.A", "1")
    set_value(ConfigFile(path), "train.env.B", "x=y")
    assert path.read_text() == '[train.env]\nA = "1"\nB = "x=y"\n'


def test_pyproject_keeps_everything_else(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text('[project]\nname = "x"\n')
    set_value(ConfigFile(path, ("tool", "runctl")), "aws.region", "eu-west-1")
    assert path.read_text() == '[project]\nname = "x"\n\n[tool.runctl.aws]\nregion = "eu-west-1"\n'


@pytest.mark.parametrize(("text", "written"), [("25usd", "25"), ("$0.50", "0.5"), ("300", "300")])
def test_money_is_written_as_a_number(tmp_path: Path, text: str, written: str) -> None:
    path = tmp_path / "c.toml"
    set_value(ConfigFile(path), "budget.day", text)
    assert path.read_text() == f"[budget]\nday = {written}\n"


@pytest.mark.parametrize(
    ("key", "text"), [("aws.spot", "maybe"), ("aws.ttl", "soon"), ("aws.transport", "fax")]
)
def test_a_value_that_does_not_fit_leaves_the_file_alone(tmp_path: Path, key: str, text: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(COMMENTED)
    with pytest.raises(ConfigError, match=key):
        set_value(ConfigFile(path), key, text)
    assert path.read_text() == COMMENTED
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("key", ["aws.regoin", "region", "aws.region.name", ""])
def test_an_unknown_key_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(UsageError):
        set_value(ConfigFile(tmp_path / "c.toml"), key, "x")


def test_a_broken_file_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[aws\n")
    with pytest.raises(ConfigError, match=r"c\.toml:1: not valid TOML"):
        set_value(ConfigFile(path), "aws.region", "x")
    assert path.read_text() == "[aws\n"


def test_a_file_with_another_mistake_can_still_be_mended(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[aws]\nspot = "yes"\nregoin = "x"\n')
    set_value(ConfigFile(path), "aws.spot", "true")
    assert path.read_text() == '[aws]\nspot = true\nregoin = "x"\n'


def test_the_files_mode_and_link_stay(tmp_path: Path) -> None:
    real = tmp_path / "real.toml"
    real.write_text("")
    real.chmod(0o600)
    link = tmp_path / "link.toml"
    link.symlink_to(real)
    set_value(ConfigFile(link), "aws.spot", "on")
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert "spot = true" in real.read_text()
