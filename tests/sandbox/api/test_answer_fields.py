"""One request's wishes for its answer concern no other answer."""

from __future__ import annotations

from typing import Any

import pytest
from moto.core.responses import BaseResponse
from moto.ec2.responses import EC2Response

from runctl.providers.aws.calls.session import AwsSession
from runctl.sandbox.api import answer_fields

PATH = "DescribeKeyPairsResult.KeyPairs.KeyPairInfo.PublicKey"


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BaseResponse, "__init__", BaseResponse.__init__)
    answer_fields.install()


def changes(request: Any) -> dict[str, Any]:
    found: dict[str, Any] = request.RESPONSE_KEY_PATH_TO_TRANSFORMER
    return found


def test_what_one_request_leaves_out_changes_no_other_answer() -> None:
    before = dict(changes(EC2Response))
    being_written = EC2Response()
    fields = iter(changes(being_written).items())
    next(fields)

    asking = EC2Response()
    asking._exclude_from_response(PATH)

    assert PATH in changes(asking)
    assert len(list(fields)) == len(changes(being_written)) - 1
    assert PATH not in changes(being_written)
    assert changes(EC2Response) == before
    assert before.items() <= changes(asking).items()


def test_public_keys_are_told_to_whoever_asks_for_them(session: AwsSession) -> None:
    session.ec2.create_key_pair(KeyName="mine")
    with_keys, without = (
        session.ec2.describe_key_pairs(IncludePublicKey=wanted)["KeyPairs"] for wanted in (True, False)
    )
    assert "PublicKey" in with_keys[0]
    assert "PublicKey" not in without[0]
    assert PATH not in changes(EC2Response)
