"""``train --watch`` on this computer: saves are synced, and the run starts over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.agent import engine as engines
from tests.e2e.command_line import CommandLine, until, write_project
from tests.forked.commands import PROGRAM

pytestmark = pytest.mark.linux

SCRIPT = "import os, time\nprint('version {}', os.environ['RUNCTL_ATTEMPT'], flush=True)\ntime.sleep({})\n"


class Watching:
    """A ``train --watch`` that goes on, and what it has said so far."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.said = bytearray()
        self._readers = [
            threading.Thread(target=self._read, args=(pipe,), daemon=True)
            for pipe in (process.stdout, process.stderr)
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, pipe: object) -> None:
        while data := os.read(pipe.fileno(), 4096):  # type: ignore[attr-defined]
            self.said += data

    def says(self, text: str, after: int = 0) -> None:
        def look() -> bool:
            assert text in self.text[after:] or self.process.poll() is None, self.text
            return text in self.text[after:]

        try:
            until(look, what=repr(text))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text}") from None

    @property
    def text(self) -> str:
        return self.said.decode(errors="replace")

    def type(self, keys: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(keys.encode())
        self.process.stdin.flush()

    def ended(self) -> int:
        code = self.process.wait(60)
        for reader in self._readers:
            reader.join(10)
        return code


@pytest.fixture
def runctl(tmp_path: Path) -> CommandLine:
    return CommandLine(write_project(tmp_path / "project", {"train.py": SCRIPT.format(1, 600)}))


@pytest.fixture
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[engines.Engine]:
    item = engines.start(tmp_path_factory.mktemp("engine"))
    try:
        engines.python_image(item, "base:py")
        yield item
    finally:
        engines.stop(item)


@contextmanager
def watching(runctl: CommandLine, *options: str) -> Iterator[Watching]:
    process = subprocess.Popen(
        [PROGRAM, "local", "train", "train.py", "--watch", "--grace", "1s", *options],
        cwd=runctl.cwd,
        env={**os.environ, **runctl.env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    item = Watching(process)
    try:
        yield item
    finally:
        if process.poll() is None:
            process.kill()
        item.ended()
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
        for run in json.loads(runctl("runs", "list", "--output", "json").ok().out):
            if run["state"] != "ended":
                runctl("runs", "stop", run["id"], "--force", "--yes").ok()


def save(runctl: CommandLine, version: int, seconds: int = 600) -> None:
    (runctl.cwd / "train.py").write_text(SCRIPT.format(version, seconds))


def test_a_save_starts_the_run_over_and_its_end_waits_for_the_next_one(runctl: CommandLine) -> None:
    with watching(runctl, "--restart-on-change") as item:
        item.says("version 1 1")
        item.says("watching")
        save(runctl, 2, 0)
        item.says("version 2 2")
        item.says("the next save starts it over")
        save(runctl, 3)
        item.says("version 3 3")
        assert "synced 1 changed file," in item.text
        (run,) = runctl("runs", "list", "--output", "json").ok().json
        assert (run["attempt"], run["state"]) == (3, "running")


def test_a_save_is_synced_and_a_key_starts_the_run_over(runctl: CommandLine) -> None:
    with watching(runctl) as item:
        item.says("version 1 1")
        item.says("watching")
        save(runctl, 2)
        item.says("r restarts the run with it")
        assert "version 2" not in item.text
        item.type("r\n")
        item.says("version 2 2")


def test_ctrl_c_stops_watching_and_leaves_the_run_going(runctl: CommandLine) -> None:
    with watching(runctl) as item:
        item.says("version 1 1")
        item.says("watching")
        item.process.send_signal(signal.SIGINT)
        assert item.ended() == 130, item.text
        assert "continues on" in item.text
        (run,) = runctl("runs", "list", "--output", "json").ok().json
        assert run["state"] == "running"


def test_without_anybody_to_ask_the_runs_code_is_the_commands(runctl: CommandLine) -> None:
    (runctl.cwd / "train.py").write_text("raise SystemExit(7)\n")
    assert runctl("local", "train", "train.py", "--watch").code == 7


def test_a_project_that_grows_too_large_is_not_synced_and_the_run_goes_on(runctl: CommandLine) -> None:
    (runctl.cwd / ".runctl.toml").write_text("[sync]\nmax_files = 4\n")
    with watching(runctl) as item:
        item.says("version 1 1")
        item.says("watching")
        for number in range(5):
            (runctl.cwd / f"extra{number}").write_text("")
        item.says("not synced: the project is too large to sync")
        assert item.process.poll() is None


def test_a_project_above_the_limit_starts_nothing(runctl: CommandLine) -> None:
    (runctl.cwd / ".runctl.toml").write_text("[sync]\nmax_files = 1\n")
    done = runctl("local", "train", "train.py", "--watch")
    assert done.code != 0
    assert "too large to sync" in done.err
    assert runctl("runs", "list", "--output", "json").ok().json == []


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (["--restart-on-change"], "needs --watch"),
        (["--watch", "--image", "x"], "needs --dev-mode"),
        (["--watch", "--no-sync-code"], "contradict"),
        (["--dev-mode", "--no-sync-code"], "contradict"),
    ],
)
def test_watching_what_does_not_run_is_refused(runctl: CommandLine, options: list[str], phrase: str) -> None:
    done = runctl("local", "train", "train.py", *options)
    assert done.code == 2
    assert phrase in done.err


@pytest.mark.root
@pytest.mark.docker
def test_in_a_container_an_edit_runs_without_a_build_and_a_dependency_with_one(
    runctl: CommandLine, engine: engines.Engine
) -> None:
    text = "FROM base:py\nWORKDIR /workspace\nCOPY requirements.txt .\nCOPY . .\n"
    (runctl.cwd / "Dockerfile").write_text(text)
    (runctl.cwd / "requirements.txt").write_text("")
    command_line = CommandLine(runctl.cwd, {**runctl.env, "DOCKER_HOST": engine.host})
    with watching(command_line, "--dev-mode", "--restart-on-change") as item:
        item.says("version 1 1")
        item.says("watching")
        assert "the image is built: no image of this project" in item.text
        save(runctl, 2)
        item.says("version 2 2")
        assert "is used without a build" in item.text
        before = len(item.text)
        (runctl.cwd / "requirements.txt").write_text("# more\n")
        item.says("version 2 3", before)
        assert "the image is built: requirements.txt changed" in item.text[before:]
        assert "Successfully built" in item.text[before:]
    assert engine.docker("ps", "--all", "--quiet") == ""
