"""Commands and groups: global options anywhere, arguments after ``--`` untouched, modules loaded when used."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from runctl._version import __version__
from runctl.cli.framework.command_table import ROOT_HELP, commands_named, entry_of, root
from runctl.cli.framework.options import GlobalOption, MayBeBytes, MayBeEmpty, global_options
from runctl.cli.framework.preview import PLAN_ONLY, SECTION, preview_of
from runctl.cli.framework.root_help import help_line, root_help
from runctl.core.names import did_you_mean
from runctl.providers.plugin import Branch, Leaf

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
OPTIONS = "Options"
"""The section of help for options that belong to no other."""


OPTION_WIDTH = 26
"""Of the column of options in help, at the most."""


class _WithGlobals(click.Command):
    """Takes the global options, and lists its own in sections of their own in help.

    ``sections`` maps a title to the names of options; ``examples`` are command lines with what they do; of the options
    in each tuple of ``exclusive`` at most one may be given; of each pair of ``needs`` the first means nothing without
    the second.
    """

    def __init__(
        self,
        *arguments: Any,
        sections: Mapping[str, Sequence[str]] | None = None,
        examples: Sequence[tuple[str, str]] = (),
        exclusive: Sequence[tuple[str, ...]] = (),
        needs: Sequence[tuple[str, str]] = (),
        **attributes: Any,
    ) -> None:
        attributes["context_settings"] = {**CONTEXT_SETTINGS, **(attributes.get("context_settings") or {})}
        super().__init__(*arguments, **attributes)
        self.params = [*self.params, *global_options()]
        self.sections = dict(sections or {})
        self.examples = tuple(examples)
        self.exclusive = tuple(exclusive)
        self.needs = tuple(needs)

    def add_option(self, option: click.Option, section: str, *, excludes: str) -> None:
        """The command takes one more, which is listed in that section where it has sections."""
        self.params.append(option)
        if self.sections:
            self.sections[section] = (*self.sections.get(section, ()), *option.opts)
        self.exclusive = (*self.exclusive, *((flag, excludes) for flag in option.opts))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; an error always knows which command it is about, and nothing is decided by which of two
        options that exclude each other came last."""
        given = list(args)
        try:
            rest = super().parse_args(ctx, args)
            if not ctx.resilient_parsing:
                self._refuse_empty(ctx, given)
                self._refuse_bytes(ctx, given)
                self._refuse_both_sides(ctx, given)
                self._refuse_exclusive(ctx)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise
        return rest

    def _refuse_empty(self, ctx: click.Context, args: list[str]) -> None:
        """``--subnet "$SUBNET"`` without such a variable: the option is not taken for one that is not given."""
        if not any(arg == "" or arg.endswith("=") for arg in args):
            return
        values, _, _ = self.make_parser(ctx).parse_args(list(args))
        for parameter in self.params:
            value = values.get(parameter.name or "")
            if "" not in (value if isinstance(value, list | tuple) else [value]):
                continue
            if isinstance(parameter, MayBeEmpty):
                continue
            if isinstance(parameter, click.Option) or isinstance(parameter.type, click.Path):
                raise Empty(parameter, ctx)

    def _refuse_bytes(self, ctx: click.Context, args: list[str]) -> None:
        """Bytes that are not UTF-8 are no name and no id; a path may have any."""
        if all(_is_text(arg) for arg in args):
            return
        values, _, _ = self.make_parser(ctx).parse_args(list(args))
        for parameter in self.params:
            if isinstance(parameter, MayBeBytes) or isinstance(parameter.type, click.Path):
                continue
            value = values.get(parameter.name or "")
            for item in value if isinstance(value, list | tuple) else [value]:
                if isinstance(item, str) and not _is_text(item):
                    raise NotText(parameter, item, ctx)

    def _refuse_both_sides(self, ctx: click.Context, args: list[str]) -> None:
        """``--spot --on-demand``: two sides of one switch."""
        for parameter in self.params:
            on, off = (
                [name for name in names if name in args]
                for names in (parameter.opts, parameter.secondary_opts)
            )
            if on and off:
                # Either may be the value of another option: only the parser can tell.
                _, _, order = self.make_parser(ctx).parse_args(list(args))
                if sum(found is parameter for found in order) > 1:
                    raise Contradiction(on[0], off[0], ctx)

    def _refuse_exclusive(self, ctx: click.Context) -> None:
        given = {
            name
            for parameter in self.params
            if ctx.get_parameter_source(parameter.name or "") is click.core.ParameterSource.COMMANDLINE
            for name in _given_side(parameter, ctx.params.get(parameter.name or ""))
        }
        for options in self.exclusive:
            both = [option for option in options if option in given]
            if len(both) > 1:
                raise Contradiction(both[0], both[1], ctx)
        for option, needed in self.needs:
            if option in given and needed not in given:
                raise Lonely(option, needed, ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Own options by section, then the global ones, then examples."""
        section_of = {option: title for title, options in self.sections.items() for option in options}
        records: dict[str, list[tuple[str, str]]] = {
            title: [] for title in (*self.sections, OPTIONS, "Global options")
        }
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None or not record[1]:
                continue
            everywhere = isinstance(parameter, GlobalOption) or "--help" in parameter.opts
            title = "Global options" if everywhere else OPTIONS
            title = next((section_of[name] for name in parameter.opts if name in section_of), title)
            records[title].append(record)
        # All sections are aligned with each other; what is wider stands on a line of its own.
        width = max(len(left) for rows in records.values() for left, _ in rows if len(left) <= OPTION_WIDTH)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)
        for title, rows in records.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl([(left.ljust(width), right) for left, right in rows], col_max=width)
        if self.examples:
            with formatter.section("Examples"):
                for command_line, meaning in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}# {meaning}\n")
                    formatter.write(f"{'':>{formatter.current_indent}}{command_line}\n")


def _is_text(value: str) -> bool:
    """Whether an argument was UTF-8; Python keeps the bytes of one that was not as lone surrogates."""
    return not any("\udc80" <= character <= "\udcff" for character in value)


def _given_side(parameter: click.Parameter, value: Any) -> Sequence[str]:
    """The names that a parameter on the command line may have been given by."""
    return parameter.secondary_opts if parameter.secondary_opts and value is False else parameter.opts


class Contradiction(click.UsageError):
    """Two options that exclude each other."""

    def __init__(self, first: str, second: str, ctx: click.Context) -> None:
        super().__init__(f"{first} and {second} contradict each other", ctx)
        self.suggestion = "leave one of them out"


class Empty(click.UsageError):
    """An option, or a path, that is given as an empty text."""

    def __init__(self, parameter: click.Parameter, ctx: click.Context) -> None:
        is_option = isinstance(parameter, click.Option)
        name = max(parameter.opts, key=len) if is_option else parameter.make_metavar(ctx)
        super().__init__(f"{name} is empty", ctx)
        self.suggestion = "give it a value" + (", or leave it out" if is_option else "")


class NotText(click.UsageError):
    """A value with bytes that are not UTF-8."""

    def __init__(self, parameter: click.Parameter, value: str, ctx: click.Context) -> None:
        is_option = isinstance(parameter, click.Option)
        name = max(parameter.opts, key=len) if is_option else parameter.make_metavar(ctx)
        shown = value.encode("utf-8", "surrogateescape")
        super().__init__(f"{name} is not UTF-8 text: {shown!r}", ctx)
        self.suggestion = "check the terminal's character set (locale), and type it again"


class Lonely(click.UsageError):
    """An option that means nothing without another."""

    def __init__(self, option: str, needed: str, ctx: click.Context) -> None:
        super().__init__(f"{option} means nothing without {needed}", ctx)
        self.suggestion = f"add {needed}, or leave it out"


class Command(_WithGlobals):
    """A command. Its function may return an exit code; ``None`` is 0."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; an argument too many is named together with how many there may be."""
        ctx.allow_extra_args = True
        extra = super().parse_args(ctx, args)
        if extra and not ctx.resilient_parsing:
            raise TooManyArguments(self, ctx, extra[0])
        return extra


class TooManyArguments(click.UsageError):
    """An argument that the command does not take."""

    def __init__(self, command: click.Command, ctx: click.Context, extra: str) -> None:
        taken = [p.make_metavar(ctx) for p in command.params if isinstance(p, click.Argument)]
        takes = f"takes {' '.join(taken)} and no more" if taken else "takes no arguments"
        super().__init__(f"{extra!r} is one argument too many: {ctx.command_path} {takes}", ctx)


class Misplaced(click.UsageError):
    """An argument that this command does not take, where another program's may have been meant."""

    def __init__(self, message: str, ctx: click.Context, argument: str, *, option: str | None = None) -> None:
        super().__init__(message, ctx)
        self.suggestion = (
            f"arguments for the script or command go after two dashes: -- {shlex.quote(argument)}"
        )
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
            extra = _WithGlobals.parse_args(self, ctx, args[:at])
        except click.NoSuchOption as error:
            raise Misplaced(error.message, ctx, error.option_name, option=error.option_name) from None
        if extra and not ctx.resilient_parsing:
            raise Misplaced(f"{ctx.command_path} does not take {extra[0]!r}", ctx, extra[0])
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
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None and not ctx.resilient_parsing:
            raise UnknownCommand(name, ctx, self.names(ctx))
        return (command.name if command else None), command, args[1:]

    def names(self, ctx: click.Context) -> list[str]:
        """Everything that may stand in the command's place."""
        return self.list_commands(ctx)


class UnknownCommand(click.UsageError):
    """There is no such command; knows what was meant."""

    def __init__(self, name: str, ctx: click.Context, known: list[str]) -> None:
        what = "option" if name.startswith("-") else "command"
        super().__init__(f"{ctx.command_path} has no {what} {name!r}", ctx)
        elsewhere = commands_named(name) if ctx.parent is None else ()
        self.suggestion = did_you_mean(name, known)
        if elsewhere:
            self.suggestion = f"did you mean {' or '.join(elsewhere)}?"


class LazyGroup(Group):
    """A group that is described by the table; a command's module is imported when the command is asked for."""

    def __init__(self, branch: Branch, name: str) -> None:
        super().__init__(name=name, help=branch.help, no_args_is_help=True)
        self._branch = branch

    @property
    def children(self) -> Mapping[str, Leaf | Branch]:
        """Every command, those too that only say why they are not there."""
        return self._branch.children

    @property
    def listed(self) -> dict[str, Leaf | Branch]:
        """The commands that help and completion show."""
        return {name: child for name, child in self.children.items() if not child.hidden}

    def entry(self, name: str) -> Leaf | Branch | None:
        """The command of that name."""
        return self.children.get(name)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """In the table's order."""
        return list(self.listed)

    def names(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names and aliases."""
        return [*self.listed, *(alias for child in self.listed.values() for alias in child.aliases)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of that name or alias."""
        name, entry = cmd_name, self.entry(cmd_name)
        if entry is None:
            name, entry = next(
                ((name, child) for name, child in self.children.items() if cmd_name in child.aliases),
                (cmd_name, None),
            )
        if entry is None:
            return None
        if name not in self.commands:
            self.commands[name] = resolve(name, entry)
        return self.commands[name]

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands from the table, importing nothing; else options."""
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        return [
            CompletionItem(name, help=child.help)
            for name, child in self.listed.items()
            if name.startswith(incomplete)
        ]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """From the table, importing nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line(child)) for name, child in self.listed.items()])


class RootGroup(LazyGroup):
    """``runctl`` itself."""

    def __init__(self) -> None:
        super().__init__(Branch(ROOT_HELP, {}), "runctl")
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

    @cached_property
    def children(self) -> Mapping[str, Leaf | Branch]:
        """Every command; for this alone every provider's description is loaded."""
        return root().children

    def entry(self, name: str) -> Leaf | Branch | None:
        """The command of that name, loading no provider but that."""
        return entry_of(name)

    def get_help(self, ctx: click.Context) -> str:  # noqa: ARG002
        """The same text as the path that loads nothing."""
        return root_help()


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
    command = found if isinstance(found, click.Command) else found(entry.argument)
    if not isinstance(command, click.Command):
        raise TypeError(f"{entry.target} is not a command")
    command.name = name
    if entry.shows_calls and entry.argument is not None and isinstance(command, Command):
        _offer_preview(command, entry.argument)
    return command


def _offer_preview(command: Command, provider: str) -> None:
    """The command takes the provider's option to show its calls, if it has one."""
    preview = preview_of(provider, command.callback) if command.callback is not None else None
    if preview is not None:
        command.callback = preview.callback
        command.add_option(preview.option, SECTION, excludes=PLAN_ONLY)
