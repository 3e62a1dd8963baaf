"""Lyceum AI, described for the command line. Importing this imports no HTTP client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runctl.providers.lyceum.settings import LyceumConfig
from runctl.providers.plugin import (
    BASIC_VERBS,
    RENTING_VERBS,
    CreateOption,
    Defaults,
    HelpExamples,
    IdKind,
    ProviderPlugin,
    VolumeGroup,
)

if TYPE_CHECKING:
    from runctl.core.config import Config
    from runctl.providers.interface import Provider

CONFIG_TEMPLATE = """\
[lyceum]
# instance_type = "h100"          # or "h100.4x"
# spot = true
# ask_above = 5.0                 # USD an hour: nothing dearer without a yes
"""


def make(config: Config) -> Provider:
    """The provider for this configuration. Makes no call."""
    from runctl.core.clock import SystemClock
    from runctl.core.files import data_folder
    from runctl.core.journal import Journal
    from runctl.providers.lyceum.context import LyceumContext
    from runctl.providers.lyceum.lyceum_provider import LyceumProvider

    return LyceumProvider(
        LyceumContext(config.section(LyceumConfig), SystemClock(), data_folder() / "lyceum", Journal())
    )


def defaults(config: Config) -> Defaults:
    """What ``[lyceum]`` says of things that every provider may have."""
    settings = config.section(LyceumConfig)
    return Defaults(
        instance_type=settings.instance_type,
        spot=settings.spot,
        ask_above=settings.ask_above,
        ask_above_key="[lyceum] ask_above",
    )


def instance_types() -> dict[str, str]:
    """Those that Lyceum is known to sell."""
    from runctl.providers.lyceum.catalogue import PROFILES

    return {
        f"{name}.{count}x": f"{count} {name.upper()}, {profile.gpu_memory_gb} GB each"
        for name, profile in PROFILES.items()
        for count in (1, 2, 4, 8)
    }


plugin = ProviderPlugin(
    name="lyceum",
    help="Rent machines at Lyceum AI and train on them.",
    make=make,
    verbs=(*BASIC_VERBS, *RENTING_VERBS, "ssh"),
    sections={"lyceum": LyceumConfig},
    config_template=CONFIG_TEMPLATE,
    defaults=defaults,
    global_options={"strict_host_key": "lyceum.strict_host_key"},
    ids=(
        IdKind(
            "instance",
            "",
            "[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
            "9918b72c1dce41a6875abaf5d5ab64e9",
        ),
    ),
    volumes=VolumeGroup(
        "volumes",
        "Keep data on block volumes, which are made with a machine and outlive it.",
        types=("block",),
        chosen_at_creation=True,
        creating="create --new-volume GB",
        verbs=("list", "show", "delete"),
    ),
    create_options=(
        CreateOption(
            "--new-volume",
            "Create a block volume of this many GB with the machine; it stays when the machine has ended.",
            section="Volumes",
            metavar="GB",
            least=1,
        ),
    ),
    instance_types=instance_types,
    help_examples=HelpExamples(("a100.1x",), spot=True),
    account_variables=("LYCEUM_API_KEY", "LYCEUM_ORG"),
)
