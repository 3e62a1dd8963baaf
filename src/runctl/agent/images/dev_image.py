"""Dev-mode's image: the last one that was built of the project, as long as only code has changed since."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from runctl.agent.attempt.attempt import Attempt
from runctl.agent.machine import docker, durable
from runctl.agent.spec import ContainerSpec

SHOWN = 5


def why_build(before: Mapping[str, str] | None, now: Mapping[str, str]) -> str | None:
    """Why the last image will not do, for a person; ``None`` when it will. Pure."""
    if before is None:
        return "no image of this project has been built on this machine"
    changed = sorted(name for name in now if name in before and before[name] != now[name])
    new = sorted(name for name in now if name not in before)
    gone = sorted(name for name in before if name not in now)
    changes = [f"{name} changed" for name in changed]
    changes += [f"{name} is new" for name in new] + [f"{name} is gone" for name in gone]
    return _listed(changes) if changes else None


def _asked(container: ContainerSpec) -> str | None:
    """The option by which the user wants a build, whatever has changed. Pure."""
    build = container.build
    if build is None or not (build.no_cache or build.pull):
        return None
    return "--rebuild was given" if build.no_cache else "--pull was given"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def reusable(attempt: Attempt, engine: docker.Engine, container: ContainerSpec) -> str | None:
    """The image to use without building, if dev-mode may; the log says which, or why there is none."""
    if container.dockerfile is None or container.dev_parts is None or container.code != "mount":
        return None
    kept = durable.read_json(_record(attempt)) or {}
    image = str(kept.get("image") or "")
    # Until it has been built: later a restart by --watch is to be quick all the same.
    asked = _asked(container) if kept.get("asked_by") != attempt.spec.run_id else None
    why = asked or why_build(kept.get("parts"), container.dev_parts)
    if why is None and engine.inspect("image", image)[0] is None:
        why = f"the image {image} is gone from the machine"
    if why is not None:
        attempt.log.line(f"dev-mode: the image is built: {why}")
        return None
    files = sorted(name for name in container.dev_parts if not name.startswith("the "))
    built = time.strftime("%Y-%m-%d %H:%M", time.gmtime(float(kept.get("built_at") or 0)))
    attempt.log.line(
        f"dev-mode: {image} of {built} UTC is used without a build: the Dockerfile, the options of the build and"
        f" {_listed(files) or 'what it copies'} are as they were"
    )
    for note in container.dev_notes:
        attempt.log.line(f"dev-mode: {note}; without --dev-mode the image is rebuilt")
    _report_removed(attempt, str(kept.get("tree") or ""))
    return image


def remember(attempt: Attempt, container: ContainerSpec, image: str) -> None:
    """The image has just been built: dev-mode may use it from now on."""
    if container.dockerfile is None or container.dev_parts is None:
        return
    path = _record(attempt)
    path.parent.mkdir(parents=True, exist_ok=True)
    before = durable.read_json(path) or {}
    record = {
        "image": image,
        # The run that last asked for a build, whatever has changed, and has got it.
        "asked_by": attempt.spec.run_id if _asked(container) else before.get("asked_by"),
        "tree": attempt.live.tree or "",
        "parts": dict(container.dev_parts),
        "built_at": time.time(),
    }
    durable.write_json(path, record)


def _record(attempt: Attempt) -> Path:
    return attempt.state / "dev-images" / (attempt.spec.project + ".json")


def removed_files(before: Mapping[str, object], now: Mapping[str, object]) -> tuple[str, ...]:
    """Files that were in a tree and are in another one no more. Pure."""
    return tuple(sorted(path for path in before if path not in now))


def _report_removed(attempt: Attempt, tree: str) -> None:
    """What has been removed from the project is still in the image: nothing can be put over a file to remove it."""
    from runctl.agent.trees.store import TreeStore

    if not tree or attempt.live.tree is None or tree == attempt.live.tree:
        return
    request = {"project": attempt.spec.project, "digest": attempt.live.tree}
    store = TreeStore.of(request, str(attempt.state))
    with store.locked(exclusive=False):
        before, now = store.read_manifest(tree), store.read_manifest(attempt.live.tree)
    gone = removed_files(before.entries, now.entries) if before is not None and now is not None else ()
    if gone:
        attempt.log.line(
            f"dev-mode: removed from the project, and still in the image if it had them: {_listed(gone)}"
        )
