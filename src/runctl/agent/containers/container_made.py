"""From what a run asks for, what the machine has and what the image is, to the plan of its container."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from runctl.agent.containers import container_gpus, container_plan, docker
from runctl.agent.containers.container_code import Code, Place
from runctl.agent.machine.facts import memory_bytes
from runctl.agent.supervising.attempt import Attempt


def make_plan(
    attempt: Attempt,
    engine: docker.Engine,
    image: str,
    config: Mapping[str, Any],
    code: Code,
    *,
    quiet: bool = False,
) -> container_plan.Plan:
    """The plan of a container of this image; ``config`` is what the engine says of it.

    The log says what may surprise, unless ``quiet``. Raises `AgentError` (``no-gpu``).
    """
    say = (lambda _: None) if quiet else attempt.log.line
    spec = attempt.spec
    assert spec.container is not None  # noqa: S101 (the supervisor has looked)
    gpus = container_gpus.decide(spec.container.gpus, container_gpus.look(engine))
    if gpus.warning:
        say("warning: " + gpus.warning)
    image_has = config.get("Entrypoint")
    kept = container_plan.kept_entrypoint(spec, image_has)
    if image_has and kept is None and spec.container.entrypoint is None:
        say(f"the image's entry point {json.dumps(image_has)} would not run the script: it is left out")
    user = spec.container.user
    if user not in (None, "", docker.owner()):
        say(f"note: checkpoints and output belong to {docker.owner()} afterwards")
    return container_plan.Plan(
        spec=spec,
        image=image,
        where=attempt.where,
        folder=attempt.folder,
        mount_code=code.place is Place.MOUNT,
        entrypoint=kept,
        user=docker.owner() if user is None else user,
        user_name=docker.user_name(),
        gpus=gpus.value,
        shm_mib=spec.container.shm_mib or container_plan.shm_mib(memory_bytes()),
        head=code.head,
        image_command=config.get("Cmd") or (),
        io=attempt.collector.for_container(engine.kernel),
    )
