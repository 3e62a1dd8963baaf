"""What a command is handed: settings, configuration, providers, and the way to speak to people and programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runctl._dataclasses import dataclass
from runctl.core.errors import RunctlError, UsageError

if TYPE_CHECKING:
    from runctl.cli.left import Left
    from runctl.core.config import Config, Reading
    from runctl.core.progress import Progress
    from runctl.machines.creation import Creation
    from runctl.machines.deletion import Deletions
    from runctl.machines.intents import IntentStore, Kind
    from runctl.machines.session import Session
    from runctl.providers.interface import Provider
    from runctl.providers.plugin import Defaults
    from runctl.runs.records.store import RunStore
    from runctl.runs.run_logs.archive import LogArchive


@dataclass(frozen=True)
class Settings:
    """The global options, from wherever on the command line they stood."""

    output: str = "text"
    quiet: bool = False
    yes: bool = False
    verbose: bool = False
    config_file: Path | None = None
    profile: str | None = None
    region: str | None = None
    strict_host_key: bool = False
    over_budget: bool = False
    """Of the commands that rent: what exceeds the budget is rented nevertheless."""

    @property
    def json(self) -> bool:
        """Whether results and errors are for programs."""
        return self.output == "json"


class Cli:
    """One invocation. Everything heavy is made when it is first asked for."""

    def __init__(self, settings: Settings | None = None, session: Session | None = None) -> None:
        self.settings = settings or Settings()
        self.is_preview = False
        """Nothing is changed, and nothing is remembered: the calls are shown."""
        if session is not None:
            self.session = session

    @cached_property
    def session(self) -> Session:
        """What the command's work is done with; it is made by the settings as they are then."""
        from runctl.machines.session import Session

        return Session(
            config_file=self.config_path,
            flags=self._flags(),
            progress=lambda: self.progress,
            over_budget=self.settings.over_budget,
        )

    def begin_preview(self, folder: Path) -> None:
        """See `Session.begin_preview`. Nobody is asked anything, there is no result, and nothing is told but warnings:
        what would be told is not happening."""
        from runctl.render.progress import progress_for

        self.is_preview = True
        self.progress = progress_for(sys.stderr, quiet=True)
        self.settings = replace(self.settings, yes=True)
        self.session.begin_preview(folder)

    @property
    def config(self) -> Config:
        """The session's."""
        return self.session.config

    @cached_property
    def progress(self) -> Progress:
        """What is going on, on stderr."""
        from runctl.render.progress import progress_for

        return progress_for(sys.stderr, quiet=self.settings.quiet, verbose=self.settings.verbose)

    @property
    def store(self) -> RunStore:
        """The runs that this computer remembers."""
        from runctl.runs.records.store import run_store

        return run_store(self.session)

    @property
    def logs(self) -> LogArchive:
        """Logs that were followed here."""
        from runctl.runs.run_logs.archive import log_archive

        return log_archive()

    def provider(self, name: str) -> Provider:
        """The session's."""
        return self.session.provider(name)

    @property
    def intents(self) -> IntentStore:
        """The session's."""
        return self.session.intents

    def read_config(self) -> Reading:
        """The session's."""
        return self.session.read_config()

    def creating(self, provider: Provider, kind: Kind, request: Any) -> AbstractContextManager[Creation]:
        """The session's."""
        return self.session.creating(provider, kind, request)

    def deletions(self, provider: Provider, kind: Kind) -> Deletions:
        """The session's."""
        return self.session.deletions(provider, kind)

    def in_region(self, region: str | None) -> Cli:
        """The same invocation for a thing that is in another region; a ``--region`` given by the user wins."""
        session = self.session.in_region(region)
        if session is self.session:
            return self
        there = Cli(replace(self.settings, region=region), session)
        there.__dict__["progress"] = self.progress
        return there

    def left(self) -> Left:
        """What this invocation has changed outside this process, as far as its providers know.

        Each change comes with the options without which a command would look elsewhere.
        """
        from runctl.cli.left import Left

        if self.is_preview:
            return Left.of([])
        return Left.of(
            [(provider.journal, self._options(region)) for provider, region in self._used_providers()]
        )

    def _used_providers(self) -> Iterable[tuple[Provider, str | None]]:
        return self.session.used_providers() if "session" in vars(self) else ()

    def _options(self, region: str | None) -> tuple[str, ...]:
        given = (("--region", region), ("--profile", self.settings.profile))
        return tuple(part for option, value in given if value is not None for part in (option, value))

    def emit(self, value: Any, *, text: Callable[[], str], ids: Iterable[str] = ()) -> None:
        """The command's result on stdout: one JSON document, or with ``--quiet`` ids, or text for people.

        The last step's line is complete before it, so that on a terminal nothing about the work follows the result.
        """
        if self.is_preview:
            return
        if "progress" in vars(self):
            from runctl.render.progress import finish

            finish(self.progress)
        if self.settings.json:
            from runctl.render.json import document

            self.write(document(value))
        elif self.settings.quiet:
            for identifier in ids:
                self.write(identifier)
        else:
            self.write(text())

    def write(self, line: str) -> None:
        """One line (or several) of data on stdout."""
        if line:
            sys.stdout.write(line if line.endswith("\n") else line + "\n")

    def say(self, text: str) -> None:
        """A block for a person on stderr, not under ``--quiet``; a running step is ended first."""
        from runctl.render.progress import finish

        if text:
            finish(self.progress)
            self.progress.note(text)

    def leave_stderr_to_the_command(self) -> None:
        """Where a program reads stderr, what it reads is the remote command's; our warnings stay."""
        from runctl.render.progress import progress_for

        if not self.settings.verbose and not sys.stderr.isatty():
            self.progress = progress_for(sys.stderr, quiet=True)

    @property
    def has_terminal(self) -> bool:
        """Whether somebody can be asked."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    def confirm(self, question: str) -> None:
        """Return when the user agrees. Raises `UsageError` when nobody can be asked, `RunctlError` (code
        ``declined``) when the answer is no."""
        from runctl.cli.framework.prompts import ask

        if self.settings.yes:
            return
        if not self.has_terminal:
            raise UsageError(
                "this must be confirmed, and there is no terminal to ask on",
                hint=f'--yes answers "{question}"',
                code="confirmation-needed",
            )
        from runctl.render.progress import finish

        finish(self.progress)
        if not ask(question, sys.stdin, sys.stderr):
            raise RunctlError("nothing was done", code="declined")

    @property
    def config_path(self) -> Path | None:
        """The file that stands in for the project's: ``--config``, else ``RUNCTL_CONFIG``."""
        named = os.environ.get("RUNCTL_CONFIG")
        return self.settings.config_file or (Path(named) if named else None)

    def _flags(self) -> Mapping[str, tuple[object, str]]:
        """The global options as the configuration keys that the providers want them under."""
        from runctl.providers.registry import plugins

        given = {
            option: value
            for option in ("profile", "region", "strict_host_key")
            if (value := getattr(self.settings, option))
        }
        if not given:
            return {}
        return {
            key: (given[option], f"--{option.replace('_', '-')}")
            for plugin in plugins()
            for option, key in plugin.global_options.items()
            if option in given
        }

    def defaults(self, provider: str) -> Defaults:
        """What the configuration says for a provider where a command does not."""
        return self.session.defaults(provider)
