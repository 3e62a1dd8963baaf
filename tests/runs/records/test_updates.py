"""What a record says of an end: of one that is taken back, of a machine that is gone, of an attempt before."""

from __future__ import annotations

from dataclasses import fields, replace

from runctl.agent.after_run import MachineEnd
from runctl.agent.encoding import ExitCode
from runctl.agent.end_reason import EndReason
from runctl.agent.interruption import HandOff
from runctl.agent.spec import AttemptStatus, EndRecord, RunState
from runctl.core.errors import InstanceEnded
from runctl.core.run_models import RunPhase
from runctl.runs.records.updates import (
    before_it_began,
    from_status,
    with_end,
    with_its_machine,
    without_end,
)
from tests.runs.sample_runs import T0, a_run

END = EndRecord(
    EndReason.INTERRUPTED,
    T0.timestamp() + 60,
    exit_code=ExitCode(143),
    signal=15,
    message="the provider took the machine back",
    log_bytes=1024,
    log_sha256="0" * 64,
    log_kept=True,
    max_rss_bytes=1,
    cpu_seconds=1.0,
    hand_off=HandOff(T0.timestamp() + 120),
    caused_by=1,
    script_ended_at=T0.timestamp() + 50,
    cause=EndReason.INTERRUPTED,
    gone=(1,),
)
"""With everything that an end may say."""


def test_nothing_of_an_end_is_left_in_the_record_of_a_run_that_goes_on() -> None:
    assert not [each.name for each in fields(END) if getattr(END, each.name) == each.default]
    going = a_run()
    ended = with_end(going, END)

    open_again = without_end(ended)

    # The log is as long as it was.
    assert replace(open_again, state=RunPhase.RUNNING, log_bytes=going.log_bytes) == going
    assert (open_again.state, open_again.log_bytes) == (RunPhase.ENDED, END.log_bytes)


def test_the_next_attempt_knows_nothing_of_how_the_last_one_ended() -> None:
    going = a_run()

    following = before_it_began(with_end(going, END), 2)

    assert [each.end_reason for each in following.past] == [END.reason]
    assert following == replace(going, attempt=2, state=RunPhase.PENDING, past=following.past)


def test_an_attempt_that_no_machine_has_heard_of_has_not_ended_with_nobody_looking() -> None:
    began = a_run(machine_end=MachineEnd(), mounts=())
    written_down = before_it_began(with_end(began, END), 2)
    heard_of = from_status(written_down, AttemptStatus(began.id, 2, RunState.PENDING), T0)
    gone = InstanceEnded("i-0abc is terminated", by_itself=True)

    ends = [with_its_machine(each, gone, T0) for each in (written_down, heard_of)]

    assert [each.end_reason for each in ends] == [EndReason.LOST, EndReason.UNSEEN]
    assert ends[0].message == "i-0abc is terminated: its machine never said that it had been told of it"
