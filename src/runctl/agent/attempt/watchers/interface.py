"""What may end an attempt from outside of its script: one watcher for each cause, all behind one method."""

from __future__ import annotations

from typing import Any, Callable, Protocol

from runctl._dataclasses import dataclass
from runctl.agent.attempt.children import Children
from runctl.agent.attempt.peers import Peers
from runctl.agent.cloud.spot_notices import NoticeReader
from runctl.agent.disks.mount_watch import MountWatch
from runctl.agent.records import AttemptFolder, StopRequest
from runctl.agent.spec import RunSpec


@dataclass(frozen=True)
class Watched:
    """The attempt as a watcher sees it."""

    folder: AttemptFolder
    spec: RunSpec
    children: Children
    volumes: MountWatch
    script_began: Callable[[], float | None]
    """When the script's own process started, on the monotonic clock; ``None`` during the set-up."""
    log: Callable[[str], None]
    """Writes a line of ours into the attempt's log."""
    notices: NoticeReader
    """What the provider has announced."""
    publish_seconds: Callable[[], float]
    """How long publishing the next checkpoint is going to take, by what was measured."""
    ask_for_checkpoint: Callable[[], bool]
    """Asks the script for one; false where nothing listens yet. See `Attempt.ask_for_checkpoint`."""
    remember: Callable[..., Any]
    """Writes values of `Live` down."""
    script_ended: Callable[[], bool]
    """Whether the script has ended, and does not begin again (yet). May be asked from any thread."""
    peers: Peers | None = None
    """The other machines of the run; ``None``: it has one."""


class Watcher(Protocol):
    """Observes one thing that may end an attempt. Made from a `Watched`, and asked about once a second."""

    sharpens: bool
    """Asked again when the attempt is ending already: less grace than before counts."""

    def stop_request(self) -> StopRequest | None:
        """Why the attempt is to end now, and with how much grace; ``None`` while it may go on."""
        ...
