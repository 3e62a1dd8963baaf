"""Progress on stderr."""

from __future__ import annotations

import io

import pytest

from runctl.render.progress import LineProgress, TerminalProgress, WarningsOnly, finish, progress_for


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_kind_suits_the_stream() -> None:
    assert type(progress_for(io.StringIO())) is LineProgress
    assert type(progress_for(Terminal())) is TerminalProgress
    assert type(progress_for(Terminal(), quiet=True)) is WarningsOnly


def test_quiet_shows_warnings_alone() -> None:
    stream = io.StringIO()
    progress = progress_for(stream, quiet=True, verbose=True)
    progress.step("a")
    progress.update("b", done=1, total=2)
    progress.note("c")
    progress.detail("d")
    progress.warn("e")
    assert stream.getvalue() == "warning: e\n"


def test_without_a_terminal_each_step_is_a_line() -> None:
    stream = io.StringIO()
    progress = progress_for(stream)
    progress.step("waiting for i-1 to run")
    progress.note("it runs")
    progress.detail("by ssh")
    finish(progress)
    assert stream.getvalue() == "waiting for i-1 to run\nit runs\n"


def test_details_are_shown_under_verbose() -> None:
    stream = io.StringIO()
    progress_for(stream, verbose=True).detail("by ssh")
    assert stream.getvalue() == "  by ssh\n"


def test_without_a_terminal_updates_are_rare_and_never_repeated() -> None:
    stream, time = io.StringIO(), Time()
    progress = LineProgress(stream, monotonic=time)
    progress.step("sending")
    for second in range(35):
        time.now += 1
        progress.update("files", done=1 if second < 15 else 1500, total=2000)
    assert stream.getvalue() == "sending\n  files 1 of 2,000\n  files 1,500 of 2,000\n"


def test_on_a_terminal_a_finished_step_stays_as_a_line_with_its_time() -> None:
    stream, time = Terminal(), Time()
    progress = TerminalProgress(stream, monotonic=time)
    progress.step("waiting for [i-1]")
    progress.update("[bold]pending", done=3)
    time.now += 12.5
    progress.warn("slow [today]")
    progress.finish()
    text = stream.getvalue()
    assert "waiting for [i-1] (12.5 s)" in text
    assert "warning: slow [today]" in text


def test_finishing_twice_or_without_a_step_writes_nothing() -> None:
    stream = Terminal()
    progress = TerminalProgress(stream)
    progress.finish()
    finish(progress)
    assert stream.getvalue() == ""


class Broken(io.StringIO):
    def __init__(self, error: Exception, terminal: bool) -> None:
        super().__init__()
        self.error = error
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str, /) -> int:
        raise self.error


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "no space"), ValueError("closed file")])
def test_a_stderr_that_nobody_reads_stops_no_work(error: Exception, terminal: bool) -> None:
    progress = progress_for(Broken(error, terminal))
    progress.step("renting")
    progress.update("still")
    progress.note("rented")
    progress.warn("careful")
    finish(progress)
