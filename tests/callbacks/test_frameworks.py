"""The callbacks in the real frameworks, on the CPU: an interrupted training ends with the weights of one that is not.

The frameworks are installed from the package index into an environment of their own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import runctl
from runctl.agent.checkpoints.choosing import newest
from tests.package_environments import environment_with

SOURCE = Path(runctl.__file__).parents[1]
REQUIREMENTS = ("torch==2.13.0", "lightning==2.6.*", "transformers==5.*", "accelerate==1.*", "numpy")
STEPS = 12

COMMON = """\
import hashlib, sys, torch
from runctl import callbacks

torch.manual_seed(7)
torch.set_num_threads(1)
pauses = [int(text) for text in sys.argv[1:]]

def pause(done):
    # Whoever runs this sends a signal now, and then a line.
    if done in pauses:
        print("at", done, flush=True)
        sys.stdin.readline()

def end(model):
    weights = b"".join(value.detach().numpy().tobytes() for value in model.state_dict().values())
    print("weights", hashlib.sha256(weights).hexdigest(), flush=True)
"""

PYTORCH = """\
model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters())
checkpoints = callbacks.Checkpoints(total=12)
begin = checkpoints.resume(model=model, optimizer=optimizer)
print("begins at", begin, flush=True)
for done in range(begin + 1, 13):
    loss = model(torch.randn(4, 8)).square().mean()
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    pause(done)
    checkpoints.step(done, model=model, optimizer=optimizer)
end(model)
"""

LIGHTNING = """\
import lightning.pytorch as pl

class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 1)

    def training_step(self, batch, index):
        noise = torch.randn(4, 8, generator=torch.Generator().manual_seed(self.global_step))
        return self.layer(noise).square().mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())

class Pause(pl.Callback):
    def on_train_start(self, trainer, model):
        print("begins at", trainer.global_step, flush=True)

    def on_train_batch_end(self, trainer, *_):
        pause(trainer.global_step)

model = Model()
loader = torch.utils.data.DataLoader(torch.zeros(12, 1), batch_size=1)
trainer = pl.Trainer(
    max_steps=12, max_epochs=-1, accelerator="cpu", logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False,
    callbacks=[Pause(), callbacks.LightningCheckpoints()],
)
trainer.fit(model, loader, ckpt_path=callbacks.resume_path())
end(model)
"""

TRANSFORMERS = """\
import os
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

class Pause(TrainerCallback):
    def on_train_begin(self, args, state, control, **_):
        print("begins at", state.global_step, flush=True)

    def on_step_end(self, args, state, control, **_):
        pause(state.global_step)

small = dict(vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
model = BertForSequenceClassification(BertConfig(**small, num_labels=2))
data = [{"input_ids": [i % 30 + 1, 2, 3], "labels": i % 2} for i in range(48)]
arguments = TrainingArguments(
    output_dir=os.environ["RUNCTL_CHECKPOINT_DIR"], max_steps=12, per_device_train_batch_size=4,
    save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True, seed=7,
)
trainer = Trainer(model, arguments, train_dataset=data, callbacks=[Pause(), callbacks.TrainerCheckpoints()])
trainer.train(resume_from_checkpoint=callbacks.resume_path())
end(model)
"""


@pytest.fixture(scope="session")
def python() -> Path:
    """Of an environment that has the frameworks."""
    return environment_with(REQUIREMENTS) / "bin/python"


@dataclass
class Ended:
    """What a training has printed, and how it ended."""

    code: int
    out: str
    checkpoints: list[str] = field(default_factory=list)

    def said(self, words: str) -> str:
        """What follows the words on a line of their own."""
        return next(
            line.removeprefix(words).strip() for line in self.out.splitlines() if line.startswith(words)
        )


def train(python: Path, script: Path, folder: Path, signals: dict[int, signal.Signals], resume: str) -> Ended:
    """At each of these steps it gets that signal."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(SOURCE),
        "RUNCTL_CHECKPOINT_DIR": str(folder),
        "RUNCTL_RESUME_FROM": resume,
        "RUNCTL_PROGRESS_FILE": str(script.with_name("progress.json")),
        "HF_HUB_OFFLINE": "1",
    }
    process = subprocess.Popen(
        [python, script, *map(str, signals)],
        env=environment,
        cwd=script.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("at "):
            process.send_signal(signals[int(line.split()[1])])
            process.stdin.write("\n")
            process.stdin.flush()
    _, err = process.communicate(timeout=60)
    ended = Ended(process.returncode, "".join(lines), sorted(path.name for path in folder.iterdir()))
    assert ended.code in (0, 143), f"{ended.out}\n{err}"
    return ended


@pytest.mark.slow
@pytest.mark.timeout(600, func_only=True)
@pytest.mark.parametrize(
    ("code", "name"),
    [(PYTORCH, "step-{}.pt"), (LIGHTNING, "step-{}.ckpt"), (TRANSFORMERS, "checkpoint-{}")],
    ids=["pytorch", "lightning", "transformers"],
)
def test_an_interrupted_training_ends_with_the_same_weights(
    python: Path, tmp_path: Path, code: str, name: str
) -> None:
    script = tmp_path / "train.py"
    script.write_text(COMMON + code)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()

    without = train(python, script, whole, {}, "")
    first = train(python, script, parts, {3: signal.SIGUSR1, 7: signal.SIGTERM}, "")
    chosen = newest(parts).chosen
    second = train(python, script, parts, {}, str(chosen))

    assert (without.code, without.checkpoints) == (0, [])
    # On the checkpoint signal it saves and goes on, on SIGTERM it saves and ends.
    assert (first.code, first.checkpoints) == (143, sorted(name.format(step) for step in (3, 7)))
    assert chosen == parts / name.format(7)
    assert (second.code, second.said("begins at")) == (0, "7")
    assert second.said("weights") == without.said("weights")
    assert json.loads((tmp_path / "progress.json").read_text()) == {"step": 12, "total": 12}


SEVERAL = """\
import os, signal

def pause(done):
    # The signals reach one process only, and not the one that writes.
    asked = {3: signal.SIGUSR1, 7: signal.SIGTERM}.get(done)
    if os.environ["RANK"] == "1" and asked is not None:
        os.kill(os.getpid(), asked)

"""


@pytest.mark.slow
@pytest.mark.timeout(600, func_only=True)
def test_several_processes_of_a_trainer_save_and_end_at_the_same_step(python: Path, tmp_path: Path) -> None:
    script, folder = tmp_path / "train.py", tmp_path / "checkpoints"
    script.write_text(COMMON + SEVERAL + TRANSFORMERS)
    folder.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": str(SOURCE),
        "RUNCTL_CHECKPOINT_DIR": str(folder),
        "RUNCTL_RESUME_FROM": "",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    torchrun = (str(python), "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    # Where they do not agree, one of them waits for ever.
    done = subprocess.run(
        [*torchrun, script],
        check=False,
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-3", "checkpoint-7"], done.stderr
    assert newest(folder).chosen == folder / "checkpoint-7"
    assert "exitcode  : 143" in done.stderr
