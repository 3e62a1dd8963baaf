"""``stop`` was called for the attempt."""

from __future__ import annotations

from runctl.agent.attempt.watchers.interface import Watched
from runctl.agent.records import StopRequest


class StopFile:
    """Reads what ``stop`` has left in the attempt's folder; a later call with less grace counts as well."""

    sharpens = True

    def __init__(self, watched: Watched) -> None:
        self._folder = watched.folder
        self._path = watched.folder.path / "stop.json"
        self._read_at: int | None = None
        self._request: StopRequest | None = None

    def stop_request(self) -> StopRequest | None:
        """What was asked for last."""
        try:
            changed_at = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return self._request
        if changed_at != self._read_at:
            self._read_at, self._request = changed_at, self._folder.stop_request()
        return self._request
