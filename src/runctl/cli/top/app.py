"""The dashboard's screen. What it shows is asked in a thread of its own; what its keys do is done by commands."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import ClassVar, Protocol

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Label, Static

from runctl._dataclasses import dataclass
from runctl.cli.top import actions
from runctl.cli.top.actions import Action
from runctl.core.errors import RunctlError
from runctl.core.ids import RunId
from runctl.core.run_models import Run
from runctl.core.text import printable
from runctl.render.dashboard import Table, machine_table, run_table, summary
from runctl.runs.observing import Observation
from runctl.runs.status import RunningMachine


class Observes(Protocol):
    """See `runctl.runs.observing.Observer`."""

    def known(self) -> Observation:
        """What is known here, at once."""
        ...

    def observe(self, *, everything: bool = False) -> Observation:
        """What goes on now."""
        ...


class Question(ModalScreen[bool]):
    """Whether a command is to be carried out."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes"),
        Binding("n,escape,q", "answer(False)", "no"),
    ]
    CSS = """
    Question { align: center middle; }
    Question > Vertical {
        width: auto; max-width: 90%; height: auto; padding: 1 2; border: round $accent; background: $surface;
    }
    Question Label { width: auto; }
    """

    def __init__(self, command: str) -> None:
        super().__init__()
        self._command = command

    def compose(self) -> ComposeResult:
        """The command and the keys."""
        with Vertical():
            yield Label(Text(self._command, style="bold"))
            yield Label(Text("y carries it out, n does not"))

    def action_answer(self, answer: bool) -> None:
        """Back to the tables."""
        self.dismiss(answer)


