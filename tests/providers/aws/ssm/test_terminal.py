"""A terminal on a machine, by the Session Manager's plugin."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from runctl.core.errors import (
    Unsupported,
)
from runctl.providers.aws.ssm.transport import SsmTransport

pytestmark = [pytest.mark.root, pytest.mark.linux]


def test_a_terminal_without_the_plugin_gets_the_fix(
    bare: SsmTransport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsupported) as caught:
        bare.terminal()
    assert "session-manager-working-with-install-plugin" in caught.value.hint


@pytest.mark.parametrize(("version", "by_name"), [("1.2.497.0", False), ("1.2.553.0", True), ("odd", False)])
def test_a_terminal_hands_the_session_to_the_plugin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, by_name: bool
) -> None:
    plugin = tmp_path / "session-manager-plugin"
    plugin.write_text(
        f"#!{sys.executable}\nimport sys, os, json\n"
        f"if sys.argv[1:] == ['--version']: sys.exit(print({version!r}))\n"
        f"got = [sys.argv[1:], os.environ.get('AWS_SSM_START_SESSION_RESPONSE')]\n"
        f"open({str(tmp_path / 'got')!r}, 'w').write(json.dumps(got))\n"
        "sys.exit(6)\n"
    )
    plugin.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    class Client:
        class meta:  # noqa: N801 - boto3's name
            region_name = "eu-central-1"
            endpoint_url = "https://ssm.example"

        def start_session(self, **parameters: Any) -> dict[str, Any]:
            assert parameters["Parameters"]["command"] == ["sudo -i -u ubuntu -- htop -d '1 0'"]
            return {"SessionId": "s", "TokenValue": "secret", "StreamUrl": "wss://x", "ResponseMetadata": {}}

    code = SsmTransport(Client(), "i-1", user="ubuntu").terminal(["htop", "-d", "1 0"])
    arguments, variable = json.loads((tmp_path / "got").read_text())
    assert code == 6
    assert arguments[1:4] == ["eu-central-1", "StartSession", ""]
    assert arguments[5] == "https://ssm.example"
    assert ("secret" in arguments[0]) is not by_name
    assert (variable is not None and "secret" in variable) is by_name
