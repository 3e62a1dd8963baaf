"""Everything that can be known to be wrong with a run before any of it is made."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from runctl.agent import sagemaker
from runctl.agent.checkpoint_spec import CHECKPOINT_SIGNALS
from runctl.agent.disks import mountns
from runctl.agent.disks.mount_checks import check_mounts, is_target
from runctl.agent.encoding import from_json
from runctl.agent.engines import check_node
from runctl.agent.environments import script
from runctl.agent.errors import AgentError
from runctl.agent.machine.root import root_available, state_directory
from runctl.agent.records import RESERVE_BYTES, attempt_folder
from runctl.agent.spec import CONTRACTS, ContainerSpec, RunSpec
from runctl.agent.trees.names import current, is_name, tree_folder

VARIABLE = re.compile(r"[^=\0]+")
BUILTIN = ("fill",)
"""The agent's own programs that a run may be."""
LEAST_FREE_BYTES = 16 << 20


def check(spec: RunSpec) -> str | None:
    """The run could start. Returns the digest of its tree; ``None`` where it needs none.

    Raises `AgentError`, saying what is wrong and what to do.
    """
    _values(spec)
    _node(spec)
    _room()
    tree = _tree(spec)
    check_mounts(spec)
    in_store = False
    if spec.resume_from is not None:
        from runctl.agent.checkpoints.stores import is_prefix

        in_store = is_prefix(spec.resume_from)
    if spec.resume_from is not None and not in_store:
        from runctl.agent.checkpoints import resume

        if not is_target(spec.resume_from):
            raise AgentError("bad-request", f"{spec.resume_from!r} is not an absolute path")
        resume.check(spec)
    if spec.store is not None or in_store:
        from runctl.agent.supervising.publishing import check_store

        check_store(spec, os.environ)
    if spec.machine_end is not None and spec.machine_end.results_url is not None:
        from runctl.agent.supervising.publishing import variables
        from runctl.agent.supervising.results import check_results

        check_results(spec, {**spec.machine_end.results_env, **variables(spec, os.environ)})
    if spec.container is not None:
        _can_run(spec.container)
    else:
        why = mountns.impossible(mountns.to_bind(spec), root_available())
        if why is not None:
            raise AgentError("cannot-mount", why, "use the same path for both: --ebs-mount PATH:PATH")
        shown = sagemaker.with_mounts(spec, attempt_folder(spec.run_id, spec.attempt))
        why = mountns.impossible(mountns.to_bind(shown), root_available())
        if why is not None:
            raise AgentError(
                "cannot-mount", why, "run in a container, where --contract needs no root: --image"
            )
    return tree


def check_machine(request: Mapping[str, Any]) -> dict[str, Any]:
    """This machine can run such a container, whatever the project is. Raises `AgentError` as `check` does."""
    try:
        container = from_json(ContainerSpec, request["container"])
    except (KeyError, TypeError, ValueError) as error:
        raise AgentError("bad-request", f"the container cannot be read: {error}") from error
    _can_run(container)
    return {}


def _can_run(container: ContainerSpec) -> None:
    from runctl.agent.containers import container_gpus
    from runctl.agent.machine import docker

    engine = docker.connect()
    if container.compose is not None:
        from runctl.agent.containers.compose import has_plugin

        has_plugin(engine)
    container_gpus.decide(container.gpus, container_gpus.find_gpus(engine))


def _node(spec: RunSpec) -> None:
    if spec.node is None:
        return
    check_node(spec.node)
    if spec.container is not None and spec.container.compose is not None:
        raise AgentError(
            "bad-request",
            "a Compose service cannot run on several machines",
            "name an image or a Dockerfile instead",
        )


def _texts(spec: RunSpec) -> None:
    for text in (spec.script, *spec.args, *spec.interpreter, *spec.env.values()):
        if "\0" in text:
            raise AgentError(
                "bad-request", "an argument or variable holds a NUL character, which no program can get"
            )
    for name in spec.env:
        if not VARIABLE.fullmatch(name):
            raise AgentError("bad-request", f"{name!r} cannot be the name of a variable")


