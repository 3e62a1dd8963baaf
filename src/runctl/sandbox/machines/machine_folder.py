"""A machine's folder: the accounts in it, and how it is discarded."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from pathlib import Path


def accounts(login_user: str) -> dict[str, str]:
    """This computer's accounts with the image's login user as 1000, whoever has that number here; root stays root."""
    found = {}
    rows = {
        "passwd": f"{login_user}:x:1000:1000::/home/{login_user}:/bin/bash",
        "group": f"{login_user}:x:1000:",
        "shadow": f"{login_user}:*:19000:0:99999:7:::",
    }
    for name, row in rows.items():
        lines = Path("/etc", name).read_text().splitlines()
        kept = [
            line
            for line in lines
            if login_user == "root"
            or (
                not line.startswith(f"{login_user}:")
                and (name == "shadow" or line.split(":")[2:3] != ["1000"])
            )
        ]
        if name == "shadow":
            kept = [_without_password(line) for line in kept]
        found[name] = "\n".join([*kept, *([] if login_user == "root" else [row]), ""])
    return found


def _without_password(line: str) -> str:
    """Nobody logs in by a password, and this computer's are kept from machines."""
    user, _, rest = line.partition(":")
    return f"{user}:*:{rest.partition(':')[2]}"


ENDED = ".ended"
"""The suffix of a machine's folder whose content is being removed."""


def discard(folder: Path) -> None:
    """Remove it; its content is removed in the background, as an image's files take seconds."""
    ended = folder.with_name(folder.name + ENDED)
    with contextlib.suppress(FileNotFoundError):
        folder.rename(ended)
        threading.Thread(target=remove_folder, args=(ended,), daemon=True).start()


def remove_folder(folder: Path) -> None:
    """Remove it, whatever modes the machine gave to what is in it."""
    limit = time.monotonic() + 10
    while folder.exists():
        # Several machines go at once: a program of its own does not wait for Python's lock.
        subprocess.run(["rm", "-rf", "--", str(folder)], check=False, capture_output=True)
        if time.monotonic() > limit:
            break
        if folder.exists():
            time.sleep(0.1)
