"""``WORDS…``: runctl, ended by SIGKILL right after the first thing that it changed.

Run again and again, it dies a step later each time, until there is nothing left to change. With ``KILL_AFTER`` in the
environment it dies after that call of AWS's or verb of the agent's, and no other.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Mapping
from typing import Any

from botocore.client import BaseClient

from runctl.transport.agent import AgentClient

ALL_CHANGES = r"(Create|Delete|Attach|Detach|Modify|Copy|Suspend|SetDesired)(?!.*Token)"
SERVICES = {"ec2", "autoscaling"}
VERBS = {"attach", "detach", "grow", "freeze", "thaw"}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    """Like runctl, but mortal."""
    changes = re.compile(os.environ.get("KILL_AFTER", ALL_CHANGES))
    client: Any = BaseClient
    call_aws, call_agent = client._make_api_call, AgentClient.call

    def aws(self: BaseClient, operation: str, parameters: Mapping[str, Any]) -> Any:
        answer = call_aws(self, operation, parameters)
        if changes.match(operation) and self.meta.service_model.service_name in SERVICES:
            sys.stderr.write(f"KILLED AFTER {operation}\n")
            sys.stderr.flush()
            die()
        return answer

    def agent(self: AgentClient, verb: str, request: Mapping[str, Any], **more: Any) -> Any:
        answer = call_agent(self, verb, request, **more)
        # What was so already is no change.
        changed = verb in VERBS and not answer.get("already_mounted") and answer.get("was_mounted", True)
        if changes.fullmatch(verb) if "KILL_AFTER" in os.environ else changed:
            sys.stderr.write(f"KILLED AFTER the agent's {verb}\n")
            sys.stderr.flush()
            die()
        return answer

    client._make_api_call = aws
    AgentClient.call = agent  # type: ignore[method-assign]
    from runctl.cli.main import run

    return run(sys.argv[1:])
