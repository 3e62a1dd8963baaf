"""Keys in a file that others renew."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from runctl.agent.cloud.credentials import Credentials, Keys
from runctl.agent.errors import AgentError


def write(path: Path, **keys: object) -> None:
    partial = path.with_suffix(".new")
    partial.write_text(json.dumps({"access_key": "A", "secret_key": "s", **keys}))
    partial.replace(path)


def test_newer_keys_are_used_from_the_next_request_on(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    ends = time.time() + 3600
    write(path, ends_at=ends)
    credentials = Credentials({"AWS_ACCESS_KEY_ID": "other", "AWS_SECRET_ACCESS_KEY": "other"}, str(path))
    assert credentials.now() == Keys("A", "s", "", ends)
    write(path, access_key="B", token="t")
    os.utime(path, ns=(1, 1))
    assert credentials.now() == Keys("B", "s", "t", None)


def test_keys_that_have_ended_are_said_to_have(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    credentials = Credentials({}, str(path))
    with pytest.raises(AgentError) as raised:
        credentials.now()
    assert raised.value.code == "no-role"
    write(path, ends_at=time.time() - 1)
    with pytest.raises(AgentError) as raised:
        credentials.now()
    assert raised.value.code == "keys-ended"
