"""``FILE WORDS…``: runctl, which writes into the file each password that it gives to a provider's REST API."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from runctl.providers.rest import RestClient


def main() -> int:
    """Like runctl, but indiscreet."""
    file, write = Path(sys.argv[1]), RestClient.write

    def recorded(client: RestClient, method: str, path: str, body: Any = None, **more: Any) -> Any:
        if isinstance(body, dict) and "password" in body:
            with file.open("a") as passwords:
                passwords.write(f"{body['password']}\n")
        return write(client, method, path, body, **more)

    client: Any = RestClient
    client.write = recorded
    from runctl.cli.main import run

    return run(sys.argv[2:])
