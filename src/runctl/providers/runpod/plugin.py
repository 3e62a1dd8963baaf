"""RunPod, described for the command line. Importing this imports no HTTP client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runctl.providers.plugin import (
    ALL_VERBS,
    CreateOption,
    Defaults,
    HelpExamples,
    ProviderPlugin,
    VolumeGroup,
)
from runctl.providers.runpod.settings import RunPodConfig

if TYPE_CHECKING:
    from runctl.core.config import Config
    from runctl.providers.interface import Provider

CONFIG_TEMPLATE = """\
[runpod]
# instance_type = "rtx-4090"      # or "rtx-4090.2x"
# cloud = "community"             # "secure" without it
# ask_above = 5.0                 # USD an hour: nothing dearer without a yes
"""


def make(config: Config) -> Provider:
    """The provider for this configuration. Makes no call."""
    from runctl.core.clock import SystemClock
    from runctl.core.files import data_folder
    from runctl.core.journal import Journal
    from runctl.providers.runpod.context import RunPodContext
    from runctl.providers.runpod.runpod_provider import RunPodProvider

    return RunPodProvider(
        RunPodContext(config.section(RunPodConfig), SystemClock(), data_folder() / "runpod", Journal())
    )


def defaults(config: Config) -> Defaults:
    """What ``[runpod]`` says of things that every provider may have."""
    settings = config.section(RunPodConfig)
    return Defaults(
        instance_type=settings.instance_type,
        ask_above=settings.ask_above,
        ask_above_key="[runpod] ask_above",
    )


plugin = ProviderPlugin(
    name="runpod",
    help="Rent pods at RunPod and train on them.",
    make=make,
    verbs=ALL_VERBS,
    sections={"runpod": RunPodConfig},
    config_template=CONFIG_TEMPLATE,
    defaults=defaults,
    global_options={"strict_host_key": "runpod.strict_host_key"},
    create_options=(
        CreateOption("--cloud", "secure (RunPod's own) or community.", metavar="CLOUD"),
        CreateOption(
            "--pod-image",
            "The pod's image; it needs Python (default: RunPod's own PyTorch image).",
            field="image",
            metavar="IMAGE",
        ),
    ),
    volumes=VolumeGroup(
        "volumes",
        "Keep data on network volumes that outlive pods.",
        types=("standard", "high-performance"),
        chosen_at_creation=True,
        creating="volumes create --size GB --zone DATA_CENTRE",
        verbs=("create", "list", "show", "resize", "delete"),
    ),
    opaque_ids=True,
    help_examples=HelpExamples(("rtx-4090",), "RTX 4090"),
    account_variables=("RUNPOD_API_KEY",),
)
