"""Whether a container is given GPUs: asked for and not to be had is an error, never a run without them."""

from __future__ import annotations

import shutil

from runctl._dataclasses import dataclass
from runctl.agent.errors import AgentError
from runctl.agent.machine.docker import Engine

INSTALL = "install NVIDIA's container toolkit, or take a deep-learning image, which has it"


@dataclass(frozen=True)
class MachineGpus:
    """What the machine has."""

    count: int = 0
    """As ``nvidia-smi`` lists them."""
    toolkit: bool = False
    """The engine can hand them to containers."""


@dataclass(frozen=True)
class Decision:
    """The value of ``docker --gpus``, empty for none, and what is to be said about it."""

    value: str = ""
    warning: str = ""


def decide(requested: str, found: MachineGpus) -> Decision:
    """What the container gets. Pure.

    Raises `AgentError`: ``bad-request`` for a request that is none, ``no-gpu`` when GPUs were asked for that
    cannot be given.
    """
    if requested == "none":
        return Decision()
    if requested not in ("auto", "all") and not (
        requested.isascii() and requested.isdigit() and int(requested) > 0
    ):
        raise AgentError("bad-request", f"--gpus is auto, all, none or a number, not {requested!r}")
    if requested == "auto":
        if found.count == 0:
            return Decision()
        if not found.toolkit:
            return Decision(
                warning=f"the machine has {_gpus(found.count)}, but Docker cannot give them to a container:"
                f" the run goes without; {INSTALL}"
            )
        return Decision("all")
    if found.count == 0:
        raise AgentError(
            "no-gpu",
            f"--gpus {requested}: this machine has no NVIDIA GPU (nvidia-smi finds none)",
            "rent a machine with GPUs (runctl offers lists them), or leave --gpus out",
        )
    if not found.toolkit:
        raise AgentError(
            "no-gpu",
            f"--gpus {requested}: the machine has {_gpus(found.count)}, but Docker cannot give them to a container",
            INSTALL,
        )
    if requested != "all" and int(requested) > found.count:
        raise AgentError(
            "no-gpu",
            f"--gpus {requested}: the machine has only {_gpus(found.count)}",
            "ask for fewer, or take a larger instance type",
        )
    return Decision(requested)


def _gpus(count: int) -> str:
    return "a GPU" if count == 1 else f"{count} GPUs"


def find_gpus(engine: Engine) -> MachineGpus:
    """Ask the machine and its engine."""
    from runctl.agent.machine.gpus import gpus

    count = len(gpus())
    if count == 0:
        return MachineGpus()
    if shutil.which("nvidia-container-runtime-hook") or shutil.which("nvidia-container-cli"):
        return MachineGpus(count, toolkit=True)
    done = engine.call("info", "--format", "{{json .Runtimes}}")
    return MachineGpus(count, toolkit=done.returncode == 0 and b"nvidia" in done.stdout)
