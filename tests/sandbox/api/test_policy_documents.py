"""Which policy documents the sandbox's IAM takes."""

from __future__ import annotations

import json

import pytest
from moto.iam.exceptions import MalformedPolicyDocument
from moto.iam.policy_validation import BaseIAMPolicyValidator, IAMPolicyDocumentValidator

from runctl.sandbox.api import policy_documents

STATEMENT = [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BaseIAMPolicyValidator, "_validate_version", policy_documents.validate_version)


@pytest.mark.parametrize("version", [{}, {"Version": "2012-10-17"}])
def test_one_without_a_version_is_taken_as_one_with_the_newest(version: dict[str, str]) -> None:
    IAMPolicyDocumentValidator(json.dumps({**version, "Statement": STATEMENT})).validate()


@pytest.mark.parametrize(
    "document",
    [{"Version": "2008-10-17", "Statement": STATEMENT}, {"Version": "1", "Statement": STATEMENT}, {}],
)
def test_what_is_refused_of_others_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(MalformedPolicyDocument):
        IAMPolicyDocumentValidator(json.dumps(document)).validate()
