"""Progress on stderr."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from runctl.render.progress import (
    LineProgress,
    LogOutput,
    TerminalProgress,
    WarningsOnly,
    finish,
    progress_for,
)


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


class Screen(io.TextIOWrapper):
    """One terminal that both the log and progress are written to."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        """All that was written, without the spinner's cursor movements."""
        written = self.buffer.getvalue().decode()  # type: ignore[attr-defined]
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)


@pytest.mark.parametrize("kind", [TerminalProgress, LineProgress])
def test_progress_and_a_log_on_one_screen_never_share_a_line(kind: type[LineProgress]) -> None:
    screen = Screen()
    progress = kind(screen)
    progress.step("starting run-1")
    with LogOutput(progress, screen, shared=True) as log:
        log.write(b"epoch 1\n  5%|#    |")
        progress.warn("the machine answers again")
        log.write(b"\r 10%|##   |")
        progress.note("synced 1 changed file")
        progress.note("r starts the run over")
        log.write(b"done\n")
    progress.note("over")
    assert screen.text.endswith(
        "epoch 1\n  5%|#    |\nwarning: the machine answers again\n"
        "\r 10%|##   |\nsynced 1 changed file\nr starts the run over\ndone\nover\n"
    )


def test_a_step_while_a_log_is_shown_does_not_spin() -> None:
    screen = Screen()
    progress = TerminalProgress(screen)
    with LogOutput(progress, screen, shared=True) as log:
        log.write(b"step 12")
        progress.step("sending 1 file")
        progress.update("half", done=1, total=2)
        progress.finish()
    assert screen.text == "step 12"


def test_a_log_that_goes_elsewhere_leaves_progress_as_it_is(tmp_path: Path) -> None:
    screen = Screen()
    progress = TerminalProgress(screen)
    with (tmp_path / "log").open("w") as file, LogOutput(progress, file) as log:
        log.write(b"step 12")
        progress.note("synced")
    assert (tmp_path / "log").read_text() == "step 12"
    assert screen.text == "synced\n"