def _values(spec: RunSpec) -> None:
    _texts(spec)
    if not is_name(spec.project):
        raise AgentError("bad-request", f"{spec.project!r} is not a project name")
    if spec.tree is not None and not is_name(spec.tree):
        raise AgentError("bad-request", f"{spec.tree!r} is not a tree digest")
    path = spec.dependencies.path
    if path is not None and (PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts):
        raise AgentError("bad-request", f"{path!r} is not a path inside the project")
    if spec.idle_seconds is not None and spec.idle_seconds <= 0:
        raise AgentError("bad-request", f"an idle timeout of {spec.idle_seconds:g} s leaves no time")
    if spec.timeout_seconds is not None and spec.timeout_seconds <= 0:
        raise AgentError("bad-request", f"a time limit of {spec.timeout_seconds:g} s leaves no time")
    if spec.grace_seconds < 0:
        raise AgentError("bad-request", "the grace cannot be negative")
    if spec.contract not in (None, *CONTRACTS):
        raise AgentError("bad-request", f"{spec.contract!r} is not a contract that this agent knows")
    if spec.checkpoint_signal not in (None, *CHECKPOINT_SIGNALS):
        raise AgentError(
            "bad-request", f"{spec.checkpoint_signal!r} is not a signal that asks for a checkpoint"
        )
    if spec.workdir and ".." in PurePosixPath(spec.workdir).parts:
        raise AgentError("bad-request", f"the working folder {spec.workdir!r} leads out of the project")
    if spec.builtin and (spec.script not in BUILTIN or spec.container is not None):
        raise AgentError("bad-request", f"the agent has no program {spec.script!r} that runs on the host")
    if spec.container is not None:
        _container(spec.container)
    elif spec.is_command and not spec.script:
        raise AgentError("bad-request", "the command is empty, and there is no image that could bring one")


def _room() -> None:
    facts = os.statvfs(state_directory())
    free = facts.f_bavail * facts.f_frsize
    if free < LEAST_FREE_BYTES + RESERVE_BYTES:
        raise AgentError(
            "disk-full",
            f"the machine's disk has {free >> 20} MiB left; a run needs at least {LEAST_FREE_BYTES >> 20}",
            "free some space, or take a larger root volume",
        )


def _tree(spec: RunSpec) -> str | None:
    if spec.builtin:
        return None
    state = state_directory()
    digest = spec.tree if spec.tree is not None else current(state, spec.project)
    container = spec.container
    in_image = container is not None and container.image is not None and container.code != "mount"
    if digest is None:
        if in_image:
            return None
        raise AgentError(
            "no-such-tree",
            f"project {spec.project} has never been synced to this machine",
            "use --sync-code",
        )
    root = tree_folder(state, spec.project, digest)
    if not root.is_dir():
        raise AgentError(
            "no-such-tree",
            f"this machine has no tree {digest[:12]} of project {spec.project}",
            "sync the code again",
        )
    if container is not None:
        if not in_image and not spec.is_command:
            script.checked_path(root, spec.script)
        for file in (container.dockerfile, container.compose_file):
            if file is not None and not (root / file).is_file():
                raise AgentError("no-such-dockerfile", f"the project on the machine has no {file}")
        return digest
    if not spec.is_command:
        path = script.checked_path(root, spec.script)
        script.command(path, spec.script, spec, "python3")
    script.folder(spec, root)
    return digest


def _container(container: ContainerSpec) -> None:
    sources = (container.dockerfile, container.image, container.compose)
    if sum(source is not None for source in sources) != 1:
        raise AgentError("bad-request", "a container has a Dockerfile, an image or a Compose service")
    if (container.compose is None) != (container.compose_file is None):
        raise AgentError("bad-request", "a Compose service and its file come together")
    if container.code not in ("auto", "image", "mount"):
        raise AgentError(
            "bad-request",
            f"the code is in the container by auto, image or mount, not {container.code!r}",
        )
    if not is_target(container.workdir) or container.workdir == "/":
        raise AgentError("bad-request", f"the project cannot be at {container.workdir!r} in the container")
    if container.shm_mib is not None and container.shm_mib <= 0:
        raise AgentError("bad-request", f"shared memory cannot have {container.shm_mib} MiB")
    if container.build is not None and container.dockerfile is None:
        raise AgentError("bad-request", "there is nothing to build without a Dockerfile")
    for file in (container.dockerfile, container.compose_file):
        if file is not None and (PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts):
            raise AgentError("bad-request", f"{file!r} is not a path inside the project")
