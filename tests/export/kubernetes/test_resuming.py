"""In a cluster a script goes on from what runctl's agent would choose on a machine."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from runctl.agent.checkpoints.choosing import NOTES, by_age, candidates, newest
from runctl.agent.checkpoints.folders import CHECKPOINT_FILES
from runctl.export.kubernetes.manifest import start_programs
from tests.agent.checkpoints.samples import archive, safetensors
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
    for name, program in start_programs().items():
        (folder.parent / name).write_text(program)
    done = subprocess.run(
        [*shell, str(folder.parent / "start.sh"), "0", "sh", "-c", 'printf %s "$RUNCTL_RESUME_FROM"'],
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


def by_name_and_date(folder: Path) -> str:
    """What a machine takes where it finds everything complete."""
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
    assert found == by_name_and_date(folder)


def test_links_are_not_followed(shell: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    write(folder, {"step-1.pt": 1, "step-2/w": 0})
    write(tmp_path, {"elsewhere.pt": 9})
    (folder / "last.pt").symlink_to(tmp_path / "elsewhere.pt")
    (folder / "step-2" / "last.pt").symlink_to(tmp_path / "elsewhere.pt")

    assert chosen_in_a_cluster(shell, folder) == by_name_and_date(folder) == str(folder / "step-1.pt")


class Index:
    """Of a distributed checkpoint: what is stored, and in which file."""

    def __init__(self, files: Sequence[str]) -> None:
        self.storage_data = {f"layers.{number}.weight": Part(name) for number, name in enumerate(files)}


class Part:
    def __init__(self, name: str) -> None:
        self.relative_path, self.offset, self.length = name, 0, 1


def distributed(protocol: int, *files: str) -> bytes:
    return pickle.dumps(Index(files), protocol)


def shards(*names: str, indent: int | None = None) -> bytes:
    index = {"weight_map": {f"layers.{number}": name for number, name in enumerate(names)}}
    return json.dumps({**index, "metadata": {"format": "pt"}}, indent=indent).encode()


MANY = tuple(f"__{rank}_{part}.distcp" for rank in range(12) for part in range(12))
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
FOLDERS: dict[str, tuple[str, Mapping[str, bytes], bool]] = {
    **{
        f"distributed {what} by protocol {protocol}": (
            name,
            {**dict.fromkeys(there, b"x"), ".metadata": distributed(protocol, *MANY)},
            whole,
        )
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
        for name, what, there, whole in (
            ("step-2", "and whole", MANY, True),
            ("step-2", "without the last", MANY[:-1], False),
            ("step-2", "without the first", MANY[1:], False),
            ("last", "without one", (*MANY[:30], *MANY[31:]), False),
            ("last", "without all", (), False),
        )
    },
    "distributed without its index": ("last", {"__0_0.distcp": b"x"}, False),
    "distributed with an empty index": ("last", {"__0_0.distcp": b"x", ".metadata": b""}, False),
    "Lightning's without its end": (
        "a.ckpt",
        {"__0_0.distcp": b"x", ".metadata": distributed(4, "__0_0.distcp")},
        False,
    ),
    "Lightning's": (
        "a.ckpt",
        {"__0_0.distcp": b"x", ".metadata": distributed(4, "__0_0.distcp"), "meta.pt": archive()},
        True,
    ),
    "Trainer's without its state": (
        "checkpoint-5",
        {"training_args.bin": archive(), "model.safetensors": safetensors()},
        False,
    ),
    "Trainer's": (
        "checkpoint-5",
        {
            "training_args.bin": archive(),
            "model.safetensors": safetensors(),
            "trainer_state.json": b"{}",
            "README.txt": b"",
            "merges": b"",
            "code.py": b"",
        },
        True,
    ),
    "by Trainer's name": ("checkpoint-5-best", {"training_args.bin": archive(), "w.pt": archive()}, True),
    **{
        f"{what} indent {indent}": (
            "step-2",
            {
                **dict.fromkeys(there, safetensors()),
                "model.safetensors.index.json": shards(ONE, TWO, indent=indent),
            },
            whole,
        )
        for indent in (None, 2)
        for what, there, whole in (
            ("sharded", (ONE, TWO), True),
            ("sharded without the first", (TWO,), False),
            ("sharded without the last", (ONE,), False),
        )
    },
    "an index of nothing": ("step-2", {"w.index.json": b"{}", "w.pt": archive()}, True),
    "with a file that is empty": ("step-2", {"w.pt": archive(), "deep/v.pt": b""}, False),
    "with a file that is being written": ("step-2", {"w.pt": archive(), "deep/v.pt.tmp": b"x"}, False),
    "with a hidden file": ("step-2", {"w.pt": archive(), ".v.pt.Xy12": b"x"}, False),
    "with a hidden folder": ("step-2", {"w.pt": archive(), ".cache/v.pt": archive()}, True),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_that_lacks_a_file_is_passed_over_as_on_a_machine(
    shell: tuple[str, ...], tmp_path: Path, case: str
) -> None:
    name, files, whole = FOLDERS[case]
    folder = tmp_path / "checkpoints"
    for age, (path, data) in enumerate(
        (("step-1.pt", archive()), *((f"{name}/{each}", files[each]) for each in files))
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
        os.utime(folder / path, (EPOCH + age, EPOCH + age))

    found = chosen_in_a_cluster(shell, folder)

    assert found == str(folder / (name if whole else "step-1.pt"))
    assert found == str(newest(folder).chosen)
