"""Checkpoints of a training by Hugging Face's Trainer."""

from __future__ import annotations

import signal
from typing import Any

from transformers import TrainerCallback

from runctl.callbacks.contract import EXIT_CODE, ProgressFile, Requests


class TrainerCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Has the Trainer save after the step that it is at, when a signal has asked for it.

    The Trainer saves to its ``output_dir``, which should be ``RUNCTL_CHECKPOINT_DIR``: a folder ``checkpoint-STEP`` is
    complete once it has its ``trainer_state.json``. To resume:
    ``trainer.train(resume_from_checkpoint=runctl.callbacks.resume_path())``.
    """

    def __init__(self, *, checkpoint_signal: int | None = signal.SIGUSR1) -> None:
        self._requests = Requests(checkpoint_signal)
        self._progress = ProgressFile()

    def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> Any:
        """The Trainer's hook."""
        if state.is_world_process_zero:
            self._progress.write(state.global_step, state.max_steps)
        if self._requests.take():
            control.should_save = True
        return control

    def on_save(self, _args: Any, _state: Any, control: Any, **_: Any) -> Any:
        """The Trainer's hook: after SIGTERM the script ends here."""
        if self._requests.must_end:
            raise SystemExit(EXIT_CODE)
        return control
