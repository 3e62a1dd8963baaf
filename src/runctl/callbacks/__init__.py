"""For training scripts: save when the machine is about to go, and go on from there.

`Checkpoints` is for plain PyTorch, `LightningCheckpoints` is a ``Callback`` of Lightning's, `TrainerCheckpoints` a
``TrainerCallback`` of Hugging Face's. The framework of each is imported when it is first used. They save to
``RUNCTL_CHECKPOINT_DIR`` between two steps, when SIGTERM or the checkpoint signal has come; after SIGTERM the script
ends.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from runctl.callbacks.contract import resume_path

if TYPE_CHECKING:
    from runctl.callbacks.on_lightning import LightningCheckpoints
    from runctl.callbacks.on_pytorch import Checkpoints
    from runctl.callbacks.on_transformers import TrainerCheckpoints

_MODULES = {
    "Checkpoints": "on_pytorch",
    "LightningCheckpoints": "on_lightning",
    "TrainerCheckpoints": "on_transformers",
}

__all__ = ["Checkpoints", "LightningCheckpoints", "TrainerCheckpoints", "resume_path"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
