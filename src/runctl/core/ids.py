"""The kinds of identifiers, and new ones of our own."""

from __future__ import annotations

from typing import NewType

InstanceId = NewType("InstanceId", str)
VolumeId = NewType("VolumeId", str)
SnapshotId = NewType("SnapshotId", str)
RunId = NewType("RunId", str)

_ALPHABET = "abcdefghjkmnpqrstvwxyz23456789"


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
