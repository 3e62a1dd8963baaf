"""Whether a container is given GPUs: asked for and not to be had is an error, never a run without them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from runctl.agent.containers.docker import Engine
from runctl.agent.errors import AgentError

INSTALL = "install NVIDIA's container toolkit, or take a deep-learning image, which has it"


@dataclass(frozen=True)
class Seen:
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


def decide(wish: str, seen: Seen) -> Decision:
    """What the container gets. Pure.

    Raises `AgentError`: ``bad-request`` for a wish that is none, ``no-gpu`` when GPUs were asked for that
    cannot be given.
    """
    if wish == "none":
        return Decision()
    if wish not in ("auto", "all") and not (wish.isascii() and wish.isdigit() and int(wish) > 0):
        raise AgentError("bad-request", f"--gpus is auto, all, none or a number, not {wish!r}")
    if wish == "auto":
        if seen.count == 0:
            return Decision()
        if not seen.toolkit:
            words = "the machine has {}, but Docker cannot give them to a container: the run goes without; {}"
            return Decision(warning=words.format(_gpus(seen.count), INSTALL))
        return Decision("all")
    if seen.count == 0:
        raise AgentError(
            "no-gpu",
            f"--gpus {wish}: this machine has no NVIDIA GPU (nvidia-smi finds none)",
            "take an instance type with GPUs, such as g5.xlarge, or leave --gpus out",
        )
    if not seen.toolkit:
        raise AgentError(
            "no-gpu",
            f"--gpus {wish}: the machine has {_gpus(seen.count)}, but Docker cannot give them to a container",
            INSTALL,
        )
    if wish != "all" and int(wish) > seen.count:
        raise AgentError(
            "no-gpu",
            f"--gpus {wish}: the machine has only {_gpus(seen.count)}",
            "ask for fewer, or take a larger instance type",
        )
    return Decision(wish)


def _gpus(count: int) -> str:
    return "a GPU" if count == 1 else f"{count} GPUs"


def look(engine: Engine) -> Seen:
    """Ask the machine and its engine."""
    from runctl.agent.machine.gpus import gpus

    count = len(gpus())
    if count == 0:
        return Seen()
    if shutil.which("nvidia-container-runtime-hook") or shutil.which("nvidia-container-cli"):
        return Seen(count, toolkit=True)
    done = engine.call("info", "--format", "{{json .Runtimes}}")
    return Seen(count, toolkit=done.returncode == 0 and b"nvidia" in done.stdout)
