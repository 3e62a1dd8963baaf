"""Which names look like secrets."""

from __future__ import annotations

import pytest

from runctl.project.secrets import secret_part


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        "a/b/.env",
        ".env.local",
        ".env.production",
        ".envrc",
        "key.pem",
        "deploy/server.key",
        "id_rsa",
        "id_ed25519",
        "keys/id_rsa.bak",
        "credentials",
        "credentials.json",
        "aws/credentials.csv",
        "credentials-prod.yaml",
        "Credentials.JSON",
        ".aws/config",
        "home/.aws/cli/cache",
        ".ssh/known_hosts",
        ".netrc",
        ".pypirc",
        ".git-credentials",
        "gcp-service-account.json",
        "my_service_account_key.json",
        "client_secret_123.json",
        ".streamlit/secrets.toml",
        "store.p12",
    ],
)
def test_a_secret_is_recognised(path: str) -> None:
    assert secret_part(path) is not None


@pytest.mark.parametrize(
    "path",
    [
        "train.py",
        ".env.example",
        ".env.sample",
        ".env.template",
        ".env.local.example",
        "environment.yml",
        "src/credentials.py",
        "credentials_test.go",
        "docs/credentials.md",
        "id_rsa.pub",
        "monkey",
        "keyboard.json",
        "tokenizer.json",
        "service.json",
        "pem/readme",
        "aws/config",
        "secrets.py",
    ],
)
def test_what_only_sounds_like_one_is_not(path: str) -> None:
    assert secret_part(path) is None


@pytest.mark.parametrize(("path", "part"), [("a/.aws/x/y", "a/.aws/"), ("a/.env", "a/.env")])
def test_the_part_that_makes_it_a_secret_is_told(path: str, part: str) -> None:
    assert secret_part(path) == part
