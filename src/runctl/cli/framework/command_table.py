"""Every command's name, one-line help and place in the code, in one table that imports nothing else.

Help at every level is shown from here; a command's module is imported when the command is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple


class Leaf(NamedTuple):
    """A command (or a group with a module of its own)."""

    help: str
    target: str
    """``module:name``; a click command, or with `argument` a function that makes one."""
    argument: str | None = None
    aliases: tuple[str, ...] = ()


class Branch(NamedTuple):
    """A group of commands."""

    help: str
    children: Mapping[str, Leaf | Branch]
    aliases: tuple[str, ...] = ()


def _machines(provider: str) -> dict[str, Leaf | Branch]:
    """The verbs that every provider has."""
    return {
        "list": Leaf("List instances.", "runctl.cli.machines.instances:list_command", provider, ("ls",)),
        "status": Leaf("Show one instance.", "runctl.cli.machines.instances:status_command", provider),
        "exec": Leaf("Run a command on an instance.", "runctl.cli.machines.exec:exec_command", provider),
        "train": Leaf(
            "Train a script on an instance.", "runctl.cli.train.command:train_command", provider, ("run",)
        ),
        "monitor": Leaf(
            "Follow the log of a run, by default the newest one on the instance.",
            "runctl.cli.train.command:monitor_command",
            provider,
            ("logs", "watch"),
        ),
        "processes": Leaf(
            "Show what runs on an instance, and what it uses.",
            "runctl.cli.train.command:processes_command",
            provider,
            ("ps",),
        ),
    }


AWS = Branch(
    "Rent machines on AWS and train on them.",
    {
        "create": Leaf(
            "Rent an instance and wait until it can be used.",
            "runctl.cli.machines.create:create_command",
            "aws",
        ),
        "list": _machines("aws")["list"],
        "status": _machines("aws")["status"],
        "wait": Leaf(
            "Wait until an instance can be used.", "runctl.cli.machines.instances:wait_command", "aws"
        ),
        "start": Leaf("Start a stopped instance.", "runctl.cli.machines.instances:start_command", "aws"),
        "stop": Leaf(
            "Stop instances; their disks stay.", "runctl.cli.machines.instances:stop_command", "aws"
        ),
        "terminate": Leaf(
            "End instances for good; EBS volumes stay.",
            "runctl.cli.machines.instances:terminate_command",
            "aws",
            ("rm",),
        ),
        **{verb: leaf for verb, leaf in _machines("aws").items() if verb not in {"list", "status"}},
        "ssh": Leaf("Open a shell on an instance.", "runctl.cli.machines.exec:ssh_command", "aws"),
        "ebs": Branch(
            "Keep data on EBS volumes that outlive instances.",
            {
                "create": Leaf("Create a volume.", "runctl.cli.volumes.volumes:create_command", "aws"),
                "list": Leaf("List volumes.", "runctl.cli.volumes.volumes:list_command", "aws", ("ls",)),
                "show": Leaf(
                    "Show one volume and its snapshots.", "runctl.cli.volumes.volumes:show_command", "aws"
                ),
                "attach": Leaf(
                    "Attach a volume to an instance and mount it.",
                    "runctl.cli.volumes.attaching:attach_command",
                    "aws",
                ),
                "mount": Leaf(
                    "Mount a volume that is attached.", "runctl.cli.volumes.attaching:mount_command", "aws"
                ),
                "detach": Leaf(
                    "Unmount a volume and detach it.", "runctl.cli.volumes.attaching:detach_command", "aws"
                ),
                "resize": Leaf(
                    "Make a volume larger or faster while it is used.",
                    "runctl.cli.volumes.resizing:resize_command",
                    "aws",
                    ("extend",),
                ),
                "snapshot": Leaf(
                    "Take a snapshot of a volume.", "runctl.cli.volumes.snapshots:snapshot_command", "aws"
                ),
                "snapshots": Leaf(
                    "List snapshots.", "runctl.cli.volumes.snapshots:list_command", "aws", ("snapshot-list",)
                ),
                "snapshot-delete": Leaf(
                    "Delete snapshots.", "runctl.cli.volumes.snapshots:delete_command", "aws"
                ),
                "restore": Leaf(
                    "Make a volume from a snapshot.", "runctl.cli.volumes.snapshots:restore_command", "aws"
                ),
                "clone": Leaf(
                    "Copy a volume within its zone.",
                    "runctl.cli.volumes.copies:clone_command",
                    "aws",
                    ("fork",),
                ),
                "move": Leaf(
                    "Take a volume's data to another zone.", "runctl.cli.volumes.copies:move_command", "aws"
                ),
                "prewarm": Leaf(
                    "Fill a volume from S3, or from the snapshot that it was made from.",
                    "runctl.cli.volumes.prewarm:prewarm_command",
                    "aws",
                    ("pre-warm",),
                ),
                "delete": Leaf(
                    "Delete volumes and the data on them.",
                    "runctl.cli.volumes.volumes:delete_command",
                    "aws",
                    ("rm",),
                ),
            },
        ),
    },
)

LOCAL = Branch("Train on this computer, with the same verbs.", _machines("local"))

DOCKER = Branch(
    "Build the project's image, push it, and see what there is of it.",
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

ROOT = Branch(
    "Train any script on one rented machine: spot prices, EBS volumes and Docker.",
    {
        "init": Leaf("Write a .runctl.toml for this project.", "runctl.cli.settings.init:init"),
        "doctor": Leaf(
            "Say what works, what is missing, and the exact fix.", "runctl.cli.settings.doctor:doctor"
        ),
        "aws": AWS,
        "local": LOCAL,
        "docker": DOCKER,
        "cp": Leaf(
            "Copy files to or from an instance, or out of a run's folders.", "runctl.cli.machines.cp:cp"
        ),
        "runs": Branch(
            "List runs, show one, read its log, stop it, remove what it keeps.",
            {
                "list": Leaf(
                    "List runs, newest first.", "runctl.cli.runs.commands:list_command", aliases=("ls",)
                ),
                "show": Leaf("Show one run.", "runctl.cli.runs.commands:show_command", aliases=("status",)),
                "logs": Leaf("Print the log of a run.", "runctl.cli.runs.commands:logs_command"),
                "stop": Leaf(
                    "Stop runs: SIGTERM first, so that a script can save, then SIGKILL. The machines stay.",
                    "runctl.cli.runs.commands:stop_command",
                ),
                "prune": Leaf(
                    "Remove what ended runs keep on machines and on this computer.",
                    "runctl.cli.runs.prune:prune_command",
                ),
            },
        ),
        "sandbox": Branch(
            "AWS on this computer, for trying things out.",
            {
                "start": Leaf("Start the sandbox.", "runctl.cli.sandbox:start"),
                "stop": Leaf("Stop the sandbox and everything in it.", "runctl.cli.sandbox:stop"),
                "status": Leaf("Say whether the sandbox runs, and where.", "runctl.cli.sandbox:status"),
                "env": Leaf("Print the variables that lead into the sandbox.", "runctl.cli.sandbox:env"),
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
        "completion": Leaf(
            "Print the completion script of a shell.", "runctl.cli.framework.completion:completion"
        ),
        "version": Leaf("Print the version.", "runctl.cli.version:version"),
    },
)

GLOBAL_OPTIONS = (
    ("--output text|json", "How results are printed on stdout."),
    ("-q, --quiet", "Print ids only, and no progress."),
    ("-y, --yes", "Answer yes to every question."),
    ("-v, --verbose", "Show details, and tracebacks of unexpected errors."),
    ("--config FILE", "Use this file in place of the project's."),
    ("--profile NAME", "Use this profile of the AWS configuration."),
    ("--region NAME", "Use this AWS region."),
    ("--strict-host-key", "Refuse a machine whose SSH host key nothing vouches for."),
    ("-h, --help", "Show this message and exit."),
)
"""As shown in help; they may stand before or after any command."""


def root_help() -> str:
    """What ``runctl --help`` prints."""
    options = (*GLOBAL_OPTIONS[:-1], ("--version", "Print the version and exit."), GLOBAL_OPTIONS[-1])
    return "\n".join(
        (
            "Usage: runctl [OPTIONS] COMMAND [ARGS]...",
            "",
            f"  {ROOT.help}",
            "",
            "Commands:",
            *_rows([(name, help_line(entry)) for name, entry in ROOT.children.items()]),
            "",
            "Options (before or after any command):",
            *_rows(options),
            "",
            "  runctl COMMAND --help says more; runctl doctor says what works here.",
        )
    )


def commands_named(word: str) -> tuple[str, ...]:
    """The commands below a group that have this name or alias, such as ``runctl aws train`` for ``train``."""

    def below(branch: Branch, path: str) -> Iterator[str]:
        for name, child in branch.children.items():
            if isinstance(child, Branch):
                yield from below(child, f"{path} {name}")
            elif path != "runctl" and word in (name, *child.aliases):
                yield f"{path} {name}"

    return tuple(below(ROOT, "runctl"))


def help_line(entry: Leaf | Branch) -> str:
    """The one-line help with the names that mean the same."""
    return f"{entry.help} (aliases: {', '.join(entry.aliases)})" if entry.aliases else entry.help


def _rows(rows: tuple[tuple[str, str], ...] | list[tuple[str, str]]) -> list[str]:
    width = max(len(left) for left, _ in rows)
    return [f"  {left.ljust(width)}  {right}" for left, right in rows]
