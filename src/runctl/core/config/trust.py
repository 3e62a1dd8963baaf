"""Which projects' files may choose what runs with the user's rights, and where data goes.

A cloned project brings its configuration along. Its image, role, bucket or registry would be used with the rights of
whoever runs a command in it, so such keys count only after the user has looked at them (``runctl config trust``), as
with direnv and mise. What is trusted are the values: another edit of the file takes nothing away.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runctl.core.errors import ConfigError
from runctl.core.files import data_folder, make_private_folder, write_atomically


def trust_file() -> Path:
    """What is trusted on this computer: a JSON object of a file's path and the digest of its values."""
    return data_folder() / "trusted.json"


def is_trusted(file: Path, values: Mapping[str, Any]) -> bool:
    """Whether the user has trusted just these values of this file."""
    return _read().get(str(file.resolve())) == digest_of(values)


def trust(file: Path, values: Mapping[str, Any]) -> None:
    """These values of this file are trusted, and no others. Raises `ConfigError` when that cannot be kept."""
    _write({**_read(), str(file.resolve()): digest_of(values)})


def distrust(file: Path) -> bool:
    """Nothing of this file is trusted; whether anything was. Raises `ConfigError` when that cannot be kept."""
    known = _read()
    if known.pop(str(file.resolve()), None) is None:
        return False
    _write(known)
    return True


def digest_of(values: Mapping[str, Any]) -> str:
    """SHA-256 of the values by key, in hex."""
    import hashlib
    import json

    plain = {key: _plain(value) for key, value in values.items()}
    text = json.dumps(plain, sort_keys=True, default=_table)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    return (
        dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else str(value)
    )


def _table(value: Any) -> dict[str, str]:
    """One of a table of tables, as far as it is not its defaults: what was added to its kind later changes nothing."""
    set_fields = [each for each in dataclasses.fields(value) if getattr(value, each.name) != each.default]
    return {each.name: str(getattr(value, each.name)) for each in set_fields}


def _read() -> dict[str, str]:
    import json

    try:
        known = json.loads(trust_file().read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(known: Mapping[str, str]) -> None:
    import json

    file = trust_file()
    try:
        make_private_folder(file.parent)
        write_atomically(file, json.dumps(known, indent=1, sort_keys=True) + "\n", mode=0o600)
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror or error}",
            hint="check its folder's rights and the disk",
        ) from error
