"""Every command's name, one-line help and place in the code, in one table that imports nothing of them.

Help at every level is shown from here; a command's module is imported when the command is used. What a provider has is
told by its entry point (`runctl.providers.plugin`), which is looked up when a provider's command or the whole list is
asked for.
"""

from __future__ import annotations

from collections.abc import Iterator

from runctl.core.errors import RunctlError
from runctl.providers import registry
from runctl.providers.plugin import Branch, Leaf, ProviderPlugin, VolumeGroup

_INSTANCES = "runctl.cli.machines.instances"
_CHECKPOINTS = "runctl.cli.checkpoints"
_VERBS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "create": (
        "Rent an instance and wait until it can be used.",
        "runctl.cli.machines.create:create_command",
        (),
    ),
    "list": ("List instances.", f"{_INSTANCES}:list_command", ("ls",)),
    "status": ("Show one instance.", f"{_INSTANCES}:status_command", ()),
    "wait": ("Wait until an instance can be used.", f"{_INSTANCES}:wait_command", ()),
    "start": ("Start a stopped instance.", f"{_INSTANCES}:start_command", ()),
    "stop": ("Stop instances, to start them again later.", f"{_INSTANCES}:stop_command", ()),
    "terminate": ("End instances for good; volumes stay.", f"{_INSTANCES}:terminate_command", ("rm",)),
    "exec": ("Run a command on an instance.", "runctl.cli.machines.exec:exec_command", ()),
    "launch": (
        "Train a script from start to finish: rent a machine if necessary, fetch the results, give it back.",
        "runctl.cli.train.launch:launch_command",
        (),
    ),
    "train": ("Train a script on an instance.", "runctl.cli.train.command:train_command", ("run",)),
    "monitor": (
        "Follow the log of a run, by default the newest one on the instance.",
        "runctl.cli.train.command:monitor_command",
        ("logs", "watch"),
    ),
    "processes": (
        "Show what runs on an instance, and what it uses.",
        "runctl.cli.train.command:processes_command",
        ("ps",),
    ),
    "ssh": ("Open a shell on an instance.", "runctl.cli.machines.exec:ssh_command", ()),
}
"""What a provider may have: help, place and aliases of each verb, in the order of help."""

_VOLUME_VERBS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "create": ("Create a volume.", "volumes:create_command", ()),
    "list": ("List volumes.", "volumes:list_command", ("ls",)),
    "show": ("Show one volume and its snapshots.", "volumes:show_command", ()),
    "attach": ("Attach a volume to an instance and mount it.", "attaching:attach_command", ()),
    "mount": ("Mount a volume that is attached.", "attaching:mount_command", ()),
    "detach": ("Unmount a volume and detach it.", "attaching:detach_command", ()),
    "resize": (
        "Make a volume larger or faster while it is in use.",
        "resizing:resize_command",
        ("extend",),
    ),
    "snapshot": ("Take a snapshot of a volume.", "snapshots:snapshot_command", ()),
    "snapshots": ("List snapshots.", "snapshots:list_command", ("snapshot-list",)),
    "snapshot-delete": ("Delete snapshots.", "snapshots:delete_command", ()),
    "restore": ("Create a volume from a snapshot.", "snapshots:restore_command", ()),
    "clone": ("Copy a volume within its zone.", "copies:clone_command", ("fork",)),
    "move": ("Move a volume's data to another zone.", "copies:move_command", ()),
    "replicate": ("Keep a volume's data ready in other zones.", "copies:replicate_command", ()),
    "prewarm": (
        "Fill a volume from S3, or from the snapshot that it was made from.",
        "prewarm:prewarm_command",
        ("pre-warm",),
    ),
    "delete": ("Delete volumes and the data on them.", "volumes:delete_command", ("rm",)),
}
"""The commands about volumes, in modules of `runctl.cli.volumes`."""

REFUSED = "runctl.cli.framework.refused:refused_command"
"""Stands where a provider lacks an ability, and says why."""


def provider_commands(plugin: ProviderPlugin) -> Branch:
    """``runctl NAME``: the verbs that the provider has, its volumes, and what it brings itself."""
    children: dict[str, Leaf | Branch] = {}
    for verb, (help_text, target, aliases) in _VERBS.items():
        if verb in plugin.verbs:
            shows = verb in SHOWING_VERBS
            children[verb] = Leaf(help_text, target, plugin.name, aliases, shows_calls=shows)
        elif verb in ABILITY_OF:
            children[verb] = Leaf(
                f"Say why {plugin.name} has no {verb}.",
                REFUSED,
                f"{plugin.name} {verb}",
                aliases,
                hidden=True,
            )
    if plugin.volumes is not None:
        children[plugin.volumes.name] = _volume_commands(plugin, plugin.volumes)
    return Branch(plugin.help, {**children, **plugin.commands})


