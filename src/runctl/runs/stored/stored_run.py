"""What a run's attempts need, at the run's prefix in its store: written once, before a machine is told to start it.

What is where is said by `runctl.agent.stored_run`. A machine takes the run up from there, and so does a computer that
has not started it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from runctl._dataclasses import dataclass
from runctl.agent import stored_run
from runctl.agent.encoding import dumps, from_json, loads, to_json
from runctl.agent.object_store import is_address, parse_source
from runctl.agent.package import build
from runctl.agent.spec import RunSpec, without_values
from runctl.agent.stored_run import StoredMachine, StoredNode, StoredNodes, StoredRun, StoredVolume
from runctl.checkpoints.download import Prefix
from runctl.core.database import StateError
from runctl.core.errors import NotFound, RunctlError, Unsupported
from runctl.core.files import cache_folder
from runctl.core.ids import InstanceId, is_run_id
from runctl.core.machine_models import Instance
from runctl.core.run_models import GitState
from runctl.core.tags import GONE_WITH_WRITING
from runctl.core.text import size
from runctl.machines.session import Session
from runctl.project.kept import LARGEST_PACK, KeptProjects, NotKept, kept_projects
from runctl.runs.records.node_records import KnownNode, KnownNodes
from runctl.runs.records.run_record import RunRecord
from runctl.runs.stored.leases import note_attempt
from runctl.runs.stored.recipe import Recipe

THREADS = 6
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run besides its recipe, for whoever has not started it."""

    name: str | None = None
    git: GitState | None = None
    results: str | None = None


def facts_of(record: RunRecord) -> RunFacts:
    """Those of a run that is known here. Pure."""
    return RunFacts(record.name, record.git, record.results)


@dataclass(frozen=True)
class TakenUp:
    """A run as its prefix describes it."""

    recipe: Recipe
    facts: RunFacts


def prefix_of(session: Session, recipe: Recipe) -> Prefix | None:
    """The run's own in an object store that this computer reaches; ``None`` where it has none."""
    store = recipe.spec.store
    if store is None or store.endpoint:
        return None
    return prefix_at(session.in_region(recipe.region), recipe.provider, store.url, recipe.run_id)


def prefix_at(session: Session, provider: str, url: str, run_id: str) -> Prefix | None:
    """The run's own below an address; ``None`` where this computer does not reach it."""
    if not is_address(url):
        return None
    storage = session.provider(provider).object_storage
    if isinstance(storage, Unsupported):
        return None
    source = parse_source(url)
    with suppress(RunctlError):
        if storage.holds(source.bucket):
            return Prefix(storage, source.bucket, "/".join(filter(None, (source.prefix, run_id))))
    return None


def store_run(
    at: Prefix, recipe: Recipe, facts: RunFacts, *, attempt: int, projects: KeptProjects | None = None
) -> None:
    """Everything is there that a machine needs to start the run. The tree must be kept (`KeptProjects.keep`).

    ``attempt`` is the last number that was given to one; 0 leaves the first to whoever takes the lease. Raises
    `NotFound` (code ``project-not-kept``), and what the store raises.
    """
    put: list[Callable[[], object]] = [
        partial(put_recipe, at, recipe, facts),
        partial(_upload, at, stored_run.AGENT, build(cache_folder() / "agent")),
        partial(note_attempt, at, recipe.run_id, attempt),
    ]
    if recipe.spec.tree is not None:
        put.append(partial(_put_project, at, recipe.spec.tree, projects or kept_projects()))
    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(each) for each in put]:
            done.result()


def put_recipe(at: Prefix, recipe: Recipe, facts: RunFacts) -> None:
    """The next attempt is made by this recipe, wherever it is started from. Raises what the store raises."""
    _put(at, stored_run.SPEC, dumps(recipe.spec).encode())
    _put(at, stored_run.RUN, dumps(_described(recipe, facts)).encode())


def put_machine(at: Prefix, attempt: int, instance: Instance, created_at: datetime) -> None:
    """Whoever recovers the run knows the attempt's machine."""
    price = instance.price_per_hour
    machine = StoredMachine(
        instance.id,
        created_at.timestamp(),
        instance.instance_type or "",
        instance.zone or "",
        instance.market.value,
        str(price) if price is not None else "",
    )
    _put(at, stored_run.machine_key(attempt), dumps(machine).encode())


def put_nodes(at: Prefix, attempt: int, nodes: KnownNodes) -> None:
    """Whoever recovers the run knows all of the attempt's machines."""
    stored = StoredNodes(
        nodes.engine,
        nodes.token,
        nodes.least,
        tuple(StoredNode(each.rank, each.instance_id, each.address, each.name or "") for each in nodes.nodes),
    )
    _put(at, stored_run.nodes_key(attempt), dumps(stored).encode())


def known_nodes(stored: StoredNodes) -> KnownNodes:
    """As they are remembered before they have said anything. Pure."""
    nodes = tuple(
        KnownNode(each.rank, InstanceId(each.instance_id), each.address, each.name or None)
        for each in sorted(stored.nodes, key=lambda each: each.rank)
    )
    return KnownNodes(stored.engine, stored.token, stored.least, nodes)


