"""A new machine's SSH host keys, as its console shows them: a source that no one on the way can change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runctl.core.errors import RunctlError
from runctl.providers.aws.calls.errors import our_errors

if TYPE_CHECKING:
    from runctl.providers.aws.calls.session import AwsSession

_BEGIN = "-----BEGIN SSH HOST KEY KEYS-----"
_END = "-----END SSH HOST KEY KEYS-----"


def host_keys_in(console: str) -> tuple[str, ...]:
    """The public keys between cloud-init's marks, of the last boot that shows them. Pure."""
    _, begin, rest = console.rpartition(_BEGIN)
    if not begin or _END not in rest:
        return ()
    return tuple(
        # The console may put a time stamp and the writer's name before each line.
        " ".join(fields[-3:] if len(fields) > 2 else fields)
        for line in rest.partition(_END)[0].splitlines()
        if len(fields := line.split()) >= 2
    )


def console_host_keys(session: AwsSession, instance_id: str) -> tuple[str, ...]:
    """What ``GetConsoleOutput`` shows; empty while the console is, or where we may not read it."""
    for latest in (True, False):
        try:
            with our_errors(session.endpoint):
                output = session.ec2.get_console_output(InstanceId=instance_id, Latest=latest).get(
                    "Output", ""
                )
        except RunctlError:
            # Only Nitro machines show the latest output; and without it the first key that answers is recorded.
            continue
        keys = host_keys_in(output)
        if keys:
            return keys
    return ()