def _volume_commands(plugin: ProviderPlugin, group: VolumeGroup) -> Branch:
    """``runctl NAME volumes``, by whatever name the provider has for it."""
    children = {}
    for verb, (help_text, target, aliases) in _VOLUME_VERBS.items():
        if group.verbs is None or verb in group.verbs:
            shows = verb in SHOWING_VOLUME_VERBS
            entry_point = f"runctl.cli.volumes.{target}"
            children[verb] = Leaf(help_text, entry_point, plugin.name, aliases, shows_calls=shows)
        else:
            children[verb] = Leaf(
                f"Say why {plugin.name} has no {group.name} {verb}.",
                REFUSED,
                f"{plugin.name} {group.name} {verb}",
                aliases,
                hidden=True,
            )
    return Branch(group.help, children, () if group.name == VOLUMES else (VOLUMES,))


VOLUMES = "volumes"
"""What the group about volumes is called for every provider, besides by the provider's own name for it."""

SHOWING_VERBS = frozenset({"create", "launch", "start", "stop", "terminate"})
SHOWING_VOLUME_VERBS = frozenset(
    {
        "create",
        "attach",
        "mount",
        "detach",
        "resize",
        "snapshot",
        "snapshot-delete",
        "restore",
        "clone",
        "move",
        "prewarm",
        "delete",
    }
)
"""The commands whose calls a provider can show (`ProviderPlugin.preview_option`). What is done on a machine is told at
its place; ``train`` does all that it does there."""

ABILITY_OF = {
    "create": "renting",
    "terminate": "renting",
    "start": "stop_and_start",
    "stop": "stop_and_start",
    "volumes resize": "resizing",
    "volumes snapshot": "snapshots",
    "volumes snapshots": "snapshots",
    "volumes snapshot-delete": "snapshots",
    "volumes restore": "snapshots",
    "volumes clone": "clones",
    "volumes move": "snapshots",
    "volumes replicate": "snapshots",
    "volumes prewarm": "filling",
}
"""Which of a provider's abilities a verb needs; see `runctl.providers.interface.Provider`."""

DOCKER = Branch(
    "Build, push, list and prune the project's images.",
    {
        "detect": Leaf(
            "Show which Dockerfile an image would be built from, and why.",
            "runctl.cli.docker.build:detect_command",
        ),
        "build": Leaf(
            "Build the project's image, unless it is there.", "runctl.cli.docker.build:build_command"
        ),
        "push": Leaf(
            "Push the image of the project as it is now, unless the registry has it.",
            "runctl.cli.docker.build:push_command",
        ),
        "build-push": Leaf(
            "Build the project's image and push it, unless the registry has it.",
            "runctl.cli.docker.build:build_push_command",
        ),
        "list": Leaf("List the project's images.", "runctl.cli.docker.images:list_command", aliases=("ls",)),
        "prune": Leaf(
            "Remove all but the newest images of the project.", "runctl.cli.docker.images:prune_command"
        ),
    },
)

ROOT_HELP = "Train any script on one rented machine: spot prices, EBS volumes and Docker."

_FIRST: dict[str, Leaf | Branch] = {
    "init": Leaf("Write a .runctl.toml for this project.", "runctl.cli.settings.init:init"),
    "doctor": Leaf(
        "Say what works, what is missing, and the exact fix.", "runctl.cli.settings.doctor:doctor"
    ),
    "providers": Leaf(
        "Show what each provider can do, and why it cannot do the rest.",
        "runctl.cli.settings.providers:providers",
    ),
}
"""Before the providers in help."""

