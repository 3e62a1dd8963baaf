"""Which names look like secrets."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from runctl.project import secrets
from runctl.project.secrets import secret_part, secret_parts

_PATTERNS = (*secrets._FILES, *(folder + "/.*" for folder in secrets._FOLDERS))
_LIKE_SECRETS = st.one_of([st.from_regex(pattern, fullmatch=True) for pattern in _PATTERNS]).flatmap(
    lambda path: st.sampled_from([path, path.upper(), "a/" + path, path + "x"])
)


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


@given(st.lists(st.one_of(st.text(), _LIKE_SECRETS), max_size=8))
def test_many_names_at_once_are_judged_like_each_by_itself(paths: list[str]) -> None:
    each = {path: part for path in paths if (part := secret_part(path)) is not None}

    assert secret_parts(paths) == each


@given(_LIKE_SECRETS)
def test_a_hint_is_in_every_name_that_looks_like_a_secret(path: str) -> None:
    assume(secret_part(path) is not None)

    assert secret_parts([path, "train.py"]) == {path: secret_part(path)}
