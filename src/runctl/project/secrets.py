"""Which files look like secrets by their names. They stay at home unless the user names them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
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
_HINTS = (
    *(".aws/", ".ssh/", ".gnupg/", ".kube/"),
    *(".env", "netrc", ".pgpass", ".pypirc", ".git-credentials", ".htpasswd", ".dockercfg"),
    *(".pem", ".key", ".p12", ".pfx", ".jks", ".ppk", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"),
    *("credentials", "secrets.", "service", "client_secret"),
)
"""In lower case: there is one in every ASCII path that looks like a secret."""
_SECRET = re.compile(rf"(?:^|/)(?:(?P<folder>{'|'.join(_FOLDERS)})/|(?P<file>{'|'.join(_FILES)})$)", re.I)


def secret_part(path: str) -> str | None:
    """The path up to what makes it a secret, a folder with a slash at its end; ``None`` if nothing does."""
    found = _SECRET.search(path)
    if found is None:
        return None
    return path[: found.end()]


def secret_parts(paths: Collection[str]) -> dict[str, str]:
    """`secret_part` of those that have one: most projects have hardly any, which one look at all names tells."""
    names = "\0".join(paths).lower()
    if names.isascii():
        hints = [hint for hint in _HINTS if hint in names]
        if not hints:
            return {}
        paths = [path for path in paths if any(hint in path.lower() for hint in hints)]
    parts = ((path, secret_part(path)) for path in paths)
    return {path: part for path, part in parts if part is not None}


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
