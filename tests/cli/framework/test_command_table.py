"""Every line of the table of commands is a command with its help, and explains its options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import click
import pytest
from click.testing import CliRunner

from runctl.cli.framework.command_table import root as command_tree
from runctl.cli.framework.commands import (
    Command,
    Group,
    RootGroup,
    resolve,
)
from runctl.cli.framework.root_help import root_help
from runctl.providers.plugin import Branch, Leaf
from tests.cli.conftest import Program


def test_root_help_is_the_same_on_every_path() -> None:
    assert CliRunner().invoke(Program(), ["--help"]).stdout == root_help() + "\n"
    assert CliRunner().invoke(Program(), ["-q", "--help"]).stdout == root_help() + "\n"


def leaves(branch: Branch, path: tuple[str, ...] = ("runctl",)) -> Iterator[tuple[str, str, Leaf]]:
    for name, child in branch.children.items():
        if isinstance(child, Branch):
            yield from leaves(child, (*path, name))
        else:
            yield " ".join((*path, name)), name, child


LEAVES = {path: (name, leaf) for path, name, leaf in leaves(command_tree())}


@pytest.mark.parametrize("path", LEAVES)
def test_every_line_of_the_table_names_a_command_with_that_help(path: str) -> None:
    name, leaf = LEAVES[path]
    command = resolve(name, leaf)
    assert isinstance(command, Command | Group)
    assert command.name == name
    assert (command.help or "").split("\n")[0] == leaf.help


def all_commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from all_commands(child, f"{path} {name}")


def test_every_command_takes_the_global_options_and_explains_each_of_its_own() -> None:
    for path, command in all_commands(RootGroup(), "runctl"):
        names = {name for parameter in command.params for name in parameter.opts}
        assert {"--output", "--quiet", "--yes", "--verbose", "--config", "--profile", "--region"} <= names, (
            path
        )
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{path} {parameter.opts}"


def test_no_alias_hides_a_command() -> None:
    def check(branch: Branch) -> None:
        argv = [*branch.children, *(alias for child in branch.children.values() for alias in child.aliases)]
        assert len(argv) == len(set(argv))
        for child in branch.children.values():
            if isinstance(child, Branch):
                check(child)

    check(command_tree())


def test_the_promised_commands_and_aliases_are_there() -> None:
    aws = command_tree().children["aws"]
    assert isinstance(aws, Branch)
    promised: Mapping[str, tuple[str, ...]] = {
        "create": (),
        "list": (),
        "status": (),
        "wait": (),
        "start": (),
        "stop": (),
        "terminate": ("rm",),
        "train": ("run",),
        "monitor": ("logs", "watch"),
        "processes": (),
        "ssh": (),
        "exec": (),
    }
    for name, aliases in promised.items():
        assert set(aliases) <= set(aws.children[name].aliases)
    ebs = aws.children["ebs"]
    assert isinstance(ebs, Branch)
    promised = {
        "create": (),
        "list": ("ls",),
        "show": (),
        "attach": (),
        "mount": (),
        "detach": (),
        "resize": ("extend",),
        "snapshot": (),
        "snapshots": ("snapshot-list",),
        "snapshot-delete": (),
        "restore": (),
        "clone": ("fork",),
        "move": (),
        "delete": ("rm",),
    }
    assert {name: tuple(ebs.children[name].aliases) for name in promised} == promised
