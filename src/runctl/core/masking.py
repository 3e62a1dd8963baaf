"""What must not be shown: values whose name or looks say that they are secrets."""

from __future__ import annotations

import re

MASK = "********"

_NAME = re.compile(
    r"secret|token|passw|passphrase|credential|private|api_?key|access_?key|auth|(^|_)(key|pat|pwd)$",
    re.IGNORECASE,
)
_HARMLESS_NAMES = frozenset({"key_name", "tokenizers_parallelism"})
_LOOKS = re.compile(
    r"""
      (?:AKIA|ASIA)[A-Z0-9]{16}                      # access keys of AWS
    | gh[pousr]_\w{20,} | github_pat_\w{20,}          # GitHub
    | hf_\w{20,} | sk-[\w-]{20,} | xox[abprs]-[\w-]+  # Hugging Face, OpenAI and kin, Slack
    | eyJ[\w-]+\.[\w-]+\.[\w-]+                       # JSON Web Tokens
    | -----BEGIN [A-Z ]*PRIVATE\ KEY
    | ://[^/\s:@]+:[^/\s@]+@                          # a password in an address
    """,
    re.VERBOSE,
)


def is_secret(name: str, value: object) -> bool:
    """Whether a value should be masked, by the last part of its dotted name or by what it looks like."""
    last = name.rpartition(".")[2]
    if last.lower() in _HARMLESS_NAMES:
        return isinstance(value, str) and _LOOKS.search(value) is not None
    return _NAME.search(last) is not None or (isinstance(value, str) and _LOOKS.search(value) is not None)


def masked(name: str, value: str) -> str:
    """The value, or the mask; an empty value has nothing to hide."""
    return MASK if value and is_secret(name, value) else value
