"""An account for faults."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from runctl.sandbox.control import SandboxInfo
from tests.faults.account import Account
from tests.sandbox_fixture import sandbox

__all__ = ["sandbox"]


@pytest.fixture(scope="session")
def account(sandbox: SandboxInfo, tmp_path_factory: pytest.TempPathFactory) -> Generator[Account]:
    """One for all, cleaned before each command."""
    with Account(sandbox, tmp_path_factory.mktemp("account")).opened() as account:
        yield account
        account.clean()
