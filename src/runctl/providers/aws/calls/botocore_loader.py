"""botocore's descriptions of AWS's services, found by name and read by a faster parser.

A short command has little else to do: botocore looks through the folders of all services for the one that is asked for,
and EC2's description is megabytes of JSON. `benchmarks.startup` measures such a command.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
from botocore.exceptions import DataNotFoundError
from botocore.loaders import JSONFileLoader, Loader


def loader(data_path: str | None) -> Loader:
    """For the component ``data_loader`` of a botocore session; ``data_path`` is what ``AWS_DATA_PATH`` names."""
    folders = data_path.split(os.pathsep) if data_path else []
    extra = [os.path.expanduser(os.path.expandvars(folder)) for folder in folders]  # noqa: PTH111 (as botocore does)
    return _Models(extra_search_paths=extra, file_loader=_Reader())


class _Reader(JSONFileLoader):
    """With a faster parser."""

    def load_file(self, file_path: str) -> Any:
        """What is in it; ``None`` where the file does not exist."""
        content = _content(Path(f"{file_path}.json"), Path(f"{file_path}.json.gz"))
        return None if content is None else msgspec.json.decode(content)


def _content(plain: Path, packed: Path) -> bytes | None:
    if plain.is_file():
        return plain.read_bytes()
    return gzip.decompress(packed.read_bytes()) if packed.is_file() else None


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
