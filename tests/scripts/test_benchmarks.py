"""How benchmarks are measured and told."""

from __future__ import annotations

import datetime as dt

import pytest
from benchmarks.measure import Result, interleaved
from benchmarks.table import BEGIN, END, PAGE, put_into, render, row, rows_of


def test_both_are_run_in_turn_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []
    result = interleaved(
        "x",
        lambda: calls.append("ours"),
        "y",
        lambda: calls.append("theirs"),
        rounds=2,
        before=lambda: calls.append("."),
    )
    assert calls == [".", "theirs", ".", "ours", ".", "ours", ".", "theirs", ".", "theirs", ".", "ours"]
    assert result.rounds == 2


@pytest.mark.parametrize(("ours", "met"), [(0.5, True), (1.0, True), (1.01, False)])
def test_a_target_is_a_ratio_where_there_is_a_peer(ours: float, met: bool) -> None:
    assert Result("x", ours, "y", 2.0, 1, target=0.5).met is met


def test_a_target_is_a_number_where_there_is_no_peer() -> None:
    assert Result("x", 3.0, "", None, 1, target=2.0).met is False
    assert Result("x", 1.0, "", None, 1, target=2.0).met is True


def test_a_row_says_who_was_compared_and_whether_the_target_was_missed() -> None:
    result = Result("listing", 0.3, "boto3", 0.2, 7, target=1.3)
    line = "| listing | 300 ms | boto3: 200 ms | 1.50 | ≤ 1.3 (missed) | 7 | 2026-05-01 |"
    assert row(result, dt.date(2026, 5, 1)) == line


def test_the_page_keeps_its_words_around_new_results() -> None:
    page = f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n"
    second = put_into(put_into(page, "new"), "newer")
    assert second == f"before\n\n{BEGIN}\n\nnewer\n\n{END}\n\nafter\n"


def test_a_page_without_a_place_for_results_is_refused() -> None:
    with pytest.raises(ValueError, match="has no"):
        put_into("nothing here", "new")


def test_what_is_measured_again_takes_its_own_place_and_leaves_the_others() -> None:
    first, second = dt.date(2026, 5, 1), dt.date(2026, 5, 2)
    sync = [Result("sync", 1.0, peer, 2.0, 1) for peer in ("rsync", "scp")]
    page = put_into(f"{BEGIN}\n{END}", render([*sync, Result("start", 1.0, "", None, 1)], {}, first))

    repeated = [Result("sync", 4.0, "rsync", 2.0, 1), Result("new", 1.0, "", None, 1)]
    page = put_into(page, render(repeated, {}, second, rows_of(page)))

    assert rows_of(page) == [
        row(repeated[0], second),
        row(sync[1], first),
        row(Result("start", 1.0, "", None, 1), first),
        row(repeated[1], second),
    ]


def test_what_was_not_measured_is_said() -> None:
    table = render([], {"sync": "there is no sshd"}, dt.date(2026, 5, 1))
    assert "Not measured: sync, there is no sshd." in table


def test_the_documentation_has_a_place_for_results() -> None:
    assert BEGIN in PAGE.read_text()
    assert END in PAGE.read_text()
