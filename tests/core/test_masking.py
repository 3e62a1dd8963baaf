"""Which values are hidden."""

from __future__ import annotations

import pytest

from runctl.core.masking import MASK, masked


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train.env.WANDB_API_KEY", "abc"),
        ("train.env.HF_TOKEN", "abc"),
        ("train.env.PASSWORD", "abc"),
        ("train.env.DB", "postgres://user:pass@host/db"),
        ("train.env.X", "ghp_" + "a" * 36),
        ("train.env.X", "AKIA" + "A" * 16),
    ],
)
def test_secrets_are_masked(name: str, value: str) -> None:
    assert masked(name, value) == MASK


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("aws.key_name", "laptop"),
        ("aws.region", "eu-west-1"),
        ("train.env.EPOCHS", "3"),
        ("train.env.TOKENIZERS_PARALLELISM", "false"),
        ("train.env.URL", "https://host/path@2"),
        ("train.env.HF_TOKEN", ""),
    ],
)
def test_other_values_are_shown(name: str, value: str) -> None:
    assert masked(name, value) == value
