"""Checkpoints of a training loop of your own."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from runctl.callbacks.contract import (
    EXIT_CODE,
    ProgressFile,
    Requests,
    checkpoint_folder,
    resume_path,
    save_whole,
)


class Stateful(Protocol):
    """A model, an optimizer, a scheduler, a sampler: what PyTorch saves."""

    def state_dict(self) -> Any:
        """What there is to save."""
        ...

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Be as it was."""
        ...


class Checkpoints:
    """Saves between two steps, when a signal has asked for it or enough steps have been made, and resumes.

    What is named in `resume` and in `step` is saved under that name, with the states of PyTorch's random numbers. For
    one process: where several train together, the framework that starts them must save.
    """

    def __init__(
        self,
        *,
        every: int | None = None,
        total: int | None = None,
        folder: str | os.PathLike[str] | None = None,
        checkpoint_signal: int | None = signal.SIGUSR1,
    ) -> None:
        """``every`` so many steps as well; ``total`` is how many there will be, for whoever asks how far the run is;
        ``folder`` is ``RUNCTL_CHECKPOINT_DIR`` unless it is named."""
        self._folder = checkpoint_folder(folder)
        self._every = every
        self._total = total
        self._progress = ProgressFile()
        self._requests = Requests(checkpoint_signal)

    def resume(self, **parts: Stateful) -> int:
        """The parts are as they were saved, and the number of steps that had been made is returned: 0 at the beginning.

        Raises `KeyError` for a part that the checkpoint does not have.
        """
        path = resume_path()
        if path is None:
            return 0
        saved = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved["parts"][name])
        torch.set_rng_state(saved["rng"])
        if torch.cuda.is_available() and saved["cuda_rng"]:
            # The machine may have fewer GPUs than the one that saved.
            for device, state in enumerate(saved["cuda_rng"][: torch.cuda.device_count()]):
                torch.cuda.set_rng_state(state, device)
        return int(saved["step"])

    def step(self, done: int, **parts: Stateful) -> None:
        """To be called when ``done`` steps have been made: saves if it is time. After SIGTERM the script ends here."""
        self._progress.write(done, self._total)
        asked = self._requests.take()
        if asked or (self._every is not None and done % self._every == 0):
            self.save(done, **parts)
        if self._requests.must_end:
            raise SystemExit(EXIT_CODE)

    def save(self, done: int, **parts: Stateful) -> Path:
        """A checkpoint of now is in the folder, as a whole."""
        path = self._folder / f"step-{done}.pt"
        state = {
            "step": done,
            "parts": {name: part.state_dict() for name, part in parts.items()},
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        save_whole(path, partial(torch.save, state))
        return path
