"""Commands and groups: global options anywhere, arguments after ``--`` untouched, modules loaded when used."""

from __future__ import annotations

import dataclasses
import importlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from runctl._version import __version__
from runctl.cli.context import Cli
from runctl.cli.tree import ROOT, Branch, Leaf, help_line, root_help
from runctl.core.names import did_you_mean

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"]}


class GlobalOption(click.Option):
    """An option that every command and group takes; the one nearest to the end of the line wins."""

    def __init__(self, *declarations: str, setting: str, **attributes: Any) -> None:
        super().__init__(
            [f"global_{setting}", *declarations],
            expose_value=False,
            callback=self._store,
            default=None,
            **attributes,
        )
        self.setting = setting

    def _store(self, ctx: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value is not None and isinstance(ctx.obj, Cli):
            ctx.obj.settings = dataclasses.replace(ctx.obj.settings, **{self.setting: value})


def global_options() -> list[click.Parameter]:
    """Fresh ones, for one command."""
    return [
        GlobalOption(
            "--output",
            setting="output",
            type=click.Choice(["text", "json"]),
            help="How results are printed on stdout.",
        ),
        GlobalOption("-q", "--quiet", setting="quiet", is_flag=True, help="Print ids only, and no progress."),
        GlobalOption("-y", "--yes", setting="yes", is_flag=True, help="Answer yes to every question."),
        GlobalOption(
            "-v",
            "--verbose",
            setting="verbose",
            is_flag=True,
            help="Show details, and tracebacks of unexpected errors.",
        ),
        GlobalOption(
            "--config",
            setting="config_file",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Use this file in place of the project's.",
        ),
        GlobalOption(
            "--profile",
            setting="profile",
            metavar="NAME",
            help="Use this profile of the AWS configuration.",
        ),
        GlobalOption("--region", setting="region", metavar="NAME", help="Use this AWS region."),
    ]


class _WithGlobals(click.Command):
    """Takes the global options, and lists them apart from its own in help."""

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        attributes["context_settings"] = {**CONTEXT_SETTINGS, **(attributes.get("context_settings") or {})}
        super().__init__(*arguments, **attributes)
        self.params = [*self.params, *global_options()]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; an error always knows which command it is about."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Own options first, then the global ones."""
        own: list[tuple[str, str]] = []
        everywhere: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and record[1]:
                (everywhere if isinstance(parameter, GlobalOption) else own).append(record)
        for title, records in (("Options", own), ("Global options", everywhere)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)


class Command(_WithGlobals):
    """A command. Its function may return an exit code; ``None`` is 0."""


class Misplaced(click.UsageError):
    """A word that this command does not take, where another program's may have been meant."""

    def __init__(self, message: str, ctx: click.Context, word: str, *, option: str | None = None) -> None:
        super().__init__(message, ctx)
        self.suggestion = f"what is not for runctl follows two dashes: -- {shlex.quote(word)}"
        self.option = option


class PassthroughCommand(Command):
    """A command that hands everything after ``--`` on, exactly as it is, as the parameter ``rest``.

    What stands there is never read as an option of ours, and what stands before is never mixed with it. Without
    any ``--``, ``rest`` is empty.
    """

    rest_name = "ARGS"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Split at the first ``--`` before click sees any of it."""
        at = args.index("--") if "--" in args else len(args)
        ctx.allow_extra_args = True
        try:
            extra = super().parse_args(ctx, args[:at])
        except click.NoSuchOption as error:
            raise Misplaced(error.message, ctx, error.option_name, option=error.option_name) from None
        if extra and not ctx.resilient_parsing:
            raise Misplaced(f"{ctx.command_path} has no place for {extra[0]!r}", ctx, extra[0])
        ctx.params["rest"] = tuple(args[at + 1 :])
        return []

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """With ``[-- ARGS]...`` at the end."""
        return [*super().collect_usage_pieces(ctx), f"[-- {self.rest_name}...]"]


class Group(_WithGlobals, click.Group):
    """A group whose commands are known already; for modules that bring several along."""

    command_class = Command
    group_class = type

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command by its name or alias; the name is always the canonical one."""
        word = args[0]
        command = self.get_command(ctx, word)
        if command is None and not ctx.resilient_parsing:
            raise UnknownCommand(word, ctx, self.words(ctx))
        return (command.name if command else None), command, args[1:]

    def words(self, ctx: click.Context) -> list[str]:
        """Everything that may stand in the command's place."""
        return self.list_commands(ctx)


class UnknownCommand(click.UsageError):
    """There is no such command; knows what was meant."""

    def __init__(self, word: str, ctx: click.Context, known: list[str]) -> None:
        what = "option" if word.startswith("-") else "command"
        super().__init__(f"{ctx.command_path} has no {what} {word!r}", ctx)
        self.suggestion = did_you_mean(word, known)


class LazyGroup(Group):
    """A group that is described by the table; a command's module is imported when the command is asked for."""

    def __init__(self, branch: Branch, name: str) -> None:
        super().__init__(name=name, help=branch.help, no_args_is_help=True)
        self.children: Mapping[str, Leaf | Branch] = branch.children
        self._aliases = {alias: name for name, child in branch.children.items() for alias in child.aliases}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """In the table's order."""
        return list(self.children)

    def words(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names and aliases."""
        return [*self.children, *self._aliases]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of that name or alias."""
        name = self._aliases.get(cmd_name, cmd_name)
        if name not in self.children:
            return None
        if name not in self.commands:
            self.commands[name] = resolve(name, self.children[name])
        return self.commands[name]

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands from the table, importing nothing; else options."""
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        return [
            CompletionItem(name, help=child.help)
            for name, child in self.children.items()
            if name.startswith(incomplete)
        ]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """From the table, importing nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line(child)) for name, child in self.children.items()])


class RootGroup(LazyGroup):
    """``runctl`` itself."""

    def __init__(self) -> None:
        super().__init__(ROOT, "runctl")
        self.params.append(
            click.Option(
                ["--version"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_print_version,
                help="Print the version and exit.",
            )
        )

    def get_help(self, ctx: click.Context) -> str:  # noqa: ARG002
        """The same text as the path that loads nothing."""
        return root_help()

    def main(self, args: Sequence[str] | None = None, *_positional: Any, **_extra: Any) -> NoReturn:
        """As the program itself runs, so that click's test runner sees what a shell sees."""
        from runctl.cli.main import run

        sys.exit(run(sys.argv[1:] if args is None else args))


def _print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"runctl {__version__}")
        ctx.exit()


def resolve(name: str, entry: Leaf | Branch) -> click.Command:
    """The click command that a line of the table stands for."""
    if isinstance(entry, Branch):
        return LazyGroup(entry, name)
    module, _, attribute = entry.target.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    command = found if entry.argument is None else found(entry.argument)
    if not isinstance(command, click.Command):
        raise TypeError(f"{entry.target} is no command")
    command.name = name
    return command
