"""Checkpoints of a training by Hugging Face's Trainer."""

from __future__ import annotations

import signal
from typing import Any

import torch
import torch.distributed
from transformers import TrainerCallback

from runctl.callbacks.contract import EXIT_CODE, ProgressFile, Requests


class TrainerCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Has the Trainer save after the step that it is at, when a signal has asked for it: one process or several.

    The Trainer saves to its ``output_dir``, which should be ``RUNCTL_CHECKPOINT_DIR``: a folder ``checkpoint-STEP`` is
    complete once it has its ``trainer_state.json``. To resume:
    ``trainer.train(resume_from_checkpoint=runctl.callbacks.resume_path())``.
    """

    def __init__(self, *, checkpoint_signal: int | None = signal.SIGUSR1) -> None:
        self._requests = Requests(checkpoint_signal)
        self._progress = ProgressFile()
        self._ends = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """The Trainer's hook."""
        if state.is_world_process_zero:
            self._progress.write(state.global_step, state.max_steps)
        asked = self._requests.take()
        # A signal reaches the processes at different steps, and all must save and end at the same one.
        asked, self._ends = _heard_by_any(asked, self._requests.must_end, device=args.device)
        if asked:
            control.should_save = True
        return control

    def on_save(self, _args: Any, _state: Any, control: Any, **_: Any) -> Any:
        """The Trainer's hook: after SIGTERM the script ends here."""
        if self._ends:
            raise SystemExit(EXIT_CODE)
        return control


def _heard_by_any(*heard: bool, device: Any) -> list[bool]:
    """Each of these, where it is so in any process of the training."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return list(heard)
    flags = torch.tensor(heard, dtype=torch.int32, device=device)
    torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
    return [bool(flag) for flag in flags.tolist()]
