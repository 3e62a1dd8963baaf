"""A terminal through Session Manager, by AWS's plug-in."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from runctl.core.errors import Unsupported
from runctl.transport.commands import interactive

_PLUGIN = "session-manager-plugin"
_GUIDE = (
    "https://docs.aws.amazon.com/systems-manager/latest/userguide/"
    "session-manager-working-with-install-plugin.html"
)
_LAST_WITHOUT_VARIABLE = (1, 2, 497, 0)
_RESPONSE = "AWS_SSM_START_SESSION_RESPONSE"


def terminal(client: Any, call: Callable[..., Any], instance_id: str, user: str, argv: Sequence[str]) -> int:
    """Hand this terminal to the login user's shell (or ``argv``) and return the plug-in's exit code.

    Sessions begin as ``ssm-user``, who may sudo. Raises `Unsupported` without the plug-in.
    """
    if shutil.which(_PLUGIN) is None:
        raise Unsupported(
            "a terminal over SSM needs AWS's Session Manager plug-in, which is not installed here",
            hint=f"install it ({_GUIDE}), or use --transport ssh",
        )
    command = shlex.join(["sudo", "-i", "-u", user, *(["--", *argv] if argv else [])])
    parameters = {
        "Target": instance_id,
        "DocumentName": "AWS-StartInteractiveCommand",
        "Parameters": {"command": [command]},
    }
    response = call("start_session", **parameters)
    session = json.dumps({name: response[name] for name in ("SessionId", "TokenValue", "StreamUrl")})
    # By name where the plug-in knows how: an argument with the session's token could be read by everybody here.
    by_name = _version() > _LAST_WITHOUT_VARIABLE
    return interactive(
        [
            _PLUGIN,
            _RESPONSE if by_name else session,
            client.meta.region_name,
            "StartSession",
            "",
            json.dumps(parameters),
            client.meta.endpoint_url,
        ],
        env={_RESPONSE: session} if by_name else {},
    )


def _version() -> tuple[int, ...]:
    done = subprocess.run([_PLUGIN, "--version"], capture_output=True, text=True, check=False)
    parts = done.stdout.strip().split(".")
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()
