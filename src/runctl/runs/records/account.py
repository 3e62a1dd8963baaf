"""Whether a run's machines can be seen from here: another account shows none of them, and says nothing of them."""

from __future__ import annotations

from runctl.core.errors import Conflict
from runctl.providers.ended import is_elsewhere
from runctl.providers.interface import Provider
from runctl.runs.records.run_record import RunRecord


def check_account(provider: Provider, record: RunRecord) -> None:
    """What the provider does not show of the run is not there. Raises `Conflict` (code ``other-account``) where it acts
    for another account than the run's machines were rented in."""
    if is_elsewhere(provider, record.account):
        raise Conflict(
            f"{record.id} is in account {record.account} of {record.provider}, and this is another one",
            hint="use the profile or the key with which it was started",
            code="other-account",
        )
