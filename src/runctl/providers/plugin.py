"""What an entry point of the group ``runctl.providers`` leads to: a provider, described before it is created.

It is all that the command line needs for a provider's commands, options, completion and configuration. Importing the
module that holds it must be quick: it is imported for ``runctl --help``. What is heavy is imported by `make`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import field
from decimal import Decimal
from typing import TYPE_CHECKING

from runctl._dataclasses import dataclass

if TYPE_CHECKING:
    from runctl.core.config import Config
    from runctl.providers.interface import Provider

BASIC_VERBS = ("list", "status", "exec", "launch", "train", "monitor", "processes")
"""What every provider's machines can be asked for."""
RENTING_VERBS = ("create", "wait", "terminate")
STOP_VERBS = ("start", "stop")
ALL_VERBS = (*BASIC_VERBS, *RENTING_VERBS, *STOP_VERBS, "ssh")


@dataclass(frozen=True)
class Leaf:
    """A command (or a group with a module of its own)."""

    help: str
    target: str
    """``module:name``; a click command, or a function that makes one from `argument`."""
    argument: str | None = None
    """For the commands of a provider its name."""
    aliases: tuple[str, ...] = ()
    hidden: bool = False
    """It is not listed, and only there to say why it cannot be used."""
    shows_calls: bool = False
    """It takes the provider's `ProviderPlugin.preview_option`."""


@dataclass(frozen=True)
class Branch:
    """A group of commands."""

    help: str
    children: Mapping[str, Leaf | Branch]
    aliases: tuple[str, ...] = ()
    hidden: bool = False


@dataclass(frozen=True)
class IdKind:
    """One kind of id of a provider, so that a volume's id is not taken for an instance's name."""

    kind: str
    """``instance``, ``volume``, ``snapshot``, ``machine image``."""
    prefix: str
    """What all of them begin with; no name that begins so is looked up, or given to anything new. Empty where they have
    no common beginning: then the pattern alone tells."""
    pattern: str
    """A regular expression for the whole id."""
    example: str

    def claims(self, text: str) -> bool:
        """Whether no name may be this text: it begins as an id of this kind does, or is one."""
        return text.startswith(self.prefix) if self.prefix else bool(re.fullmatch(self.pattern, text))


@dataclass(frozen=True)
class CreateOption:
    """An option of ``create`` that only this provider has."""

    flag: str
    """Such as ``--key-name``."""
    help: str
    field: str | None = None
    """The field of `runctl.providers.instance_plans.InstanceRequest` that it fills; without one it comes in ``options``
    under the flag's name without dashes at its front."""
    section: str = "Machine"
    """Of the help."""
    metavar: str | None = None
    repeatable: bool = False
    least: int | None = None
    """It is a whole number, of at least this."""
    most: int | None = None


@dataclass(frozen=True)
class VolumeGroup:
    """The group of commands about volumes."""

    name: str
    help: str
    types: tuple[str, ...]
    """What ``--volume-type`` takes, the one that is used without it first."""
    shareable: tuple[str, ...] = ()
    """Those that several instances can have at once."""
    chosen_at_creation: bool = False
    """As `runctl.providers.abilities.volumes.Volumes.chosen_at_creation`: only size, type and zone can be set."""
    creating: str = ""
    """What makes a volume, after ``runctl PROVIDER``; empty: the group's own ``create --size GIB``."""
    verbs: tuple[str, ...] | None = None
    """Which commands there are; ``None``: all. Who uses another one is told the reason that the provider states."""


@dataclass(frozen=True)
class Defaults:
    """What the configuration says where a command does not, for any provider."""

    region: str | None = None
    instance_type: str | None = None
    spot: bool = False
    transport: str = "auto"
    ask_above: Decimal | None = None
    """USD an hour: nothing dearer is rented without somebody's yes."""
    ask_above_key: str = ""
    """The configuration key that says so."""
    mount_points: tuple[str, ...] = ()
    """``SOURCE:TARGET[:ro]`` for every run."""


@dataclass(frozen=True)
class HelpExamples:
    """What the examples in ``--help`` name: only what there is at this provider."""

    instance_types: tuple[str, ...] = ()
    gpu: str = "A100"
    spot: bool = False
    """It has spot machines."""
    unattended: bool = False
    """A group of its own can go on with a run."""


def no_defaults(_config: Config) -> Defaults:
    """For a provider whose configuration says nothing of these."""
    return Defaults()


def no_known_instances(_config: Config) -> Mapping[str, str]:
    """For a provider that has to be asked for its machines."""
    return {}


@dataclass(frozen=True)
class ProviderPlugin:
    """A provider, described."""

    name: str
    """The same as the entry point's: ``runctl NAME list``."""
    help: str
    """One line for ``runctl --help``."""
    make: Callable[[Config], Provider]
    """The provider for this configuration. It makes no call and prints nothing."""
    verbs: tuple[str, ...] = BASIC_VERBS
    """Which of `ALL_VERBS` it has. Who uses one of the others is told the reason that the provider states."""
    sections: Mapping[str, type] = field(default_factory=dict)
    """Configuration sections by name, as frozen dataclasses; see `runctl.core.config.values.rules_of`."""
    config_template: str = ""
    """What ``runctl init`` writes of its sections: TOML, with keys that are comments."""
    defaults: Callable[[Config], Defaults] = no_defaults
    global_options: Mapping[str, str] = field(default_factory=dict)
    """Which configuration key each of the global options ``region``, ``profile``, ``strict_host_key`` sets."""
    ids: tuple[IdKind, ...] = ()
    """Without one for instances, an instance's name is its id, unless there are `opaque_ids`."""
    opaque_ids: bool = False
    """The ids of its instances have no form by which they could be told from names: names are looked up first."""
    only_instance: str | None = None
    """The id of its one instance, which commands then do not ask for."""
    this_computer: bool = False
    """Its instance is the computer that runctl runs on."""
    transports: tuple[str, ...] = ("ssh",)
    """As `runctl.providers.interface.Provider.transports`: what ``--transport`` takes besides ``auto``."""
    create_options: tuple[CreateOption, ...] = ()
    volumes: VolumeGroup | None = None
    registry: str | None = None
    """What ``[docker] registry`` and ``--registry`` call its own image registry, such as ``ecr``."""
    commands: Mapping[str, Leaf | Branch] = field(default_factory=dict)
    """Commands of its own."""
    preview_option: tuple[str, str] | None = None
    """The option that shows a command's calls instead of making them, and its help; for a provider that has the ability
    `runctl.providers.interface.Provider.preview`."""
    instance_types: Callable[[], Mapping[str, str]] = dict
    """Instance types that can be offered without asking anybody, each with a few words about it."""
    known_instances: Callable[[Config], Mapping[str, str]] = no_known_instances
    """The machines that are known without asking anybody, by name, each with a few words about it: for completion, and
    to tell whose machine a name is. Never raises."""
    help_examples: HelpExamples = HelpExamples()
    account_variables: tuple[str, ...] = ()
    """Environment variables that lead to another account: names seen in one are not offered in another. A key
    among them is remembered by its digest."""

    def id_of(self, kind: str) -> IdKind | None:
        """How its ids of this kind look."""
        return next((each for each in self.ids if each.kind == kind), None)
