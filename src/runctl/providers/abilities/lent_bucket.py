"""What a provider must do so that machines can keep things in the bucket that it has for the account."""

from __future__ import annotations

from abc import ABC, abstractmethod

from runctl._dataclasses import dataclass
from runctl.agent.checkpoint_spec import StoreKeys


@dataclass(frozen=True)
class Lent:
    """The bucket, and a way into it that ends."""

    bucket: str
    endpoint: str
    """A URL."""
    region: str
    keys: StoreKeys


class LentBucket(ABC):
    """The ability to give out keys of the account's own bucket that end by themselves: what a machine may be trusted
    with. Whoever follows a run brings newer ones."""

    @abstractmethod
    def lend(self) -> Lent:
        """New keys. Errors are as in `Provider`."""
