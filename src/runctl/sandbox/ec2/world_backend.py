"""moto's EC2 back-end with the sandbox's world behind it: the base of every part of the sandbox's EC2."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import moto.ec2.models as moto_ec2

from runctl.sandbox.ebs.disks import Disks
from runctl.sandbox.world import World, current

log = logging.getLogger("runctl.sandbox")


class WorldBackend(moto_ec2.EC2Backend):
    """One region of EC2, with the server's world at hand."""

    @property
    def world(self) -> World:
        """The server's."""
        return current()

    @property
    def disks(self) -> Disks:
        """The files of volumes and snapshots."""
        return self.world.disks

    @staticmethod
    def _in_background(action: Callable[..., None], *arguments: Any) -> None:
        def guarded() -> None:
            try:
                action(*arguments)
            except Exception:
                log.exception("%s failed", action.__name__)

        threading.Thread(target=guarded, daemon=True).start()
