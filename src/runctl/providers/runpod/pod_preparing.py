"""A pod is given what ends it: a ``shutdown`` of its own, and its limits."""

from __future__ import annotations

import os
from datetime import timedelta
from importlib import resources
from pathlib import PurePosixPath

from runctl.core.errors import UsageError
from runctl.core.machine_models import Instance
from runctl.core.progress import Progress
from runctl.providers.first_boot import user_data
from runctl.providers.preparing import limits_of, prepare
from runctl.providers.runpod.context import RunPodContext
from runctl.providers.runpod.machines import LOGIN_USER
from runctl.transport.interface import Transport

_COMMAND_TIMEOUT = timedelta(seconds=45)
END_POD = "/usr/local/lib/runctl/end_pod.py"
SHUTDOWNS = ("/usr/local/sbin/shutdown", "/usr/local/bin/shutdown")
"""Not all of what comes in by SSH looks in the first."""
_SHUTDOWN = f"""\
#!/bin/sh
exec "$(command -v python3)" -IS {END_POD} "$@"
"""
_PRE_START = """\
#!/bin/sh
# RunPod's own images run this before anything else: what guards the pod starts again with it.
for each in /var/lib/cloud/scripts/per-boot/*; do [ ! -x "$each" ] || "$each"; done
"""


def _end_pod() -> bytes:
    return resources.files("runctl.providers.runpod").joinpath("end_pod.py").read_bytes()


def prepare_pod(context: RunPodContext, instance: Instance, transport: Transport, progress: Progress) -> None:
    """What ends machines finds a ``shutdown`` in the pod, and knows its limits; once, and after each start."""

    def script() -> str:
        name = context.settings.end_key
        key = os.environ.get(name) if name is not None else None
        if name is not None and not key:
            raise UsageError(f"runpod.end_key names {name}, which is not set", hint=f"export {name}=KEY")
        if key:
            # The pod's own program: it brings a client for HTTP that nothing here needs.
            from runctl.providers.runpod.end_pod import KEY_FILE

            transport.put(f"{key}\n".encode(), PurePosixPath(KEY_FILE), mode=0o600)
        limits = limits_of(instance.tags, context.clock.now())
        return user_data(login_user=LOGIN_USER, limits=limits, docker=False)

    if transport.run(["test", "-e", END_POD], timeout=_COMMAND_TIMEOUT).exit_code != 0:
        transport.put(_end_pod(), PurePosixPath(END_POD), mode=0o755)
        for path in SHUTDOWNS:
            transport.put(_SHUTDOWN.encode(), PurePosixPath(path), mode=0o755)
        transport.put(_PRE_START.encode(), PurePosixPath("/pre_start.sh"), mode=0o755)
    prepare(instance, transport, script, progress)
