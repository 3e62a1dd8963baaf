"""A role with a second factor: asked for once, kept where the AWS command line keeps it, refused without a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from runctl.core.errors import CredentialsError
from runctl.providers.aws.calls import mfa
from runctl.providers.aws.calls.session import AwsSession

CONFIG = """\
[profile base]
aws_access_key_id = AKIAIOSFODNN7EXAMPLE
aws_secret_access_key = example
[profile trainer]
role_arn = arn:aws:iam::123456789012:role/trainer
source_profile = base
mfa_serial = arn:aws:iam::123456789012:mfa/ada
"""


@pytest.fixture
def profile(aws: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The home folder of a user whose profile assumes a role with a code."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(CONFIG)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / ".aws" / "config"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize("by", ["--profile", "AWS_PROFILE"])
def test_the_code_is_asked_for_once(profile: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return "123456"

    monkeypatch.setattr(mfa, "ask_code", answer)
    if by == "AWS_PROFILE":
        monkeypatch.setenv("AWS_PROFILE", "trainer")
    for _ in range(2):
        session = AwsSession(region="us-east-1", profile="trainer" if by == "--profile" else None)
        assert session.identity.arn.startswith("arn:aws:sts::123456789012:assumed-role/trainer/")

    assert asked == ["Enter MFA code for arn:aws:iam::123456789012:mfa/ada: "]
    (kept,) = (profile / ".aws" / "cli" / "cache").iterdir()
    assert kept.stat().st_mode & 0o077 == 0


def test_without_a_terminal_the_way_out_is_named(profile: Path) -> None:
    with pytest.raises(CredentialsError, match="no terminal") as caught:
        AwsSession(region="us-east-1", profile="trainer").identity  # noqa: B018

    assert (caught.value.code, caught.value.exit_code) == ("mfa-needed", 4)
    assert "aws sts get-caller-identity" in caught.value.hint
    assert "mfa/ada" in caught.value.message
