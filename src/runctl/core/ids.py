"""The kinds of identifiers, and new ones of our own."""

from __future__ import annotations

import re
from typing import NewType

InstanceId = NewType("InstanceId", str)
VolumeId = NewType("VolumeId", str)
SnapshotId = NewType("SnapshotId", str)
RunId = NewType("RunId", str)

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_ALPHABET = "abcdefghjkmnpqrstvwxyz23456789"


def is_run_id(text: str) -> bool:
    """Whether a run can have this id, as machines have it as well: what a store or a machine calls a run becomes the
    name of files and folders here. Pure."""
    return _RUN_ID.fullmatch(text) is not None


def new_run_id() -> RunId:
    """A run id such as ``run-7kq2m9xd4t``: ten random lower-case characters, none that look alike."""
    # Most commands make no id, and the random numbers take as long to load as the command line's options.
    import secrets

    return RunId("run-" + "".join(secrets.choice(_ALPHABET) for _ in range(10)))


def run_id_of(seed: bytes) -> RunId:
    """The run id that these bytes stand for: the same for the same ones, which are random. Pure."""
    number, letters = int.from_bytes(seed, "big"), []
    for _ in range(10):
        number, letter = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[letter])
    return RunId("run-" + "".join(letters))


def new_client_token() -> str:
    """A token that makes a create call idempotent: 32 hexadecimal characters, within AWS's 64."""
    import secrets

    return secrets.token_hex(16)
