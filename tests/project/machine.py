"""A machine that takes project trees, without a transport."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from runctl.agent.trees import verbs as trees
from runctl.agent.trees.names import tree_status
from runctl.agent.trees.small_change import change
from runctl.project.root import project_name


class Machine:
    """The agent's verbs on a state folder of their own, as JSON would carry them, and a list of what was called."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.calls: list[str] = []
        self.before_apply: Callable[[], None] = lambda: None

        self.about: tuple[str, str | None] = ("", None)

    def trees(self, project: str, digest: str | None) -> Machine:
        self.about = (project, digest)
        self.seen: Mapping[str, Any] = {"have": False, "current": False}
        if digest is not None:
            self.seen = self.asks()
        return self

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def asks(self) -> Mapping[str, Any]:
        self.calls.append("status")
        return tree_status(*self.about, str(self.state))

    def status(self) -> Mapping[str, Any]:
        return self.seen

    def change(self, digest: str, record: bytes, pack: bytes) -> Mapping[str, Any]:
        made = change(self.about[0], digest, record, pack, str(self.state))
        if made is None:
            return {"applied": False}
        self.calls.append("change")
        return {"applied": True, **made}

    def manifest(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self.calls.append("manifest")
        return trees.manifest(request, str(self.state))

    def apply(
        self, request: Mapping[str, Any], pack: bytes | BinaryIO | None = None, size: int = 0
    ) -> Mapping[str, Any]:
        self.calls.append("apply")
        self.before_apply()
        body = io.BytesIO(pack) if isinstance(pack, bytes) else pack
        request = {**request, "pack_follows": pack is not None}
        return trees.apply(request, body, str(self.state))

    def files(self, project: Path | str) -> dict[str, bytes]:
        name = project if isinstance(project, str) else project_name(project)
        tree = (self.state / "projects" / name / "current").resolve(strict=True)
        return {
            path.relative_to(tree).as_posix(): path.read_bytes()
            for path in tree.rglob("*")
            if path.is_file() and not path.is_symlink()
        }
