"""Who has been told to end, and who had ended before."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from runctl.agent.machine import processes
from runctl.agent.machine.shutdown import ProcessStopper, Shutdown

pytestmark = pytest.mark.linux


def test_a_script_that_has_ended_by_itself_was_never_told_to_end() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as script:
        os.waitid(os.P_PID, script.pid, os.WEXITED | os.WNOWAIT)
        stopper = ProcessStopper()
        told = stopper.request([script.pid], processes.table(), Shutdown(time.monotonic(), 30.0))
        assert (told, stopper.requested, stopper.told_at) == ([], False, None)