_LAST: dict[str, Leaf | Branch] = {
    "offers": Leaf(
        "Show what machines cost, wherever they can be rented.",
        "runctl.cli.machines.offers:offers",
    ),
    "status": Leaf(
        "Show what runs now, where, since when and at what price, and what was spent today and this month.",
        "runctl.cli.costs.status:status_command",
    ),
    "top": Leaf(
        "Watch machines, runs and costs, live.",
        "runctl.cli.top.command:top_command",
    ),
    "docker": DOCKER,
    "cp": Leaf("Copy files to or from an instance, or out of a run's folders.", "runctl.cli.machines.cp:cp"),
    "checkpoint": Branch(
        "List, verify, fetch, put back and prune checkpoints.",
        {
            "list": Leaf(
                "List the checkpoints of a run, a folder or an instance's folder, newest first.",
                f"{_CHECKPOINTS}.reading:list_command",
                aliases=("ls",),
            ),
            "show": Leaf(
                "Show one checkpoint: its files and their SHA-256.", f"{_CHECKPOINTS}.reading:show_command"
            ),
            "verify": Leaf(
                "Read checkpoints completely, and check them against their formats and checksums.",
                f"{_CHECKPOINTS}.reading:verify_command",
            ),
            "pull": Leaf("Fetch a checkpoint into a local folder.", f"{_CHECKPOINTS}.copying:pull_command"),
            "push": Leaf(
                "Put a checkpoint where a run can resume from it.", f"{_CHECKPOINTS}.copying:push_command"
            ),
            "prune": Leaf("Remove older checkpoints.", f"{_CHECKPOINTS}.prune:prune_command"),
            "resume": Leaf(
                "Start a further attempt of a run on its machine, from its newest checkpoint there.",
                f"{_CHECKPOINTS}.resume:resume_command",
            ),
        },
    ),
    "runs": Branch(
        "List runs, show one, read its log, fetch its results, stop or recover it, remove what it keeps.",
        {
            "list": Leaf(
                "List runs, newest first.", "runctl.cli.runs.commands:list_command", aliases=("ls",)
            ),
            "show": Leaf("Show one run.", "runctl.cli.runs.commands:show_command", aliases=("status",)),
            "logs": Leaf("Print the log of a run.", "runctl.cli.runs.commands:logs_command"),
            "results": Leaf(
                "Fetch what a run wrote to this computer.", "runctl.cli.runs.results:results_command"
            ),
            "stop": Leaf(
                "Stop runs: SIGTERM first, so that a script can save, then SIGKILL. The machines stay.",
                "runctl.cli.runs.commands:stop_command",
            ),
            "interrupt": Leaf(
                "Rehearse an interruption: a run gets its notice as if its machine were taken back, and ends.",
                "runctl.cli.runs.commands:interrupt_command",
            ),
            "recover": Leaf(
                "Start the next attempt of a run that was interrupted, on another machine.",
                "runctl.cli.runs.recovery:recover_command",
            ),
            "watch": Leaf(
                "Recover runs whenever they are interrupted, until all have ended.",
                "runctl.cli.runs.recovery:watch_command",
            ),
            "prune": Leaf(
                "Remove what ended runs keep on machines and on this computer.",
                "runctl.cli.runs.prune:prune_command",
            ),
        },
    ),
    "resources": Branch(
        "Show everything that runctl has made with providers, and remove what nobody needs.",
        {
            "list": Leaf(
                "List everything that runctl has made: every kind, in all regions at once.",
                "runctl.cli.resources.listing:list_command",
                aliases=("ls",),
            ),
            "show": Leaf(
                "Show one resource, and whether a cleanup would remove it.",
                "runctl.cli.resources.listing:show_command",
            ),
            "summary": Leaf(
                "Count what runctl has made, with its size and its cost per month.",
                "runctl.cli.resources.listing:summary_command",
            ),
            "insights": Leaf(
                "Show what could cost less: the saving per month and the exact command, the largest first.",
                "runctl.cli.resources.listing:insights_command",
            ),
            "cleanup": Leaf(
                "Remove what runctl has made and nobody needs any more.",
                "runctl.cli.resources.removing:cleanup_command",
            ),
            "stop-all": Leaf(
                "Make every machine of yours stop costing by the hour, in all regions.",
                "runctl.cli.resources.removing:stop_all_command",
            ),
            "adopt": Leaf(
                "Take over what another computer created.", "runctl.cli.resources.removing:adopt_command"
            ),
            "export": Leaf(
                "Write the list as CSV, JSON or a page that needs no network.",
                "runctl.cli.resources.listing:export_command",
            ),
        },
    ),
    "cost": Branch(
        "Show what was spent.",
        {
            "report": Leaf(
                "Show what was spent, from the ledger of this computer.",
                "runctl.cli.costs.report:report_command",
            ),
            "run": Leaf(
                "Show what a run cost: each attempt, and what the same would have cost on demand.",
                "runctl.cli.costs.report:run_command",
            ),
            "reconcile": Leaf(
                "Compare the ledger with the bill for what runctl has made, and explain the differences.",
                "runctl.cli.costs.report:reconcile_command",
            ),
        },
    ),
    "export": Branch(
        "Write what runctl has, or would do, for other tools.",
        {
            "kubernetes": Leaf(
                "Write a run as a Kubernetes Job, with what it needs.",
                "runctl.cli.export.kubernetes:kubernetes_command",
                aliases=("k8s",),
            ),
            "terraform": Leaf(
                "Write what runctl has made as Terraform's resources, with their imports.",
                "runctl.cli.export.terraform:terraform_command",
            ),
        },
    ),
    "sandbox": Branch(
        "AWS on this computer, for trying things out.",
        {
            "start": Leaf("Start the sandbox.", "runctl.cli.sandbox:start"),
            "stop": Leaf("Stop the sandbox and everything in it.", "runctl.cli.sandbox:stop"),
            "status": Leaf("Say whether the sandbox runs, and where.", "runctl.cli.sandbox:status"),
            "env": Leaf("Print the variables that point programs to the sandbox.", "runctl.cli.sandbox:env"),
            "interrupt": Leaf(
                "Give spot instances their notice, then take them back.",
                "runctl.cli.sandbox_faults:interrupt",
            ),
            "rebalance": Leaf(
                "Give spot instances a rebalance recommendation.", "runctl.cli.sandbox_faults:rebalance"
            ),
            "kill": Leaf("Kill instances without notice.", "runctl.cli.sandbox_faults:kill"),
            "capacity": Leaf(
                "Set how many instances there can be in a zone.", "runctl.cli.sandbox_faults:capacity"
            ),
            "quota": Leaf(
                "Set how many vCPUs the account may run at once.", "runctl.cli.sandbox_faults:quota"
            ),
            "store": Leaf("Set how S3 behaves: slow, or away.", "runctl.cli.sandbox_faults:store"),
            "replay": Leaf(
                "Play traces of spot capacity: launches are refused, instances interrupted.",
                "runctl.cli.sandbox_faults:replay",
            ),
            "faults": Leaf(
                "Show the faults that are set, or clear them.", "runctl.cli.sandbox_faults:faults"
            ),
        },
    ),
    "config": Branch(
        "Show, check and change the configuration.",
        {
            "show": Leaf("Show every value and where it comes from.", "runctl.cli.settings.config:show"),
            "set": Leaf("Set a key in a configuration file.", "runctl.cli.settings.config:set_command"),
            "trust": Leaf(
                "Trust the project's configuration file.", "runctl.cli.settings.config:trust_command"
            ),
            "validate": Leaf(
                "Check the configuration files and variables.", "runctl.cli.settings.config:validate"
            ),
        },
    ),
    "simulate": Leaf(
        "Compare what spot and on-demand policies would have cost.", "runctl.cli.simulate:simulate"
    ),
    "completion": Leaf(
        "Print the completion script of a shell.", "runctl.cli.framework.completion:completion"
    ),
    "version": Leaf("Print the version.", "runctl.cli.version:version"),
}

