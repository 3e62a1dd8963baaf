"""``OPERATION WORDS…``: runctl, killed when AWS has answered that call, before it hears of the answer."""

from __future__ import annotations

import os
import sys
from typing import Any

import botocore.endpoint


def main() -> int:
    """Like runctl, but mortal."""
    operation, *argv = sys.argv[1:]
    endpoints: Any = botocore.endpoint.Endpoint
    make_request = endpoints.make_request

    def send(endpoint: Any, model: Any, request: Any) -> Any:
        answer = make_request(endpoint, model, request)
        if model.name == operation:
            os._exit(9)
        return answer

    endpoints.make_request = send
    from runctl.cli.main import run

    return run(argv)
