"""Which files look like secrets by their names. They stay at home unless the user names them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache

import pathspec

_FOLDERS = ("\\.aws", "\\.ssh", "\\.gnupg", "\\.kube")
_FILES = (
    r"\.env",
    r"\.env\.(?!(?:.*\.)?(?:example|sample|template|dist|defaults)$).+",
    r"\.envrc",
    r"\.(?:netrc|pgpass|pypirc|git-credentials|htpasswd|dockercfg)",
    r"_netrc",
    r".*\.(?:pem|key|p12|pfx|jks|keystore|ppk)",
    r"id_(?:rsa|dsa|ecdsa|ed25519)(?!.*\.pub$).*",
    # Not credentials.py and its like: source code is no secret.
    r"credentials(?:[-_][^./]*)?(?:\.(?:json|csv|txt|toml|ya?ml|ini|cfg|conf|xml|enc|db))?",
    r"secrets\.(?:toml|json|ya?ml|ini)",
    r".*service[-_]?account.*\.json",
    r"client_secret.*\.json",
    r"application_default_credentials\.json",
)
_SECRET = re.compile(rf"(?:^|/)(?:(?P<folder>{'|'.join(_FOLDERS)})/|(?P<file>{'|'.join(_FILES)})$)", re.I)


def secret_part(path: str) -> str | None:
    """The path up to what makes it a secret, a folder with a slash at its end; ``None`` if nothing does."""
    found = _SECRET.search(path)
    if found is None:
        return None
    return path[: found.end()]


def is_named(part: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern means this very file or folder: ``.env`` and ``*.pem`` do, ``*`` and ``config/`` do not."""
    name = part.rstrip("/").rpartition("/")[2]
    for pattern in patterns:
        last = pattern.rstrip("/").rpartition("/")[2]
        if last.strip("*?") and fnmatchcase(name, last) and _compiled(pattern).match_file(part):
            return True
    return False


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> pathspec.GitIgnoreSpec:
    return pathspec.GitIgnoreSpec.from_lines([pattern])
