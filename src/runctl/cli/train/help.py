"""How ``train --help`` is laid out: its options by subject, and examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runctl.providers.registry import plugin

SECTIONS: Mapping[str, Sequence[str]] = {
    "What runs": ("--command", "--interpreter", "--env", "--env-file", "--workdir", "--contract"),
    "The run": (
        "--wait",
        "--watch",
        "--restart-on-change",
        "--run-name",
        "--timeout",
        "--grace",
        "--auto-resume",
        "--max-attempts",
        "--retry-within",
        "--progress-pattern",
        "--dry-run",
        "--transport",
    ),
    "Checkpoints": (
        "--checkpoint-s3",
        "--checkpoint-folder",
        "--checkpoint-endpoint",
        "--checkpoint-every",
        "--checkpoint-signal",
        "--keep-last",
        "--keep-best",
        "--no-checkpoint",
        "--resume-from",
        "--resume-arg",
    ),
    "Code": ("--sync-code", "--dev-mode", "--include-pattern"),
    "Volumes": ("--volume", "--ebs-mount", "--ebs-volume", "--mount-point", "--no-ebs-auto"),
    "Container": (
        *(
            "--docker",
            "--image",
            "--compose",
            "--entrypoint",
            "--user",
            "--gpus",
            "--shm-size",
            "--docker-arg",
        ),
    ),
    "Image build": (
        *("--dockerfile", "--dockerfile-search", "--target", "--build-arg", "--secret", "--platform"),
        *("--rebuild", "--pull", "--build-on"),
    ),
}
"""Option names by the title of their section in help."""


def train_examples(provider: str) -> tuple[tuple[str, str], ...]:
    """Command lines, each with what it does."""
    train = f"runctl {provider} train"
    if plugin(provider).this_computer:
        return (
            (f"{train} train.py --wait -- --epochs 5", "follow the log, and exit with the script's code"),
            (f"{train} train.py --ebs-mount ./data:/data", "mount a folder at /data for the script"),
        )
    with_volume = (
        (f"{train} digits train.py --volume datasets:/data", "attach a volume, and mount it for the script"),
    )
    group = plugin(provider).volumes
    attaches = group is not None and not group.chosen_at_creation
    return (
        (f"{train} digits train.py --wait -- --epochs 5", "follow the log, and exit with the script's code"),
        *(with_volume if attaches else ()),
        (f"{train} digits train.py --dev-mode --watch", "sync every save; r restarts the run"),
        (f"{train} digits --command -- torchrun -m digits.train", "run a command instead of a script"),
    )
