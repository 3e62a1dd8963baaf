"""In a cluster a script goes on from what runctl's agent would choose on a machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from runctl.agent.checkpoints.choosing import NOTES, by_age, candidates
from runctl.agent.checkpoints.folders import CHECKPOINT_FILES
from runctl.export.kubernetes.manifest import start_program
from tests.export.kubernetes.test_start import SHELLS

EPOCH = 1_700_000_000


@pytest.fixture(params=SHELLS, ids=lambda argv: argv[0].rpartition("/")[2])
def shell(request: pytest.FixtureRequest) -> tuple[str, ...]:
    found: tuple[str, ...] = request.param
    return found


def write(folder: Path, tree: Mapping[str, int]) -> None:
    """Files by name, each with the second in which it was written; one that ends with ``!`` is empty."""
    for name, second in tree.items():
        path = folder / name.removesuffix("!")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("" if name.endswith("!") else "x")
        os.utime(path, (EPOCH + second, EPOCH + second))


def chosen_in_a_cluster(shell: tuple[str, ...], folder: Path) -> str:
    start = folder.parent / "start.sh"
    start.write_text(start_program())
    done = subprocess.run(
        [*shell, str(start), "0", "sh", "-c", 'printf %s "$RUNCTL_RESUME_FROM"'],
        env={
            **os.environ,
            "RUNCTL_CHECKPOINT_DIR": str(folder),
            "RUNCTL_OUTPUT_DIR": str(folder.parent / "output"),
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout


def chosen_on_a_machine(folder: Path) -> str:
    """By name and date: what is in the files is another matter."""
    whole = (
        each.path for each in by_age(candidates(folder)) if each.path.is_dir() or each.path.stat().st_size
    )
    return next(map(str, whole), "")


TREES: dict[str, tuple[Mapping[str, int], str]] = {
    "notes alone": ({"step-6.json": 1, "step-7.json": 2}, "step-7.json"),
    "a plot beside a checkpoint": ({"step-1.pt": 1, "loss.png": 2}, "step-1.pt"),
    "notes beside one that is empty": ({"step-1.pt!": 1, "loss.csv": 2}, ""),
    "TensorBoard's events": ({"step-1.pt": 1, "events.out.tfevents.17.host.4": 2}, "step-1.pt"),
    "a file in folders": ({"a/b/step-1.pt": 1}, "a/b/step-1.pt"),
    "as deep as is looked": ({"1/2/3/4/5/6/w.pt": 1, "1/2/3/4/5/6/7/w.pt": 2}, "1/2/3/4/5/6/w.pt"),
    "of one moment the highest": ({"step-10.pt": 1, "step-9.pt": 1, "step-09.pt": 1}, "step-10.pt"),
    "of one moment, numbers with zeros": ({"step-0010.pt": 1, "step-9.pt": 1, "step-10.pu": 1}, "step-10.pu"),
    "of one moment, a number above a word": ({"x5.pt": 1, "5.pt": 1, "y": 1}, "5.pt"),
    "a folder of a step": ({"step-2/a.json": 1, "step-2/deep/w": 4, "step-3/w": 3}, "step-2"),
    "a folder of steps": ({"epoch1/step-2/w": 1, "Epoch=2/step_3/w": 2}, "Epoch=2/step_3"),
    "a folder by another name": ({"misstep2/w.pt": 1, "steps2/v.pt": 2}, "steps2/v.pt"),
    "global steps": ({"global_step5/mp_rank_00.pt": 1, "globalstep-6/mp_rank_00.pt": 2}, "globalstep-6"),
    "a distributed one": ({"last/__0_0.distcp": 1, "last/.metadata": 5, "w.pt": 3}, "last"),
    "the folder itself": ({"model.safetensors": 1, "step-1.pt": 2}, "."),
    "Trainer's own": (
        {
            "training_args.bin": 9,
            "model.safetensors": 9,
            "checkpoint-5/trainer_state.json": 1,
            "checkpoint-5/model.safetensors": 3,
            "checkpoint-10/trainer_state.json": 2,
            "checkpoint-last/trainer_state.json": 8,
        },
        "checkpoint-5",
    ),
    "Trainer's final model alone": ({"out/training_args.bin": 1, "out/model.safetensors": 2}, "out"),
    "unfinished": (
        {
            "a b.pt": 1,
            **dict.fromkeys((".w.pt", "w~", "tmpw.pt", "TMP-w", "w_tmp", "w.tmp", "w.PART.3", "w.lock-x"), 2),
            **dict.fromkeys(("w.temp_2", "w.partial", "w.incomplete", "w.swp", "w.pt.tmp", ".step-4/w"), 2),
        },
        "a b.pt",
    ),
    **{
        f"{name} is finished": ({"w.pt": 1, name: 2}, name)
        for name in ("w.tmpl", "atmp", "w_tmp.pt", "parts", "w.locks", "temperature.pt", "w.json.pt", "json")
    },
    **{
        f"a folder with {name}": ({f"last/{name}": 2, "last/w": 1}, "last")
        for name in sorted(CHECKPOINT_FILES)
    },
    "notes of each kind": ({"w.pt": 1, **{f"note{kind}": 2 for kind in sorted(NOTES)}}, "w.pt"),
    "notes in capitals": ({"w.pt": 1, **{f"note{kind.upper()}": 2 for kind in sorted(NOTES)}}, "w.pt"),
    "nothing": ({}, ""),
}


@pytest.mark.parametrize("name", TREES)
def test_a_cluster_and_a_machine_choose_the_same(shell: tuple[str, ...], tmp_path: Path, name: str) -> None:
    tree, expected = TREES[name]
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    write(folder, tree)

    found = chosen_in_a_cluster(shell, folder)

    assert found == (str(folder / expected) if expected else "")
    assert found == chosen_on_a_machine(folder)


def test_links_are_not_followed(shell: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    write(folder, {"step-1.pt": 1, "step-2/w": 0})
    write(tmp_path, {"elsewhere.pt": 9})
    (folder / "last.pt").symlink_to(tmp_path / "elsewhere.pt")
    (folder / "step-2" / "last.pt").symlink_to(tmp_path / "elsewhere.pt")

    assert chosen_in_a_cluster(shell, folder) == chosen_on_a_machine(folder) == str(folder / "step-1.pt")
