"""What a provider can say of the calls that a command would make, instead of making them."""

from __future__ import annotations

from abc import ABC, abstractmethod


class CallPreview(ABC):
    """The ability to show a command's calls as a script of the provider's own command line."""

    is_on = False
    """`begin` was called."""

    @abstractmethod
    def begin(self) -> None:
        """From now on, calls that change something are written down and not made; those that read are made.

        A reading call is answered as if what was written down had been carried out. No machine is reached.
        """

    @abstractmethod
    def comment(self, text: str) -> None:
        """Beside the calls, at this place, stands what is done without one."""

    @abstractmethod
    def script(self, command: str) -> str:
        """What was written down, as a script for a shell; ``command`` is the command line that it stands for."""
