"""What a machine is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Hardware:
    """What a machine is made of, from the call that launches it."""

    instance_id: str
    login_user: str
    docker: bool
    """Whether its image has Docker."""
    authorized_key: str | None
    """The key pair's public half."""
    user_data: bytes | None
    environment: Mapping[str, str]
    """Of every login, as /etc/environment."""
    systemd: bool = False
    """Whether its first process is systemd."""
    image: Path | None = None
    """What its root disk begins with, where that is more than this computer's root."""
    shares: tuple[tuple[Path, str], ...] = ()
    """Folders of this computer that it has mounted from its first moment, each with its path there."""


def image_disk(folder: Path) -> Path:
    """The file system that machines have an image's folder in."""
    return folder.with_suffix(".disk")
