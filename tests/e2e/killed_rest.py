"""``N WORDS…``: runctl, ended by SIGKILL after its Nth call to a provider's REST API.

``N`` as ``write:N`` counts only the calls that change something. One that makes fewer calls comes to its end.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from runctl.providers.rest import RestClient


def main() -> int:
    """Like runctl, but mortal."""
    kind, _, number = sys.argv[1].rpartition(":")
    left = int(number)

    def mortal(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **more: Any) -> Any:
            nonlocal left
            answer = call(*args, **more)
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return wrapped

    client: Any = RestClient
    client.write = mortal(RestClient.write)
    if kind != "write":
        client.read = mortal(RestClient.read)
    from runctl.cli.main import run

    return run(sys.argv[2:])
