"""What is left of a command's changes when it ends early."""

from __future__ import annotations

import pytest

from runctl.core.errors import MachineError
from runctl.core.journal import Change, Effect, Journal, Standing, net
from runctl.testing.clock import ManualClock

MADE, GONE, CHANGED = Effect.CREATED, Effect.GONE, Effect.CHANGED
MAYBE = Standing.UNDER_WAY


def change(
    effect: Effect, *subject: str, kind: str = "volume", standing: Standing = Standing.DONE, fact: str = ""
) -> Change:
    return Change(
        kind, subject, effect, fact or f"{kind} {' '.join(subject)} {effect.value}", standing=standing
    )


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ([change(MADE, "v")], ["volume v made"]),
        ([change(MADE, "v"), change(GONE, "v")], []),
        ([change(GONE, "v")], ["volume v gone"]),
        # It is not known whether the deletion was carried out.
        ([change(MADE, "v"), change(GONE, "v", standing=MAYBE)], ["volume v gone"]),
        ([change(MADE, standing=MAYBE)], ["volume  made"]),
        ([change(MADE, "v", standing=MAYBE, fact="may"), change(MADE, "v", fact="is")], ["is"]),
        ([change(MADE, standing=Standing.REFUSED)], []),
        ([change(CHANGED, "v", fact="first"), change(CHANGED, "v", fact="second")], ["second"]),
        # What hangs on a thing goes with it.
        (
            [
                change(MADE, "i", kind="instance"),
                change(MADE, "v", "i", kind="attachment"),
                change(GONE, "i", kind="instance"),
            ],
            [],
        ),
        ([change(GONE, "v", "i", kind="attachment"), change(MADE, "v", "i", kind="attachment")], []),
        ([change(MADE, "v", fact="with its size"), change(MADE, "v", fact="waited for")], ["with its size"]),
        ([change(MADE, "v"), change(MADE, "w")], ["volume v made", "volume w made"]),
    ],
)
def test_what_is_left_of_several_changes(changes: list[Change], left: list[str]) -> None:
    assert [each.fact for each in net(changes)] == left


def test_a_call_without_an_answer_may_have_been_carried_out() -> None:
    journal = Journal()
    with (
        pytest.raises(KeyboardInterrupt),
        journal.changing(change(MADE, "v"), change(MADE, "v", fact="done")),
    ):
        raise KeyboardInterrupt
    assert [each.standing for each in journal.changes()] == [MAYBE]


def test_what_the_machine_refused_was_not_done() -> None:
    journal = Journal()
    with pytest.raises(MachineError), journal.changing(change(MADE, "v"), change(MADE, "v")):
        raise MachineError("disk busy")
    assert journal.changes() == ()


def test_what_came_to_its_end_is_not_unfinished() -> None:
    journal = Journal()
    with journal.unfinished(change(MADE, "v")):
        assert len(journal.changes()) == 1
    assert journal.changes() == ()


def test_what_an_unanswered_call_has_made_is_looked_for() -> None:
    journal = Journal()
    answers = [None, change(MADE, "v")]
    journal.begin(change(MADE), find=lambda: answers.pop(0))
    assert [(each.subject, each.standing) for each in journal.settle(clock=ManualClock())] == [
        (("v",), Standing.DONE)
    ]


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), RuntimeError()])
def test_a_look_that_fails_leaves_it_uncertain(failure: BaseException) -> None:
    def find() -> Change | None:
        raise failure

    journal = Journal()
    journal.begin(change(MADE), find=find)
    assert [each.standing for each in journal.settle(clock=ManualClock())] == [MAYBE]


def test_a_listener_hears_of_each_change_as_it_begins_and_ends() -> None:
    journal, heard = Journal(), list[Standing]()
    stop = journal.listen(lambda each: heard.append(each.standing))
    journal.begin(change(MADE)).done(change(MADE, "v"))
    stop()
    journal.record(change(MADE, "w"))
    assert heard == [MAYBE, Standing.DONE]
