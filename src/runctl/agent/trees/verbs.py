"""The project trees on this machine: what is known of them, how a new one is made, how a run gets its copy.

::

    <state>/projects/<name>/trees/<digest>/          complete trees; never written to once they have this name
                            manifests/<digest>.json  what belongs into them; the digest is this file's SHA-256
                            manifests/<digest>.changes  what differs from the tree before; may stand in for the other
                            current -> trees/<digest>    the tree that was synced last
                            lock

What a manifest is: `runctl.agent.trees.manifest`. A pack is a gzip stream of one JSON line,
``[[sha256, size], …]``, and then the contents, one after the other.

Files of a tree are read-only, share their inodes with the same files of other trees, and carry one fixed
modification time, so that a file that somebody wrote to is found by its size and time. They are
compared when a file is copied for a run or linked into another tree, not when somebody asks whether a tree is here.
"""

from __future__ import annotations

from typing import Any, BinaryIO, Mapping

from runctl.agent.trees.build import Builder
from runctl.agent.trees.changes import encode_changes, write_changes
from runctl.agent.trees.files import Damaged, copy_entries
from runctl.agent.trees.manifest import EMPTY, FEW, contents
from runctl.agent.trees.names import TreeError, tree_status
from runctl.agent.trees.on_disk import switch
from runctl.agent.trees.store import TreeStore, file_system_errors


def manifest(request: Mapping[str, Any], state: str | None = None) -> dict[str, Any]:
    """Say whether a tree is here, and what is missing for it.

    The request names ``project`` and ``digest``, and may bring the manifest itself: ``manifest`` (gzip, base64)
    or ``base`` and ``changes`` (gzip, base64 of ``{"set": {…}, "remove": […]}``). If the tree is here
    it is the current one afterwards, and the answer is ``{"have": true}``. Otherwise ``known`` says whether
    the manifest is known now, and ``missing`` which contents to send (a list of SHA-256, or ``"all"``). With
    ``status_only`` nothing changes, and the answer is that of `runctl.agent.trees.names.tree_status`. Raises
    `TreeError`: ``bad-manifest``, ``disk-full``, ``busy``.
    """
    if request.get("status_only"):
        return dict(tree_status(request.get("project"), request.get("digest"), state))
    store = TreeStore.of(request, state)
    digest = request["digest"]
    with file_system_errors(), store.locked():
        if store.has(digest):
            switch(store, digest)
            return {"have": True, "known": True, "missing": []}
        store.settle()
        brought = store.manifest_of(request)
        if brought is None:
            return {"have": False, "known": False, "missing": "all"}
        store.write_manifest(digest)
        wanted = set(contents(brought.entries.values()))
        lacking = sorted(wanted - set(store.find_contents(wanted)))
        missing: Any = "all" if len(lacking) == len(wanted) else lacking
        return {"have": False, "known": True, "missing": missing}


def apply(
    request: Mapping[str, Any],
    stream: BinaryIO | None = None,
    state: str | None = None,
) -> dict[str, Any]:
    """Make the tree, complete, and then the current one; until then the one before stays.

    The request is that of `manifest`, with the pack in ``stream`` if ``pack_follows`` is true. The answer is
    ``{"applied": true, "written", "removed"}`` (against the tree before), or
    ``{"applied": false, "known", "missing"}`` when there is more to send. Raises `TreeError`: ``disk-full``,
    ``bad-manifest``, ``bad-pack``, ``busy``.

    All of it is on the disk afterwards.
    """
    store = TreeStore.of(request, state)
    follows = stream if request.get("pack_follows") else None
    with file_system_errors(), store.received(follows) as (pack, packed), store.locked():
        return _apply(store, request, pack, packed)


def _apply(
    store: TreeStore, request: Mapping[str, Any], pack: BinaryIO, packed: list[tuple[str, int]]
) -> dict[str, Any]:
    digest = request["digest"]
    if store.has(digest):
        switch(store, digest)
        return {"applied": True, "written": 0, "removed": 0}
    store.settle()
    after = store.manifest_of(request)
    if after is None:
        return {"applied": False, "known": False, "missing": "all"}
    store.clear_leftovers()
    current = store.current() or ""
    before = store.read_manifest(current) or EMPTY
    brought = {sha for sha, _ in packed}
    for spare in (store.spare(), None):
        base = store.read_manifest(spare) if spare is not None else EMPTY
        if base is None:
            # Nobody knows what is in it.
            continue
        builder = Builder(store.tree(digest) + ".partial", after, base)
        wanted = builder.wanted() - brought
        sources = store.find_contents(wanted)
        missing = sorted(wanted - set(sources))
        if missing:
            store.write_manifest(digest)
            return {"applied": False, "known": True, "missing": missing}
        if store.begin(builder, spare, sources):
            break
    written = store.finish(digest, builder, sources, pack, packed)
    differences = before.differences(after)
    if before is not EMPTY and len(differences) <= FEW:
        # For the next small change; without it that takes the longer way.
        write_changes(store.changes(digest), encode_changes(current, differences))
    switch(store, digest)
    store.prune()
    removed = sum(new is None for _, new in differences.values())
    return {"applied": True, "written": written, "removed": removed}


def copy_tree(state: str, project: str, digest: str | None, destination: str) -> tuple[str, int]:
    """``destination`` is a private, writable copy of the tree; returns its digest and the number of files.

    ``digest`` ``None`` is the tree that was synced last. ``destination`` may exist if it is empty. Raises
    `TreeError`: ``no-tree`` when it was never synced or is gone, ``tree-damaged`` when somebody wrote to it (the next
    sync repairs it), ``disk-full``, ``not-empty``.
    """
    store = TreeStore.of({"project": project, "digest": digest or "0" * 64}, state)
    with file_system_errors(), store.locked(exclusive=False):
        found = digest or store.current()
        if found is None or not store.has(found):
            raise TreeError(
                "no-tree",
                "project {} is not on this machine{}".format(project, " as " + digest[:12] if digest else ""),
                "sync the code first: run the training without --no-sync-code",
            )
        manifest = store.read_manifest(found)
        entries = manifest.entries if manifest is not None else None
        try:
            copy_entries(store.tree(found), entries or {}, destination)
            damaged = "its manifest" if entries is None else ""
        except Damaged as error:
            damaged = str(error)
    if entries is not None and not damaged:
        return found, len(entries)
    with file_system_errors(), store.locked():
        store.drop_damaged()
    raise TreeError(
        "tree-damaged",
        "{} was changed on this machine after it was synced".format(damaged),
        "run the same command again: the sync sends it again",
    )
