"""How the storage layer reaches a machine: only when it has to."""

from __future__ import annotations

from collections.abc import Callable

from runctl.core.machine_models import Instance
from runctl.transport.agent import AgentClient

AgentOn = Callable[[Instance], AgentClient]
"""The agent of an instance; only called when the machine has to be asked."""
