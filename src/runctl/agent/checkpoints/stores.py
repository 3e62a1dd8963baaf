"""Where a run's prefix is: a folder of the machine, or an S3-compatible store. One interface, the same errors."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.checkpoints.folder_store import FolderStore
from runctl.agent.checkpoints.layout import CHECKPOINTS, DATA, StoredFile
from runctl.agent.checkpoints.s3_store import S3Store
from runctl.agent.cloud.credentials import Credentials
from runctl.agent.cloud.s3 import location_of
from runctl.agent.encoding import from_json, loads
from runctl.agent.errors import AgentError
from runctl.agent.machine.root import on_machine
from runctl.agent.object_store import Source, parse_source

_T = TypeVar("_T")


class Store(Protocol):
    """A run's prefix. Keys are those of `layout`. Safe to use from several threads.

    Every method raises `AgentError`: ``store-away`` (it may answer later), ``store-denied``, ``store-refused``.
    """

    def put_file(self, file: StoredFile, path: Path, facts: os.stat_result) -> int:
        """The bytes of ``path`` are at the file's `data_key`; returns how many were sent. Also ``changed``: the file is
        not what it was when its checksum was made, after ``facts``; other bytes are never there."""
        ...

    def put(self, key: str, data: bytes, *, only_new: bool = False) -> bool:
        """The key has these bytes. False where ``only_new`` was asked for, and it has others."""
        ...

    def read(self, key: str) -> bytes:
        """All of a small one. Also ``store-missing``."""
        ...

    def read_into(self, key: str, path: Path) -> None:
        """``path`` has all of it. Also ``store-missing``."""
        ...

    def fetch(self, file: StoredFile, path: Path) -> None:
        """``path`` has the file's bytes, compared with its checksum. Also ``store-missing`` and ``store-corrupt``."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """Those that begin with it."""
        ...

    def delete(self, key: str) -> None:
        """There is no such key."""
        ...

    def close(self) -> None:
        """Nothing is held open, and nothing unfinished is left behind."""
        ...


def read_stored(store: Store, key: str, kind: type[_T]) -> _T | None:
    """What lies there; ``None`` where there is nothing, or nothing that can be read. Raises `AgentError`."""
    try:
        return from_json(kind, loads(store.read(key)))
    except AgentError as error:
        if error.code != "store-missing":
            raise
    except (ValueError, TypeError):
        pass
    return None


def open_store(
    spec: StoreSpec, run_id: str, variables: Mapping[str, str], *, tries: int = 3, timeout: float = 20.0
) -> Store:
    """The run's prefix, by whatever the machine has of rights: keys in ``variables``, else its role's.

    Raises `AgentError` (``bad-request``) for an address that is neither of S3 nor of a folder. Asks nobody.
    """
    if spec.url.startswith("/"):
        return FolderStore(on_machine(spec.url) / run_id)
    try:
        source = parse_source(spec.url)
    except ValueError as error:
        raise AgentError("bad-request", str(error)) from error
    location = location_of(variables, spec.region, spec.endpoint)
    below = Source(source.bucket, "/".join(filter(None, (source.prefix, run_id))))
    return S3Store(below, location, Credentials(variables, spec.keys_file), tries=tries, timeout=timeout)


def open_prefix(
    address: str,
    store: StoreSpec | None,
    variables: Mapping[str, str],
    *,
    tries: int = 3,
    timeout: float = 20.0,
) -> Store:
    """The prefix of a run by its own address; ``store`` says the endpoint, where the run that asks has one there."""
    url, _, run_id = address.rstrip("/").rpartition("/")
    spec = StoreSpec(url) if store is None else replace(store, url=url)
    return open_store(spec, run_id, variables, tries=tries, timeout=timeout)


def is_prefix(text: str | None) -> bool:
    """Whether what a run is to resume from is a run's prefix in a store, and not a checkpoint or a folder of some."""
    if text is None or "://" in text:
        return text is not None
    folder = on_machine(text)
    # Where this user may not look, pathlib raises.
    return os.path.isdir(folder / DATA) and any(folder.glob(CHECKPOINTS + "*-*.json"))  # noqa: PTH112
