"""IAM's policy documents: where AWS takes more than moto does."""

from __future__ import annotations

from typing import Any

from moto.iam.policy_validation import BaseIAMPolicyValidator

_validate_version = BaseIAMPolicyValidator._validate_version


def install() -> None:
    """A policy without a version is one of 2008-10-17 ("IAM JSON policy elements: Version"); moto refuses it."""
    BaseIAMPolicyValidator._validate_version = validate_version  # type: ignore[method-assign]


def validate_version(self: Any) -> None:
    """moto's own question, for a document that says one."""
    if "Version" in self._policy_json:
        _validate_version(self)
