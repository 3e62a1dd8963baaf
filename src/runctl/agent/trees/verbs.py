"""The project trees on this machine: what is known of them, how a new one is made, how a run gets its copy.

::

    <state>/projects/<name>/trees/<digest>/          complete trees; never written to once they have this name
                            manifests/<digest>.json  what belongs into them; the digest is this file's SHA-256
                            current -> trees/<digest>    the tree that was synced last
                            lock

A manifest is a JSON object of path → ``["f", executable, size, sha256]`` or ``["l", target]``, written with
sorted keys, without spaces, in ASCII; paths have forward slashes, and bytes that are no UTF-8 are escaped as
Python's "surrogateescape" does. A pack is a gzip stream of one JSON line, ``[[sha256, size], …]``, and then the
contents, one after the other.

Files of a tree are read-only, share their inodes with the same files of other trees, and carry one fixed
modification time, so that a file that somebody wrote to is found by a look at its size and time. That look is
taken when a file is copied for a run or linked into another tree; asking whether a tree is here takes none.
"""

from __future__ import annotations

from typing import Any, BinaryIO, Dict, List, Mapping, Optional, Tuple

from runctl.agent.trees.build import Builder
from runctl.agent.trees.files import Damaged, Entries, contents, copy_entries
from runctl.agent.trees.look import TreeError, look
from runctl.agent.trees.store import Project, in_our_words


def manifest(
    request: Mapping[str, Any], state: Optional[str] = None, parsed: Optional[Dict[str, Entries]] = None
) -> Dict[str, Any]:
    """Say whether a tree is here, and what is missing for it.

    The request names ``project`` and ``digest``, and may bring the manifest itself: ``manifest`` (gzip, base64)
    or ``base`` and ``changes`` (gzip, base64 of ``{"set": {…}, "remove": […]}``). If the tree is here
    it is the current one afterwards, and the answer is ``{"have": true}``. Otherwise ``known`` says whether
    the manifest is known now, and ``missing`` which contents to send (a list of SHA-256, or ``"all"``). With
    ``look`` nothing changes, and the answer is that of `runctl.agent.trees.look.look`. Raises
    `TreeError`: ``bad-manifest``, ``disk-full``, ``busy``.
    """
    if request.get("look"):
        return dict(look(request.get("project"), request.get("digest"), state))
    project = Project.of(request, state, parsed)
    digest = request["digest"]
    with in_our_words(), project.locked():
        if project.has(digest):
            project.switch(digest)
            return {"have": True, "known": True, "missing": []}
        entries = project.entries_of(request)
        if entries is None:
            return {"have": False, "known": False, "missing": "all"}
        project.write_manifest(digest, entries)
        wanted = contents(entries.values())
        lacking = sorted(wanted - set(project.find_contents(wanted)))
        missing: Any = "all" if len(lacking) == len(wanted) else lacking
        return {"have": False, "known": True, "missing": missing}


def apply(
    request: Mapping[str, Any],
    stream: Optional[BinaryIO] = None,
    state: Optional[str] = None,
    parsed: Optional[Dict[str, Entries]] = None,
) -> Dict[str, Any]:
    """Make the tree, complete, and then the current one; until then the one before stays.

    The request is that of `manifest`, with the pack in ``stream`` if ``pack_follows`` is true. The answer is
    ``{"applied": true, "files", "written", "removed"}`` (against the tree before), or
    ``{"applied": false, "known", "missing"}`` when there is more to send. Raises `TreeError`: ``disk-full``,
    ``bad-manifest``, ``bad-pack``, ``busy``.
    """
    project = Project.of(request, state, parsed)
    follows = stream if request.get("pack_follows") else None
    with in_our_words(), project.received(follows) as (pack, packed), project.locked():
        return _apply(project, request, pack, packed)


def _apply(
    project: Project, request: Mapping[str, Any], pack: BinaryIO, packed: List[Tuple[str, int]]
) -> Dict[str, Any]:
    digest = request["digest"]
    if project.has(digest):
        project.switch(digest)
        return {
            "applied": True,
            "files": len(project.read_manifest(digest) or ()),
            "written": 0,
            "removed": 0,
        }
    entries = project.entries_of(request)
    if entries is None:
        return {"applied": False, "known": False, "missing": "all"}
    project.clear_leftovers()
    before = project.read_manifest(project.current() or "") or {}
    brought = {sha for sha, _ in packed}
    for spare in (project.spare(), None):
        builder = Builder(
            project.tree(digest) + ".partial", entries, project.read_manifest(spare or "") or {}
        )
        wanted = builder.wanted() - brought
        sources = project.find_contents(wanted)
        missing = sorted(wanted - set(sources))
        if missing:
            project.write_manifest(digest, entries)
            return {"applied": False, "known": True, "missing": missing}
        if project.begin(builder, spare, sources):
            break
    written = project.finish(digest, builder, sources, pack, packed)
    project.switch(digest)
    project.prune()
    removed = len(before.keys() - entries.keys())
    return {"applied": True, "files": len(entries), "written": written, "removed": removed}


def copy_tree(state: str, project: str, digest: Optional[str], destination: str) -> Tuple[str, int]:
    """``destination`` is a private, writable copy of the tree; returns its digest and the number of files.

    ``digest`` ``None`` is the tree that was synced last. ``destination`` may exist if it is empty. Raises
    `TreeError`: ``no-tree`` when it was never synced or is gone, ``tree-damaged`` when somebody wrote to it (the next
    sync repairs it), ``disk-full``, ``not-empty``.
    """
    here = Project.of({"project": project, "digest": digest or "0" * 64}, state)
    with in_our_words(), here.locked(exclusive=False):
        found = digest or here.current()
        if found is None or not here.has(found):
            raise TreeError(
                "no-tree",
                "project {} is not on this machine{}".format(project, " as " + digest[:12] if digest else ""),
                "sync the code first: run the training without --no-sync-code",
            )
        entries = here.read_manifest(found)
        try:
            copy_entries(here.tree(found), entries or {}, destination)
            damaged = "its manifest" if entries is None else ""
        except Damaged as error:
            damaged = str(error)
    if entries is not None and not damaged:
        return found, len(entries)
    with in_our_words(), here.locked():
        here.drop_damaged()
    raise TreeError(
        "tree-damaged",
        "{} was changed on this machine after it was synced".format(damaged),
        "run the same command again: the sync sends it anew",
    )
