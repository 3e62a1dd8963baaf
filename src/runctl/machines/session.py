"""What a use case works with: the configuration, the providers, what this computer remembers, and who hears of it all.

The command line makes one for each command, a program that imports runctl makes its own; both then call the same
functions with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runctl.core.progress import SILENT, Progress

if TYPE_CHECKING:
    from runctl.core.config import Config, Reading
    from runctl.core.database import Database
    from runctl.core.journal import Change
    from runctl.machines.creation import Creation
    from runctl.machines.deletion import Deletions
    from runctl.machines.intents import IntentStore, Kind
    from runctl.machines.ledger_record import LedgerRecord
    from runctl.machines.pool_record import PoolRecord
    from runctl.machines.renting import RentalListener, Rentals
    from runctl.providers.interface import Provider
    from runctl.providers.plugin import Defaults

Flags = Mapping[str, tuple[object, str]]
"""What outranks every configured value: dotted keys, each with its value and how the user gave it ("--region")."""


class Session:
    """Everything in it is made when it is first asked for, and then kept."""

    def __init__(
        self,
        *,
        config: Config | None = None,
        config_file: Path | None = None,
        flags: Flags | None = None,
        progress: Callable[[], Progress] = lambda: SILENT,
        rental_listeners: Sequence[RentalListener] = (),
        over_budget: bool = False,
    ) -> None:
        """``config`` is used as it is. Without it the layers are read as seen from the current folder, where
        ``config_file`` stands in for the project's file and ``flags`` outrank them all.

        ``progress`` is asked each time: what shows it may change while the session lasts. ``rental_listeners`` hear of
        every machine that is rented, changed and given back; see `runctl.machines.renting.Rental`. With
        ``over_budget``, what exceeds the configuration's ``[budget]`` is rented nevertheless.
        """
        self._given_config = config
        self._config_file = config_file
        self._flags: Flags = flags or {}
        self._progress = progress
        self._providers: dict[str, Provider] = {}
        self._elsewhere: list[Session] = []
        self._preview_folder: Path | None = None
        self.rental_listeners = tuple(rental_listeners)
        self.over_budget = over_budget

    @property
    def progress(self) -> Progress:
        """Where it is told what is going on."""
        return self._progress()

    @cached_property
    def config(self) -> Config:
        """The merged configuration. Raises `ConfigError`."""
        from runctl.core.config import load
        from runctl.machines.config_checks import CHECKS

        if self._given_config is not None:
            return self._given_config
        return load(Path.cwd(), config_file=self._config_file, flags=self._flags, checks=CHECKS)

    def apart(self, progress: Progress | None = None) -> Session:
        """The same for another thread: with its own connection to the state file, its own providers, and ``progress``
        in place of this session's."""
        return Session(
            config=self._given_config,
            config_file=self._config_file,
            flags=self._flags,
            progress=self._progress if progress is None else lambda: progress,
            rental_listeners=self.rental_listeners,
        )

    def read_config(self) -> Reading:
        """The configuration as far as it can be understood, and its problems; never raises."""
        from runctl.core.config import read
        from runctl.machines.config_checks import CHECKS

        return read(Path.cwd(), config_file=self._config_file, flags=self._flags, checks=CHECKS)

    @property
    def region(self) -> str | None:
        """The region that was asked for by name; ``None``: the configured one, or the provider's own choice."""
        given = (self._flags[key][0] for key in _region_keys() if key in self._flags)
        return next((str(region) for region in given if region is not None), None)

    def in_region(self, region: str | None) -> Session:
        """The same for a thing that is in another region; a region that was asked for by name wins."""
        from runctl.providers.registry import plugins

        if region is None or self.region is not None:
            return self
        if region in {plugin.defaults(self.config).region for plugin in plugins()}:
            return self
        config = self._given_config
        keys = _region_keys()
        there = Session(
            config=config.with_values(dict.fromkeys(keys, region)) if config is not None else None,
            config_file=self._config_file,
            flags={**self._flags, **dict.fromkeys(keys, (region, "--region"))},
            progress=self._progress,
            rental_listeners=self.rental_listeners,
            over_budget=self.over_budget,
        )
        there.__dict__["database"] = self.database
        there._preview_folder = self._preview_folder
        self._elsewhere.append(there)
        return there

    @cached_property
    def database(self) -> Database:
        """What this computer remembers; the file is opened when it is first needed."""
        from runctl.core.database import Database
        from runctl.core.files import state_file

        return Database(state_file() if self._preview_folder is None else self._preview_folder / "state.db")

    @cached_property
    def intents(self) -> IntentStore:
        """What this computer has set out to rent and make."""
        from runctl.core.files import intents_folder
        from runctl.machines.intents import IntentStore

        folder = intents_folder() if self._preview_folder is None else self._preview_folder / "intents"
        store = IntentStore(self.database, folder)
        store.listen(lambda intent: self.ledger_record(intent.provider).intended(intent))
        return store

    def begin_preview(self, folder: Path) -> None:
        """From now on no provider changes anything (`runctl.providers.abilities.preview`), and nothing is remembered
        but in ``folder``, which is empty. To be called before anything else."""
        self._preview_folder = folder

    def provider(self, name: str) -> Provider:
        """The provider of that name, configured. Raises `ConfigError`, what its factory raises, and `Unsupported` in a
        preview of one that has no command line to show."""
        if name not in self._providers:
            from runctl.providers.interface import require
            from runctl.providers.registry import load

            provider = load(name, self.config, progress=self.progress)
            if self._preview_folder is not None:
                require(provider.preview).begin()
            self._providers[name] = provider
            self._providers[name].journal.listen(lambda change: self._record(name, change))
        return self._providers[name]

    @cached_property
    def in_sandbox(self) -> bool:
        """Whether what is rented here costs nothing."""
        from runctl.core.config import SANDBOX_VARIABLE
        from runctl.providers.registry import DEFAULT

        return bool(os.environ.get(SANDBOX_VARIABLE)) and not self.provider(DEFAULT).costs_money()

    def defaults(self, provider: str) -> Defaults:
        """What the configuration says for a provider where a use case is not told."""
        from runctl.providers.registry import defaults

        return defaults(provider, self.config)

    def used_providers(self) -> Iterator[tuple[Provider, str | None]]:
        """Every provider that was asked for, also for things in other regions, each with `region` of its session."""
        for provider in self._providers.values():
            yield provider, self.region
        for session in self._elsewhere:
            yield from session.used_providers()

    def _record(self, provider: str, change: Change) -> None:
        """What intents have made, and what is gone; the state file is opened for that only."""
        from runctl.core.journal import Effect

        if change.effect is Effect.GONE or change.token:
            self.intents.heard(change)
            self.ledger_record(provider).changed(change)

    def rentals(self, provider: str) -> Rentals:
        """The provider's machines, to be rented and given back."""
        from runctl.core.clock import SystemClock
        from runctl.machines.pool_record import with_record
        from runctl.machines.renting import Rentals

        record, ledger, clock = self.pool_record(provider), self.ledger_record(provider), SystemClock()
        return Rentals(
            self.provider(provider),
            self.intents,
            clock=clock,
            progress=self.progress,
            review=ledger.review,
            before=(ledger.about_to_rent,),
            listeners=(ledger.heard, *self.rental_listeners, record.heard),
            refusal_listeners=(record.refused,),
            rank=lambda plan: with_record(plan, record.events(clock.now()), clock.now()),
        )

    def pool_record(self, provider: str) -> PoolRecord:
        """What this computer has seen of the provider's capacity."""
        from runctl.machines.pool_record import PoolRecord

        return PoolRecord(self.database, self.provider(provider))

    def ledger_record(self, provider: str) -> LedgerRecord:
        """What writes the provider's things into the ledger."""
        from runctl.machines.ledger_record import LedgerRecord

        return LedgerRecord(
            self.database,
            self.provider(provider),
            budget=self.config.budget,
            over_budget=self.over_budget,
            progress=self.progress,
        )

    def creating(self, provider: Provider, kind: Kind, request: Any) -> AbstractContextManager[Creation]:
        """See `runctl.machines.creation.creating`."""
        from runctl.machines.creation import creating

        return creating(
            self.intents,
            provider,
            kind,
            request,
            progress=self.progress,
            created=self.ledger_record(provider.name).seen,
        )

    def deletions(self, provider: Provider, kind: Kind) -> Deletions:
        """See `runctl.machines.deletion.Deletions`."""
        from runctl.machines.deletion import Deletions

        return Deletions(self.intents, provider, kind, progress=self.progress)


def _region_keys() -> tuple[str, ...]:
    """The configuration keys under which providers are told a region."""
    from runctl.providers.registry import plugins

    return tuple(key for each in plugins() if (key := each.global_options.get("region")) is not None)
