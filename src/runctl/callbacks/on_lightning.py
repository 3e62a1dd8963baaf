"""Checkpoints of a training by Lightning."""

from __future__ import annotations

import os
import signal
from typing import Any

try:
    from lightning.pytorch import Callback
except ImportError:
    from pytorch_lightning import Callback

from runctl.callbacks.contract import EXIT_CODE, ProgressFile, Requests, checkpoint_folder, save_whole


class LightningCheckpoints(Callback):  # type: ignore[misc]
    """Saves between two batches, when a signal has asked for it or enough steps have been made.

    To resume: ``trainer.fit(model, ckpt_path=runctl.callbacks.resume_path())``.
    """

    def __init__(
        self,
        *,
        every: int | None = None,
        folder: str | os.PathLike[str] | None = None,
        checkpoint_signal: int | None = signal.SIGUSR1,
    ) -> None:
        """``every`` so many steps as well; ``folder`` is ``RUNCTL_CHECKPOINT_DIR`` unless it is named."""
        super().__init__()
        self._folder = checkpoint_folder(folder)
        self._every = every
        self._saved = -1
        self._progress = ProgressFile()
        # Before the trainer looks whether SIGTERM has a handler: it leaves one that is there.
        self._requests = Requests(checkpoint_signal)

    def on_train_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:
        """Lightning's hook; every process of the training takes part."""
        asked = trainer.strategy.reduce_boolean_decision(self._requests.take(), all=False)
        done = trainer.global_step
        if trainer.is_global_zero:
            self._progress.write(done, trainer.estimated_stepping_batches)
        if asked or (self._every is not None and done % self._every == 0 and done != self._saved):
            self._saved = done
            self._save(trainer, done)
        if trainer.strategy.reduce_boolean_decision(self._requests.must_end, all=False):
            raise SystemExit(EXIT_CODE)

    def _save(self, trainer: Any, done: int) -> None:
        target = self._folder / f"step-{done}.ckpt"
        if trainer.world_size == 1:
            save_whole(target, trainer.save_checkpoint)
        else:
            # All processes write one checkpoint; Lightning puts it in place.
            trainer.save_checkpoint(target)
