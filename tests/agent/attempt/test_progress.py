"""How far a script is, by what it prints and by what its callbacks write."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from runctl.agent.attempt.progress import ProgressReader, following, newest_match
from runctl.agent.deadline_spec import PROGRESS_FILE, ProgressStatus
from runctl.agent.records import AttemptFolder

STEPS = r"step (?P<step>[\d,]+)(?:/(?P<total>[\d_]+))?"
BAR = r"(?P<percent>[\d.]+)%\|"


@pytest.mark.parametrize(
    ("pattern", "lines", "found"),
    [
        (STEPS, ["step 1/10", "loss 0.5", "step 2/10", "loss 0.4"], (2.0, 10.0)),
        (STEPS, ["step 1,250/10_000"], (1250.0, 10000.0)),
        (STEPS, ["step 7"], (7.0, None)),
        (STEPS, ["loss 0.5"], None),
        (BAR, [" 42.5%|████ | 17/40"], (42.5, 100.0)),
        (r"(?P<step>\w+) of (?P<total>\w+)", ["3 of 9", "one of many"], (3.0, 9.0)),
        (r"at(?: (?P<step>\d+))?", ["at 5", "at"], (5.0, None)),
    ],
)
def test_the_last_line_that_says_a_step_counts(
    pattern: str, lines: list[str], found: tuple[float, float | None] | None
) -> None:
    assert newest_match(re.compile(pattern), lines) == found


AT_10 = ProgressStatus(10.0, 100.0, 50.0, 4.0, 30.0)


@pytest.mark.parametrize(
    ("known", "told", "now", "then"),
    [
        (None, (4.0, 100.0), 30.0, ProgressStatus(4.0, 100.0, 30.0, 4.0, 30.0)),
        (AT_10, (12.0, 100.0), 60.0, ProgressStatus(12.0, 100.0, 60.0, 4.0, 30.0)),
        # The pace is that of the time in which steps were made.
        (AT_10, (10.0, 100.0), 60.0, AT_10),
        (AT_10, (12.0, None), 60.0, ProgressStatus(12.0, 100.0, 60.0, 4.0, 30.0)),
        # Another count: the next epoch's, or that of the validation.
        (AT_10, (1.0, 100.0), 60.0, ProgressStatus(1.0, 100.0, 60.0, 1.0, 60.0)),
        (AT_10, (11.0, 20.0), 60.0, ProgressStatus(11.0, 20.0, 60.0, 11.0, 60.0)),
        # Nonsense.
        (AT_10, (-1.0, 100.0), 60.0, AT_10),
        (AT_10, (11.0, 0.0), 60.0, AT_10),
        (AT_10, (float("nan"), 100.0), 60.0, AT_10),
        (AT_10, (float("inf"), None), 60.0, AT_10),
    ],
)
def test_what_is_told_follows_what_was_known(
    known: ProgressStatus | None, told: tuple[float, float | None], now: float, then: ProgressStatus
) -> None:
    assert following(known, told, now) == then


def a_reader(tmp_path: Path, pattern: str | None = STEPS) -> tuple[ProgressReader, AttemptFolder, Path]:
    folder, output = AttemptFolder(tmp_path / "run-aaaa" / "1"), tmp_path / "output"
    folder.path.mkdir(parents=True)
    output.mkdir()
    return ProgressReader(folder, output, pattern), folder, output


def test_a_log_is_read_as_it_grows_and_no_unfinished_line_is(tmp_path: Path) -> None:
    reader, folder, _ = a_reader(tmp_path)
    reader.poll_now()
    assert folder.progress() is None
    with folder.log.open("a") as log:
        for text, step in (("step 1/100\nst", 1), ("ep 2/100\rstep 3", 2), ("4/100\n", 34), ("step 35/", 34)):
            log.write(text)
            log.flush()
            reader.poll_now()
            known = folder.progress()
            assert known is not None
            assert (known.step, known.total) == (step, 100)
        # Our own lines are not the script's.
        log.write("100\n[runctl] step 99/100\n" + "loss 0.1 " * 100_000 + "\nstep 36/100\n")
    reader.poll_now()
    known = folder.progress()
    assert known is not None
    assert known.step == 36


def test_the_scripts_own_file_counts_more_than_its_log_and_goes_at_the_end(tmp_path: Path) -> None:
    reader, folder, output = a_reader(tmp_path)
    file = output / PROGRESS_FILE
    folder.log.write_text("step 1/10\n")
    for said in ("", "{", "[1]", '{"step": "x"}', '{"total": 5}', "null"):
        file.write_text(said)
        reader.poll_now()
    known = folder.progress()
    assert known is not None
    assert (known.step, known.total) == (1, 10)

    file.write_text(json.dumps({"step": 500, "total": 1000}))
    reader.finish()

    known = folder.progress()
    assert known is not None
    assert (known.step, known.total) == (500, 1000)
    assert not file.exists()


def test_what_an_earlier_attempt_has_left_is_not_this_ones(tmp_path: Path) -> None:
    output = tmp_path / "kept"
    output.mkdir()
    (output / PROGRESS_FILE).write_text('{"step": 99}')
    folder = AttemptFolder(tmp_path / "run-aaaa" / "2")
    folder.path.mkdir(parents=True)
    ProgressReader(folder, output, None).poll_now()
    assert folder.progress() is None


def test_a_pattern_that_cannot_be_used_stops_nothing(tmp_path: Path) -> None:
    reader, folder, _ = a_reader(tmp_path, "(?P<step>")
    folder.log.write_text("step 1/10\n")
    reader.poll_now()
    assert "cannot be used" in reader.trouble
    assert folder.progress() is None
