"""What every way to a machine has: whether it would work, and how it is opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from runctl._dataclasses import dataclass
from runctl.core import tags as tag
from runctl.core.errors import NotFound, RunctlError
from runctl.core.machine_models import Instance
from runctl.core.progress import Progress
from runctl.providers.aws.calls.errors import our_errors
from runctl.providers.aws.calls.parse import instance_of
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ec2.instances import describe
from runctl.providers.ended import ended, forgotten
from runctl.transport.choice import Candidate
from runctl.transport.interface import Transport
from runctl.transport.silence import StillThere


@dataclass(frozen=True)
class Offer:
    """A way to one machine, as it was found."""

    candidate: Candidate
    open: Callable[[Progress], Transport]
    """Makes the transport; nothing is connected yet."""


class Access(Protocol):
    """One way to machines. Safe to use from threads."""

    def offer(self, instance: Instance, *, insisted: bool) -> Offer:
        """Looks whether it would work; ``insisted``: it is the one that was asked for."""


def login_user(instance: Instance) -> str:
    """Who logs in to the machine."""
    return instance.tags.get(tag.LOGIN_USER) or "ec2-user"


def asks_ec2(context: AwsContext, instance: Instance) -> StillThere:
    """Asks EC2 whether a machine that is silent has ended."""

    def still_there(silent_seconds: float) -> None:
        try:
            with our_errors(context.session.endpoint):
                gone = ended(instance_of(describe(context, instance.id)), silent_seconds)
        except NotFound:
            gone = forgotten(instance.id)
        except RunctlError:
            # It cannot be seen, which does not mean that it is gone.
            return
        if gone is not None:
            raise gone

    return still_there
