"""botocore's descriptions of AWS's services, found by name and read by a faster parser.

A short command has little else to do: botocore looks through the folders of all services for the one that is asked for,
and EC2's description is megabytes of packed JSON, most of them documentation. `benchmarks.startup` measures such a
command.
"""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from botocore.exceptions import DataNotFoundError
from botocore.loaders import JSONFileLoader, Loader

from runctl.core.files import cache_folder, write_atomically

_FORMAT = 2
"""Of what is kept in the cache."""
_UNUSED_SECONDS = 30 * 24 * 3600
"""What another version of botocore left behind is removed after this."""


def loader(data_path: str | None) -> Loader:
    """For the component ``data_loader`` of a botocore session; ``data_path`` is what ``AWS_DATA_PATH`` names."""
    folders = data_path.split(os.pathsep) if data_path else []
    extra = [os.path.expanduser(os.path.expandvars(folder)) for folder in folders]  # noqa: PTH111 (as botocore does)
    return _Models(extra_search_paths=extra, file_loader=_Reader())


class _Reader(JSONFileLoader):
    """With a faster parser, and what is packed without its documentation, which is most of it."""

    def load_file(self, file_path: str) -> Any:
        """What is in it; ``None`` where the file does not exist."""
        plain, packed = Path(f"{file_path}.json"), Path(f"{file_path}.json.gz")
        if plain.is_file():
            return msgspec.json.decode(plain.read_bytes())
        return _unpacked(packed) if packed.is_file() else None


def _unpacked(packed: Path) -> Any:
    """What is in the file, kept in the cache for the next command."""
    found = packed.stat()
    return described(packed, found.st_size, found.st_mtime_ns)


@cache
def described(packed: Path, size: int, modified_ns: int) -> Any:
    """The content of a file of this size and time, for all sessions of this process: each region has its own."""
    known_by = f"{packed}\0{size}\0{modified_ns}\0{_FORMAT}"
    version, service = packed.parent, packed.parent.parent
    prefix = f"{service.name}-{version.name}-{packed.name.partition('.')[0]}-"
    cached = cache_folder() / "botocore" / f"{prefix}{sha256(known_by.encode()).hexdigest()[:16]}.json"
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(cached.read_bytes())
    description = without_documentation(msgspec.json.decode(gzip.decompress(packed.read_bytes())))
    with suppress(OSError):
        for old in cached.parent.glob(f"{prefix}*"):
            if time.time() - old.stat().st_mtime > _UNUSED_SECONDS:
                old.unlink()
        write_atomically(cached, msgspec.json.encode(description).decode(), mode=0o600)
    return description


def without_documentation(value: Any) -> Any:
    """The description without the texts for people; a member that is called so is no text, and stays. Pure.

    botocore itself reads the texts of S3's settings for clients (``ClientContextParameter``), and fails without them.
    """
    if isinstance(value, dict):
        return {
            key: item if key == "clientContextParams" else without_documentation(item)
            for key, item in value.items()
            if key != "documentation" or not isinstance(item, str)
        }
    return [without_documentation(item) for item in value] if isinstance(value, list) else value


class _Models(Loader):
    """Asked whether there is a service, it looks for that one."""

    def list_available_services(self, type_name: str) -> Any:
        """As botocore's, by name; a list of all is made only for whoever goes through it."""
        listed: Callable[[str], list[str]] = super().list_available_services
        return _Services(lambda: listed(type_name), lambda name: self._has(name, type_name))

    def _has(self, service: str, type_name: str) -> bool:
        try:
            return bool(self.list_api_versions(service, type_name))
        except DataNotFoundError:
            return False


class _Services(Sequence[str]):
    def __init__(self, names: Callable[[], list[str]], has: Callable[[str], bool]) -> None:
        self._list = names
        self._has = has

    @cached_property
    def _names(self) -> list[str]:
        return self._list()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._has(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: Any) -> Any:
        return self._names[index]