class TopApp(App[None]):
    """Machines, runs, what they cost, and what could not be asked."""

    TITLE = "runctl top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #summary { height: auto; padding: 0 1; }
    #machines { height: auto; max-height: 40%; }
    #runs { height: 1fr; }
    #problems { height: auto; max-height: 6; padding: 0 1; color: $warning; }
    #problems.empty { display: none; }
    .title { padding: 0 1; text-style: bold; color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "log", "log"),
        Binding("s", "stop", "stop"),
        Binding("t", "terminate", "terminate"),
        Binding("r", "refresh", "refresh"),
        Binding("tab", "change_table", "machines/runs", priority=True),
        Binding("q,ctrl+c", "quit", "quit"),
    ]

    @dataclass
    class Observed(Message):
        """The world as it is now."""

        found: Observation

    @dataclass
    class Failed(Message):
        """It could not be found out at all."""

        error: RunctlError

    def __init__(
        self,
        observer: Callable[[], Observes],
        interval: timedelta,
        options: Sequence[str] = (),
        carry_out: Callable[[Sequence[str]], None] | None = None,
    ) -> None:
        """``observer`` is called, and what it gives is used, in one thread. ``options`` go with every command;
        ``carry_out`` stands in for the terminal that commands are carried out on, and gets their arguments."""
        super().__init__()
        self._observer, self._interval, self._options = observer, interval, tuple(options)
        self._carry_out = carry_out or self._on_the_terminal
        self._found: Observation | None = None
        self._wake, self._everything = threading.Event(), False
        self._closing = False

    def compose(self) -> ComposeResult:
        """From the top down: sums, machines, runs, problems, keys."""
        yield Static("asking …", id="summary")
        yield Label("Machines", classes="title")
        yield DataTable(id="machines", cursor_type="row", zebra_stripes=True)
        yield Label("Runs", classes="title")
        yield DataTable(id="runs", cursor_type="row", zebra_stripes=True)
        yield Static(id="problems", classes="empty")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Begins to ask."""
        self._table("runs").focus()
        # Not one of Textual's workers: leaving must not wait for a provider that does not answer.
        threading.Thread(target=self._observe, name="observer", daemon=True).start()

    def on_unmount(self) -> None:
        """Nobody is asked any more."""
        self._closing = True
        self._wake.set()

    def _observe(self) -> None:
        try:
            observer = self._observer()
            self.post_message(self.Observed(observer.known()))
        except RunctlError as error:
            self.post_message(self.Failed(error))
            return
        while not self._closing:
            everything, self._everything = self._everything, False
            try:
                self.post_message(self.Observed(observer.observe(everything=everything)))
            except RunctlError as error:
                self.post_message(self.Failed(error))
            self._wake.wait(self._interval.total_seconds())
            self._wake.clear()

    def on_top_app_observed(self, message: Observed) -> None:
        """Shows it; whoever has chosen a line keeps it."""
        self._found = message.found
        self._static("summary").update(Text(summary(message.found)))
        _fill(self._table("machines"), machine_table(message.found))
        _fill(self._table("runs"), run_table(message.found))
        self._show_problems(message.found.problems)

    def on_top_app_failed(self, message: Failed) -> None:
        """What was known stays, and it is said that it is not of now."""
        hint = f" ({message.error.hint})" if message.error.hint else ""
        self._show_problems([f"{message.error.message}{hint}"])

    def action_refresh(self) -> None:
        """Everybody is asked now."""
        self._everything = True
        self._wake.set()

    def action_change_table(self) -> None:
        """From machines to runs and back."""
        self.screen.focus_next()

    def action_log(self) -> None:
        """The log of the chosen run, or of the run of the chosen machine."""
        machine, run = self._chosen()
        if run is not None:
            self._do(actions.log_of(run))
        elif machine is not None:
            self.notify(f"this computer knows of no run on {machine.name or machine.id}")

    def action_stop(self) -> None:
        """Stops what is chosen: a run, whose machine stays, or a machine."""
        machine, run = self._chosen()
        if machine is not None:
            self._do(actions.stop_machine(machine))
        elif run is not None:
            self._do(actions.stop_run(run))

    def action_terminate(self) -> None:
        """Ends the chosen machine, or those of the chosen run."""
        machine, run = self._chosen()
        if machine is not None:
            self._do(actions.terminate(machine.provider, [machine.id], machine.region))
        elif run is not None and actions.machines_of(run):
            self._do(actions.terminate(run.provider, actions.machines_of(run), run.region))
        elif run is not None:
            self.notify(f"{run.id} has no machine yet")

    def on_data_table_row_selected(self) -> None:
        """Enter, or a click on the chosen line."""
        self.action_log()

    def _chosen(self) -> tuple[RunningMachine | None, Run | None]:
        """The machine of the chosen line, if the machines' table has the focus, and the run of either."""
        if self._found is None:
            return None, None
        runs = {each.run.id: each.run for each in self._found.runs}
        machines = {each.id: each for each in self._found.status.machines}
        if self._table("machines").has_focus:
            machine = machines.get(_chosen_key(self._table("machines")))
            return machine, None if machine is None else runs.get(RunId(machine.run_id or ""))
        return None, runs.get(RunId(_chosen_key(self._table("runs"))))

    def _do(self, action: Action) -> None:
        """Carries the command out; one that does not ask by itself is asked about here."""
        if action.asks:
            self._now(action)
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self._now(action)

        self.push_screen(Question(shlex.join(("runctl", *action.argv))), answered)

    def _now(self, action: Action) -> None:
        self._carry_out((*action.argv, *self._options))
        self.action_refresh()

    def _on_the_terminal(self, argv: Sequence[str]) -> None:
        """The command has the terminal as if it had been typed; Ctrl-C ends it and not the dashboard."""
        with self.suspend():
            before = signal.signal(signal.SIGINT, lambda _signal, _frame: None)
            try:
                sys.stdout.write(f"\n$ {shlex.join(('runctl', *argv))}\n")
                sys.stdout.flush()
                subprocess.run([sys.executable, "-m", "runctl", *argv], check=False)
                sys.stdout.write("\nEnter goes back to runctl top. ")
                sys.stdout.flush()
                sys.stdin.readline()
            finally:
                signal.signal(signal.SIGINT, before)

    # What is shown below a question is filled, too.
    def _table(self, name: str) -> DataTable[Text]:
        return self.screen_stack[0].query_one(f"#{name}", DataTable)

    def _static(self, name: str) -> Static:
        return self.screen_stack[0].query_one(f"#{name}", Static)

    def _show_problems(self, problems: Sequence[str]) -> None:
        shown = self._static("problems")
        shown.set_class(not problems, "empty")
        shown.update(Text("\n".join(printable(each, lines=False) for each in problems)))


def _chosen_key(table: DataTable[Text]) -> str:
    """Of the line at the cursor; empty without any line."""
    if not table.row_count:
        return ""
    return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value or ""


def _fill(widget: DataTable[Text], table: Table) -> None:
    """The widget shows the table; the line at the cursor stays it, wherever it is now."""
    chosen = _chosen_key(widget)
    if not widget.columns:
        for header in table.headers:
            widget.add_column(header, key=header)
    shown = {key.value: tuple(widget.get_row(key)) for key in widget.rows}
    wanted = {key: _cells(table, cells) for key, cells in table.lines.items()}
    if list(shown.items()) == list(wanted.items()):
        return
    widget.clear()
    for key, cells in wanted.items():
        widget.add_row(*cells, key=key)
    if chosen in wanted:
        widget.move_cursor(row=list(wanted).index(chosen), animate=False)


def _cells(table: Table, cells: Sequence[str]) -> tuple[Text, ...]:
    return tuple(
        Text(cell, justify="right" if header in table.right else "left")
        for header, cell in zip(table.headers, cells, strict=True)
    )
