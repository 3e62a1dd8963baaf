"""A section may hold a table for each name, such as a provider's machines, with keys of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runctl.core import extensions
from runctl.core.config import load, read, read_file, rules, untrusted_values, values_to_trust
from runctl.core.config.edit import set_value
from runctl.core.config.files import ConfigFile
from runctl.core.config.trust import trust
from runctl.core.config.values import TRUST
from runctl.core.errors import ConfigError, UsageError


@dataclass(frozen=True)
class Machine:
    address: str
    port: int = field(default=22, metadata={"minimum": 1})
    key: str | None = field(default=None, metadata={"kind": "path"})


@dataclass(frozen=True)
class Farm:
    machines: Mapping[str, Machine] = field(default_factory=dict, metadata=TRUST)


@pytest.fixture(autouse=True)
def farm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extensions, "sections", lambda: {"farm": Farm})


@pytest.fixture
def file(tmp_path: Path) -> ConfigFile:
    return ConfigFile(tmp_path / "config.toml")


def test_each_table_becomes_what_its_dataclass_says(file: ConfigFile, tmp_path: Path) -> None:
    file.path.write_text(
        '[farm.machines.a]\naddress = "10.0.0.1"\nkey = "id"\n[farm.machines.b]\naddress = "b"\nport = 2222\n'
    )
    config = load(tmp_path, environ={}, config_file=file.path, user_file=tmp_path / "none")
    expected = {"a": Machine("10.0.0.1", key=str(tmp_path / "id")), "b": Machine("b", 2222)}
    assert config.section(Farm).machines == expected


def test_layers_are_merged_table_by_table(tmp_path: Path) -> None:
    mine, project = tmp_path / "mine.toml", tmp_path / "project.toml"
    mine.write_text('[farm.machines]\na = {address = "mine"}\nb = {address = "mine"}\n')
    project.write_text('[farm.machines]\nb = {address = "theirs"}\n')
    config = load(tmp_path, environ={}, config_file=project, user_file=mine)
    assert {name: each.address for name, each in config.section(Farm).machines.items()} == {
        "a": "mine",
        "b": "theirs",
    }


@pytest.mark.parametrize(
    ("text", "key", "line", "message"),
    [
        ('a = "10.0.0.1"', "farm.machines.a", 2, "expected a table"),
        ('a = {adress = "10.0.0.1"}', "farm.machines.a.adress", 2, 'did you mean "address"'),
        ("a = {port = 22}", "farm.machines.a", 2, "it has no address"),
        ('a = {address = "x", port = 0}', "farm.machines.a.port", 2, "at least 1"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(
    file: ConfigFile, tmp_path: Path, text: str, key: str, line: int, message: str
) -> None:
    file.path.write_text(f"[farm.machines]\n{text}\n")
    (problem,) = read(tmp_path, environ={}, config_file=file.path, user_file=tmp_path / "none").problems
    assert (problem.key, problem.line) == (key, line)
    assert message in problem.message


def test_a_variable_cannot_hold_tables(tmp_path: Path) -> None:
    found = read(tmp_path, environ={"RUNCTL_FARM_MACHINES": "a"}, user_file=tmp_path / "none")
    assert "expected a table for each name" in found.problems[0].message


def test_trust_is_for_these_values(file: ConfigFile) -> None:
    file.path.write_text('[farm.machines.a]\naddress = "10.0.0.1"\n')
    trust(file.path, values_to_trust(read_file(file)[0]))
    assert not untrusted_values(file, read_file(file)[0])
    file.path.write_text('[farm.machines.a]\naddress = "10.6.6.6"\n')
    assert set(untrusted_values(file, read_file(file)[0])) == {"farm.machines"}


def test_one_key_of_a_table_is_set(file: ConfigFile) -> None:
    set_value(file, "farm.machines.a.address", "10.0.0.1")
    set_value(file, "farm.machines.a.port", "2222")
    assert file.path.read_text() == '[farm.machines.a]\naddress = "10.0.0.1"\nport = 2222\n'


def test_nothing_is_set_that_leaves_a_table_without_what_it_needs(file: ConfigFile) -> None:
    with pytest.raises(ConfigError, match="it has no address"):
        set_value(file, "farm.machines.a.port", "2222")
    assert not file.path.exists()


@pytest.mark.parametrize("key", ["farm.machines.a.adress", "farm.machines.a"])
def test_a_key_that_no_table_has_cannot_be_set(file: ConfigFile, key: str) -> None:
    with pytest.raises(UsageError, match="unknown key"):
        set_value(file, key, "x")


def test_the_rule_names_its_dataclass() -> None:
    assert rules()["farm.machines"].table is Machine
