"""Where a project's trees are, and what their names alone say, without the modules that making a tree needs."""

# This is part of every sync: pathlib, re and typing each take longer to import than the answer takes.
# ruff: noqa: PTH110, PTH112, PTH115, PTH118, PTH119

from __future__ import annotations

import os

from runctl.agent.errors import AgentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

KEEP = 3
"""So many trees of a project stay, the current one among them."""
_HEX = frozenset("0123456789abcdef")
_NAME = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-")


class TreeError(AgentError):
    """A tree cannot be made, or given out; ``code`` is stable, ``hint`` says what to do next."""


class TreeNames:
    """Where one project's things are."""

    def __init__(self, state: str, name: str) -> None:
        self.folder = os.path.join(state, "projects", name)
        self.trees = os.path.join(self.folder, "trees")
        self.manifests = os.path.join(self.folder, "manifests")

    def tree(self, digest: str) -> str:
        return os.path.join(self.trees, digest)

    def manifest(self, digest: str) -> str:
        return os.path.join(self.manifests, digest + ".json")

    def changes(self, digest: str) -> str:
        """See `runctl.agent.trees.changes`."""
        return os.path.join(self.manifests, digest + ".changes")

    def current(self) -> str | None:
        """Digest of the tree that was synced last; ``None`` if none was."""
        try:
            return os.path.basename(os.readlink(os.path.join(self.folder, "current")))
        except OSError:
            return None

    def has(self, digest: str) -> bool:
        """Whether the complete tree is here."""
        return os.path.isdir(self.tree(digest)) and (
            os.path.exists(self.manifest(digest)) or os.path.exists(self.changes(digest))
        )

    def spare(self) -> str | None:
        """The tree that would be pruned by one more; a new one that starts from it costs as much as it differs.

        With one file changed of thousands that is one file, where a tree of links to another would be thousands.
        """
        trees = self.complete()
        return trees[-1] if len(trees) >= KEEP and trees[-1] != self.current() else None

    def complete(self) -> list[str]:
        """The digests of the trees that are here: the current one first, then the newest."""
        current = self.current()
        found = []
        with os.scandir(self.trees) as listing:
            for entry in listing:
                if is_digest(entry.name):
                    found.append((entry.name != current, -entry.stat().st_mtime_ns, entry.name))
        return [name for _, _, name in sorted(found)]


def tree_status(project: object, digest: object, state: str | None = None) -> dict[str, bool]:
    """``{"have", "current"}``: is this tree here, and is it the one that was synced last?

    Changes nothing and waits for nobody. Raises `TreeError` (``bad-request``).
    """
    name, wanted = checked(project, digest)
    names = TreeNames(state or state_directory(), name)
    return {"have": names.has(wanted), "current": names.current() == wanted}


def checked(project: object, digest: object) -> tuple[str, str]:
    """Both as they are. Raises `TreeError` (``bad-request``) where one could not be a folder of ours."""
    if not isinstance(project, str) or not is_name(project):
        raise TreeError("bad-request", "{!r} is not a project name".format(project))
    if not isinstance(digest, str) or not is_digest(digest):
        raise TreeError("bad-request", "{!r} is not a digest".format(digest))
    return project, digest


def is_digest(text: str) -> bool:
    """Whether it is a SHA-256 in hex."""
    return len(text) == 64 and _HEX.issuperset(text)


def is_name(text: str) -> bool:
    """Whether a project can be called so: ASCII letters, digits, and ``._-`` behind the first; at most 128."""
    return 0 < len(text) <= 128 and _NAME.issuperset(text) and text[0] not in "._-"


def state_directory() -> str:
    """The agent's, as a string."""
    found = os.environ.get("RUNCTL_AGENT_STATE")
    if found:
        # The usual case, and the import below would double the time that it takes.
        return found
    from runctl.agent.machine.root import state_directory as by_rule

    return str(by_rule())


def project_folder(state: Path, project: str) -> Path:
    """Holds ``trees/<digest>`` and the link ``current``."""
    return state / "projects" / project


def tree_folder(state: Path, project: str, digest: str) -> Path:
    """The complete tree with this digest."""
    return project_folder(state, project) / "trees" / digest


def current(state: Path, project: str) -> str | None:
    """Digest of the tree that was synced last; ``None`` if none was."""
    try:
        return (project_folder(state, project) / "current").readlink().name
    except (FileNotFoundError, OSError):
        return None