def forget_secrets(at: Prefix) -> None:
    """What is secret of a run that nobody starts any more is not there: values of its variables, and what its machines
    know each other by. Raises what the store raises."""
    with suppress(NotFound, ValueError, TypeError):
        spec = from_json(RunSpec, loads(at.storage.read(at.bucket, at.key(stored_run.SPEC))))
        bare = without_values(spec)
        if bare != spec:
            _put(at, stored_run.SPEC, dumps(bare).encode())
    for each in list(at.storage.objects(at.bucket, at.key(stored_run.MEETINGS))):
        at.storage.delete(at.bucket, each.key)


def read_run(at: Prefix) -> TakenUp:
    """What was stored.

    Raises `NotFound` (code ``not-stored``) where nothing is, and `StateError` where it cannot be read, or is of another
    run than its prefix says.
    """
    try:
        spec = from_json(RunSpec, loads(at.storage.read(at.bucket, at.key(stored_run.SPEC))))
        described = from_json(StoredRun, loads(at.storage.read(at.bucket, at.key(stored_run.RUN))))
        known = dict(described.client)
        facts = msgspec.convert(known.pop("facts"), RunFacts)
        recipe = msgspec.convert({**known, "spec": to_json(spec)}, Recipe)
        _check_names(spec, PurePosixPath(at.prefix).name)
    except NotFound as error:
        raise NotFound(
            f"{at} does not have what another attempt needs: {error.message}",
            hint="only runs that were started with --checkpoint-s3 are recovered from there",
            code="not-stored",
        ) from error
    except (ValueError, TypeError, KeyError, msgspec.ValidationError) as error:
        raise StateError(f"what is stored of the run at {at} cannot be read: {error}") from error
    return TakenUp(recipe, facts)


def _check_names(spec: RunSpec, run_id: str) -> None:
    """What the store calls things becomes the name of files and folders here. Raises `ValueError`."""
    if spec.run_id != run_id or not is_run_id(run_id):
        raise ValueError(f"it is that of {spec.run_id!r:.100}")
    if spec.tree is not None and not _DIGEST.fullmatch(spec.tree):
        raise ValueError(f"{spec.tree!r:.100} is not a SHA-256")


def fetch_project(at: Prefix, digest: str, projects: KeptProjects) -> None:
    """The tree is kept here. Raises `NotFound`, `NotKept` and what the store raises."""
    if projects.has(digest):
        return
    manifest = at.storage.read(at.bucket, at.key(stored_run.manifest_key(digest)))
    # What is not ASCII is not a manifest, and has another checksum.
    with projects.receiving(manifest.decode("ascii", "backslashreplace"), digest) as pack:

        def write(data: bytes) -> None:
            if pack.tell() + len(data) > LARGEST_PACK:
                raise NotKept(f"{at} has more than {size(LARGEST_PACK)} for the project")
            pack.write(data)

        at.storage.fetch(at.bucket, at.key(stored_run.pack_key(digest)), write)


def check_conditional_writes(at: Prefix) -> None:
    """Raises `Unsupported` where the store does not keep the conditions of writes: no lease can be held there."""
    key = at.key(f".conditional-write-{uuid.uuid4().hex}")
    write = at.storage.replace
    try:
        first = write(at.bucket, key, b"1", "")
        refused = write(at.bucket, key, b"2", "") is None and write(at.bucket, key, b"2", "0" * 32) is None
        if first is None or not refused or write(at.bucket, key, b"3", first) is None:
            raise Unsupported(
                f"{at} ignores If-None-Match or If-Match: two machines could run the run at once",
                hint="use S3 itself, or a store that has conditional writes",
                code="no-conditional-writes",
            )
    finally:
        at.storage.delete(at.bucket, key)


def _described(recipe: Recipe, facts: RunFacts) -> StoredRun:
    known: dict[str, Any] = msgspec.to_builtins(recipe)
    del known["spec"]
    return StoredRun(
        tuple(
            StoredVolume(
                each.volume_id,
                each.mount_point,
                each.read_only,
                each.blank,
                () if each.read_only else GONE_WITH_WRITING,
            )
            for each in recipe.volumes
        ),
        recipe.rules.max_attempts,
        recipe.registry,
        {**known, "facts": msgspec.to_builtins(facts)},
    )


def _put(at: Prefix, key: str, data: bytes) -> None:
    at.storage.put(at.bucket, at.key(key), data)


def _upload(at: Prefix, key: str, path: Path) -> None:
    at.storage.upload(at.bucket, at.key(key), path, lambda _: None)


def _put_project(at: Prefix, digest: str, projects: KeptProjects) -> None:
    with projects.packed(digest) as (manifest, pack), ThreadPoolExecutor(1) as pool:
        described = pool.submit(_put, at, stored_run.manifest_key(digest), manifest.encode("ascii"))
        _upload(at, stored_run.pack_key(digest), pack)
        described.result()
