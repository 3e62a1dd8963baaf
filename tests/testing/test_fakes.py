"""What tests are given behaves as it says; above all, it fails on what nobody scripted."""

from __future__ import annotations

from datetime import timedelta
from io import BytesIO
from pathlib import PurePosixPath

import pytest

from runctl.core.errors import NotFound, Unreachable
from runctl.testing.clock import ManualClock
from runctl.testing.transport import FakeTransport
from runctl.transport.interface import Completed


def test_a_command_that_nobody_scripted_fails_the_test() -> None:
    with pytest.raises(AssertionError, match="no answer was scripted"):
        FakeTransport().run(["true"])


def test_answers_come_in_order_and_the_last_one_stays() -> None:
    fake = FakeTransport()
    fake.on(["ask"], b"first", Unreachable("gone"), 3)

    assert fake.run(["ask", "x"]).stdout == b"first"
    with pytest.raises(Unreachable):
        fake.run(["ask"])
    assert [fake.run(["ask"]).exit_code for _ in range(3)] == [3, 3, 3]


def test_a_later_script_beats_an_earlier_one() -> None:
    fake = FakeTransport()
    fake.on(["ask"], b"old")
    fake.on(lambda argv: argv[0] == "ask", b"new")

    assert fake.run(["ask"]).stdout == b"new"


def test_a_stream_hands_over_both_outputs() -> None:
    fake = FakeTransport()
    fake.on(["ask"], Completed((), 4, b"out", b"err"))
    out, err = bytearray(), bytearray()

    assert fake.stream(["ask"], on_stdout=out.extend, on_stderr=err.extend) == 4
    assert (bytes(out), bytes(err)) == (b"out", b"err")


def test_files_are_kept() -> None:
    fake = FakeTransport()
    fake.put(b"content", PurePosixPath("/a"))
    sink = BytesIO()

    assert fake.get(PurePosixPath("/a"), sink) == 7
    with pytest.raises(NotFound):
        fake.get(PurePosixPath("/b"), sink)


def test_sleeping_takes_no_time_and_moves_the_clock() -> None:
    clock = ManualClock()
    before = clock.now()

    clock.sleep(3600)
    clock.advance(timedelta(hours=1))

    assert clock.now() - before == timedelta(hours=2)
    assert clock.monotonic() == 7200