GLOBAL_OPTIONS = (
    ("--output text|json", "How results are printed on stdout."),
    ("-q, --quiet", "Print ids only, and no progress."),
    ("-y, --yes", "Answer yes to every question."),
    ("-v, --verbose", "Show details, and tracebacks of unexpected errors."),
    ("--config FILE", "Use this file in place of the project's."),
    ("--profile NAME", "Use this profile of the provider's own configuration."),
    ("--region NAME", "Use this region."),
    ("--strict-host-key", "Refuse a machine whose SSH host key cannot be verified."),
    ("-h, --help", "Show this message and exit."),
)
"""As shown in help; they may stand before or after any command."""


def entry_of(name: str) -> Leaf | Branch | None:
    """The command of that name below ``runctl``; a provider is loaded for its own name only.

    Raises `Unsupported` for a provider that does not work.
    """
    own = {**_FIRST, **_LAST}.get(name)
    if own is not None or name not in registry.names():
        return own
    return provider_commands(registry.plugin(name))


def root() -> Branch:
    """Everything below ``runctl``, with every provider."""
    return Branch(ROOT_HELP, {**_FIRST, **_providers(), **_LAST})


def _providers() -> dict[str, Leaf | Branch]:
    found: dict[str, Leaf | Branch] = {}
    for name in registry.names():
        try:
            found[name] = provider_commands(registry.plugin(name))
        except RunctlError:
            found[name] = Branch("This provider does not work: runctl doctor says why.", {})
    return found


def commands_named(wanted: str) -> tuple[str, ...]:
    """The commands below a group that have this name or alias, such as ``runctl aws train`` for ``train``."""

    def below(branch: Branch, path: str) -> Iterator[str]:
        for name, child in branch.children.items():
            if isinstance(child, Branch):
                yield from below(child, f"{path} {name}")
            elif path != "runctl" and not child.hidden and wanted in (name, *child.aliases):
                yield f"{path} {name}"

    return tuple(below(root(), "runctl"))
