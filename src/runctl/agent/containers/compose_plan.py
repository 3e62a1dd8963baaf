"""A run in a Compose project, as plain data: what its file says, and what is laid over it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from runctl._dataclasses import dataclass
from runctl.agent.containers import container_plan
from runctl.agent.containers.container_plan import Plan
from runctl.agent.spec import RunSpec


@dataclass(frozen=True)
class Service:
    """One service of the project's file."""

    name: str
    image: str | None = None
    builds: bool = False


def project_name(spec: RunSpec) -> str:
    """What Compose prefixes everything with: small letters, digits, - and _."""
    name = re.sub(r"[^a-z0-9_-]", "-", spec.run_id.lower())
    return f"runctl-{name}-{spec.attempt}"


def parse_services(config: str) -> list[Service]:
    """The services of what ``compose config`` prints: the file with everything filled in, always in the same form
    (two spaces a level, one key a line), so that it takes no YAML parser to find names and images in it."""
    found: list[Service] = []
    inside = False
    for line in config.splitlines():
        if line and not line.startswith(" "):
            inside = line.rstrip() == "services:"
            continue
        if not inside:
            continue
        name = re.match(r"^  ([^\s#'\"][^:]*|'[^']+'|\"[^\"]+\"):\s*(\{\})?$", line)
        if name is not None:
            found.append(Service(name.group(1).strip("'\"")))
            continue
        key = re.match(r"^    (image|build):\s*(.*)$", line)
        if key is not None and found:
            last = found[-1]
            if key.group(1) == "build":
                found[-1] = Service(last.name, last.image, builds=True)
            else:
                found[-1] = Service(last.name, key.group(2).strip().strip("'\""), last.builds)
    return found


def override(plan: Plan, service: str, services: Sequence[Service], env: Mapping[str, str]) -> dict[str, Any]:
    """The file that is laid over the project's: JSON is YAML. It holds values of variables: for its owner only.

    ``plan`` without a command of its own (``entrypoint`` and what runs) leaves those of the service.
    """
    spec = plan.spec
    label = {"runctl.run": spec.run_id, "runctl.attempt": str(spec.attempt), "runctl.project": spec.project}
    main: dict[str, Any] = {
        "environment": dict(env),
        "volumes": [_bind(*bind) for bind in container_plan.binds(plan)],
        "labels": label,
        "init": True,
        "restart": "no",
        "stop_signal": "SIGTERM",
        "shm_size": f"{plan.shm_mib}m",
        "oom_score_adj": 500,
        "logging": {
            "driver": "json-file",
            "options": {"max-size": "1000t", "max-file": "1", "compress": "false"},
        },
    }
    if plan.user:
        main["user"] = plan.user
    if spec.script:
        main["working_dir"] = plan.container.workdir
    if plan.gpus:
        count = -1 if plan.gpus == "all" else int(plan.gpus)
        device = {"driver": "nvidia", "count": count, "capabilities": ["gpu"]}
        main["deploy"] = {"resources": {"reservations": {"devices": [device]}}}
    everyone: dict[str, Any] = {other.name: {"labels": label} for other in services if other.name != service}
    return {"services": {**everyone, service: _literal(main)}}


def with_some_command(document: dict[str, Any], plan: Plan, service: str) -> dict[str, Any]:
    """The same with the command that is to run, however it will be started: an image without a command of its own
    makes no container without."""
    run = container_plan.command(plan.spec, plan.container.python)
    main = dict(document["services"][service])
    if run:
        main["command"] = _literal(run)
    return {"services": {**document["services"], service: main}}


def with_command(document: dict[str, Any], plan: Plan, service: str) -> dict[str, Any]:
    """The same with what runs, where that is not the service's own."""
    start, run = container_plan.entrypoint_and_arguments(plan)
    main = dict(document["services"][service])
    if start:
        main["entrypoint"] = _literal([start[1]])
    if start or run:
        main["command"] = _literal(list(run))
    return {"services": {**document["services"], service: main}}


def _bind(source: str, target: str, read_only: bool) -> dict[str, Any]:
    return {"type": "bind", "source": source, "target": target, "read_only": read_only}


def _literal(value: Any) -> Any:
    """Compose fills in ``$NAME`` wherever a text stands; ours are meant as they are."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: _literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_literal(item) for item in value]
    return value
