"""Every order of interruptions, silence, kills, stops and ends leaves one run with one end, and nothing rented."""

from __future__ import annotations

from hypothesis import settings

from tests.runs.recovering.recovery_machine import Recovery

TestRecovery = Recovery.TestCase
TestRecovery.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
