"""An account for faults."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from runctl.sandbox.connection import SandboxInfo
from tests.faults.account import Account
from tests.sandbox_fixture import namespaces_sandbox


@pytest.fixture(scope="session")
def sandbox(
    tmp_path_factory: pytest.TempPathFactory, no_settings_of_the_user: None
) -> Generator[SandboxInfo]:
    """One for these tests: everything in it is deleted before each command."""
    with namespaces_sandbox(tmp_path_factory.mktemp("faults")) as info:
        yield info


@pytest.fixture(scope="session")
def account(sandbox: SandboxInfo, tmp_path_factory: pytest.TempPathFactory) -> Generator[Account]:
    """One for all, cleaned before each command."""
    with Account(sandbox, tmp_path_factory.mktemp("account")).opened() as account:
        yield account
        account.clean()
