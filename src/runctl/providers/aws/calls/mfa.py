"""Roles that ask for a second factor ask once, as they do with the AWS command line: both keep what they get.

Source: botocore's ``AssumeRoleProvider`` and its ``JSONFileCache``; the AWS command line keeps the credentials of
assumed roles in ``~/.aws/cli/cache``, by a digest of the role's settings, until they expire.
"""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runctl.core.errors import CredentialsError

if TYPE_CHECKING:
    from botocore.session import Session

CACHE = Path("~/.aws/cli/cache")


def remember_roles(session: Session) -> None:
    """Credentials of assumed roles are taken from, and kept in, the AWS command line's cache.

    A role that wants a code asks on the terminal; without one, `CredentialsError` (code ``mfa-needed``) is raised.
    """
    from botocore.utils import JSONFileCache

    resolver: Any = session.get_component("credential_provider")
    for provider in resolver.providers:
        if provider.METHOD in {"assume-role", "assume-role-with-web-identity"}:
            provider.cache = JSONFileCache(str(CACHE.expanduser()))
        if provider.METHOD == "assume-role":
            provider._prompter = ask_code


def ask_code(prompt: str) -> str:
    """The code, typed on the terminal. Raises `CredentialsError` (code ``mfa-needed``) where there is none."""
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
        device = prompt.removeprefix("Enter MFA code for ").rstrip(": ")
        raise CredentialsError(
            f"the AWS profile's role asks for an MFA code of {device}, and there is no terminal to ask on",
            hint="sign in once on a terminal, with this profile: aws sts get-caller-identity; its credentials are then"
            " used here until they expire",
            code="mfa-needed",
        )
    return getpass.getpass(prompt, stream=sys.stderr)
