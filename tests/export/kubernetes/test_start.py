"""What starts a script in its container, in the shells that images have."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runctl.export.kubernetes.manifest import start_programs

SHELLS = tuple(
    argv
    for argv in (("/bin/sh",), ("bash", "--posix"), ("busybox", "sh"))
    if shutil.which(argv[0]) is not None
)
SAVES = """
import os, signal, sys
def save(*_):
    print("saved", flush=True)
    sys.exit(int(sys.argv[1]))
signal.signal(signal.SIGTERM, save)
print("running", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture(params=SHELLS, ids=lambda argv: argv[0].rpartition("/")[2])
def shell(request: pytest.FixtureRequest) -> tuple[str, ...]:
    found: tuple[str, ...] = request.param
    return found


@pytest.fixture
def start(tmp_path: Path) -> Path:
    for name, program in start_programs().items():
        (tmp_path / name).write_text(program)
    return tmp_path / "start.sh"


def variables(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "RUNCTL_CHECKPOINT_DIR": str(tmp_path / "run" / "checkpoints"),
        "RUNCTL_OUTPUT_DIR": str(tmp_path / "run" / "output"),
    }


def run(shell: tuple[str, ...], start: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*shell, str(start), *argv],
        env=variables(start.parent),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


PRINT = (sys.executable, "-c", "import os, sys; print([os.environ['RUNCTL_RESUME_FROM'], *sys.argv[1:]])")


def test_the_first_attempt_has_its_folders_and_nothing_to_resume_from(
    shell: tuple[str, ...], start: Path
) -> None:
    done = run(shell, start, "2", "--resume", "{checkpoint}", *PRINT, "--lr", "a b", "*")

    assert (done.returncode, done.stdout) == (0, "['', '--lr', 'a b', '*']\n")
    assert (start.parent / "run" / "output").is_dir()


def test_a_further_attempt_goes_on_from_the_newest_checkpoint(shell: tuple[str, ...], start: Path) -> None:
    folder = start.parent / "run" / "checkpoints"
    (folder / "run 1" / "step-2").mkdir(parents=True)
    (folder / "nothing").mkdir()
    for age, name in enumerate(
        (".step3.pt.partial", "step3.pt.tmp", "empty.pt", "metrics.json", "run 1/step-2/0", "step1.pt")
    ):
        path = folder / name
        if not path.is_dir():
            path.write_text("" if name == "empty.pt" else "x")
        os.utime(path, (1_000_000 - age, 1_000_000 - age))

    done = run(shell, start, "2", "--resume={checkpoint}", "{checkpoint}:{checkpoint}!", *PRINT, "last")

    newest = f"{folder}/run 1/step-2"
    assert done.stdout == f"{[newest, 'last', f'--resume={newest}', f'{newest}:{newest}!']}\n"


def test_a_folder_is_as_new_as_its_newest_file_whenever_it_was_copied(
    shell: tuple[str, ...], start: Path
) -> None:
    folder = start.parent / "run" / "checkpoints"
    for step in (1000, 500):
        path = folder / f"checkpoint-{step}"
        path.mkdir(parents=True)
        (path / "weights").write_text("x")
        (path / "config").write_text("x")
        os.utime(path / "weights", (1_000_000 + step, 1_000_000 + step))
        os.utime(path / "config", (1_000_000, 1_000_000))
        os.utime(path, (2_000_000 - step, 2_000_000 - step))

    done = run(shell, start, "0", *PRINT)

    assert done.stdout == f"{[f'{folder}/checkpoint-1000']}\n"


@pytest.mark.parametrize(("argv", "code"), [(("sh", "-c", "exit 7"), 7), (("/no/such/program",), 127)])
def test_the_scripts_exit_code_is_its_own(
    shell: tuple[str, ...], start: Path, argv: tuple[str, ...], code: int
) -> None:
    assert run(shell, start, "0", *argv).returncode == code


@pytest.mark.parametrize(("own", "code"), [(0, 143), (143, 143), (3, 3)])
def test_a_script_that_is_asked_to_end_may_save_and_is_not_complete(
    shell: tuple[str, ...], start: Path, own: int, code: int
) -> None:
    with subprocess.Popen(
        [*shell, str(start), "0", sys.executable, "-c", SAVES, str(own)],
        env=variables(start.parent),
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "running\n"
        child.send_signal(signal.SIGTERM)
        assert child.stdout.readline() == "saved\n"
        assert child.wait(timeout=60) == code
