"""The dashboard, driven by its keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from runctl.cli.top import actions
from runctl.cli.top.app import TopApp
from runctl.core.errors import ConfigError, RunctlError
from runctl.runs.observing import Observation
from runctl.runs.records.shown_run import as_run
from tests.cli.top.observations import NOW, Fixed, an_observation
from tests.runs.nodes.records import on_machines

HOUR = timedelta(hours=1)
SIZE = (132, 28)
Drive = Callable[[Pilot[None]], Awaitable[None]]


def driven(drive: Drive, observer: Fixed | None = None) -> list[tuple[str, ...]]:
    """The commands that were carried out while the app was driven so."""
    carried_out: list[tuple[str, ...]] = []

    def carry_out(argv: Sequence[str]) -> None:
        carried_out.append(tuple(argv))

    async def main() -> None:
        app = TopApp(lambda: observer or Fixed(), HOUR, ("--profile", "work"), carry_out)
        async with app.run_test(size=SIZE) as pilot:
            await until(pilot, lambda: app.query_one("#runs", DataTable).row_count > 0 or problems(app) != "")
            await drive(pilot)

    asyncio.run(main())
    return carried_out


async def until(pilot: Pilot[None], holds: Callable[[], bool]) -> None:
    """Waits for what another thread brings about; a test's own time limit ends what never comes."""
    while not holds():
        await pilot.pause(0.01)


def problems(app: Any) -> str:
    return str(app.query_one("#problems", Static).render())


def keys(*pressed: str) -> Drive:
    async def drive(pilot: Pilot[None]) -> None:
        await pilot.press(*pressed)
        await pilot.pause()

    return drive


def test_it_shows_machines_runs_costs_and_what_could_not_be_asked(snap_compare: Any) -> None:
    observation = an_observation(problems=("aws could not be asked: the network is down",))

    async def shown(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "network" in problems(pilot.app))

    app = TopApp(lambda: Fixed(observation), HOUR)
    assert snap_compare(app, terminal_size=SIZE, run_before=shown)


def test_a_command_that_does_not_ask_is_asked_about(snap_compare: Any) -> None:
    async def asked(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: pilot.app.query_one("#runs", DataTable).row_count > 0)
        await pilot.press("s")
        await pilot.pause()

    assert snap_compare(TopApp(Fixed, HOUR), terminal_size=SIZE, run_before=asked)


@pytest.mark.parametrize(
    ("pressed", "command"),
    [
        (("l",), "runs logs run-a --tail 1000 --follow"),
        (("enter",), "runs logs run-a --tail 1000 --follow"),
        (("down", "l"), "runs logs run-b --tail 1000"),
        (("s", "y"), "runs stop run-a"),
        (("t",), "aws terminate i-1 --region us-east-1"),
        (("tab", "l"), "runs logs run-a --tail 1000 --follow"),
        (("tab", "s", "y"), "aws stop i-1 --region us-east-1"),
        (("tab", "down", "t"), "aws terminate i-2 --region eu-west-1"),
    ],
)
def test_a_key_carries_out_the_command_that_somebody_would_type(
    pressed: tuple[str, ...], command: str
) -> None:
    assert driven(keys(*pressed)) == [(*command.split(), "--profile", "work")]


def test_all_machines_of_a_run_are_terminated() -> None:
    run = as_run(on_machines("run-a", "i-1", "i-2"), NOW)
    assert actions.terminate(run.provider, actions.machines_of(run), run.region).argv == (
        *("aws", "terminate", "i-1", "i-2", "--region", "us-east-1"),
    )


@pytest.mark.parametrize(
    "pressed", [("s", "n"), ("s", "escape"), ("s", "enter"), ("tab", "down", "l"), ("q",)]
)
def test_nothing_is_carried_out_without_a_yes_or_a_run(pressed: tuple[str, ...]) -> None:
    assert driven(keys(*pressed)) == []


def test_everybody_is_asked_at_once_after_a_command_and_on_request() -> None:
    observer = Fixed()

    async def drive(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: observer.asked == [False])
        await pilot.press("r")
        await until(pilot, lambda: observer.asked == [False, True])
        await pilot.press("t")
        await until(pilot, lambda: observer.asked == [False, True, True])

    driven(drive, observer)


def test_the_chosen_run_stays_chosen_when_lines_move() -> None:
    before = an_observation()
    after = Observation(before.status, before.runs[::-1], ("now",))

    async def drive(pilot: Pilot[None]) -> None:
        await pilot.press("down", "r")
        await until(pilot, lambda: "now" in problems(pilot.app))
        await pilot.press("l")

    (command,) = driven(drive, Fixed(before, after))
    assert "run-b" in command


def test_what_happens_while_a_question_is_open_is_shown_below_it() -> None:
    before = an_observation()
    after = Observation(before.status, before.runs, ("now",))

    async def drive(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: len(observer.asked) == 1)
        await pilot.press("s", "tab")
        assert isinstance(pilot.app, TopApp)
        pilot.app.action_refresh()
        below = pilot.app.screen_stack[0].query_one("#problems", Static)
        await until(pilot, lambda: str(below.render()) == "now")
        await pilot.press("y")

    observer = Fixed(before, after)
    assert driven(drive, observer) == [("runs", "stop", "run-a", "--profile", "work")]


def test_what_was_known_stays_when_nothing_can_be_asked() -> None:
    class Broken(Fixed):
        def observe(self, *, everything: bool = False) -> Observation:
            raise ConfigError(".runctl.toml cannot be read", hint="runctl config validate")

    async def drive(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "cannot be read (runctl config validate)" in problems(pilot.app))
        assert pilot.app.query_one("#runs", DataTable).row_count == 2

    assert driven(drive, Broken()) == []


def test_an_observer_that_cannot_be_made_is_told() -> None:
    def refuse() -> Fixed:
        raise RunctlError("the state file is broken")

    async def main() -> None:
        app = TopApp(refuse, HOUR)
        async with app.run_test(size=SIZE) as pilot:
            await until(pilot, lambda: "the state file is broken" in problems(app))

    asyncio.run(main())
