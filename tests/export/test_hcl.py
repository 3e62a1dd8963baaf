"""Terraform's language: texts that nothing evaluates, and the form that ``terraform fmt`` leaves as it is."""

from __future__ import annotations

import pytest

from runctl.export.hcl import block, comment, header, quoted
from runctl.providers.abilities.terraform import Block, Json, Reference


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("plain", '"plain"'),
        ('a "b"', r'"a \"b\""'),
        ("a\nb\tc\\", r'"a\nb\tc\\"'),
        ("${file(x)} %{if}", '"$${file(x)} %%{if}"'),
        ("Grüße 日本", '"Grüße 日本"'),
        ("\x00\x7f", r'"\u0000\u007f"'),
    ],
)
def test_a_text_is_only_a_text(text: str, written: str) -> None:
    assert quoted(text) == written


def test_a_block_is_formed_as_terraforms_own_formatter_does() -> None:
    body = {
        "size": 1,
        "encrypted": True,
        "volume": Reference("aws_ebs_volume.a.id"),
        "tags": {"Name": "a", "runctl:managed": "true"},
        "policy": Json({"Action": ["a"], "Principal": {}}),
        "rule": (Block({"id": "x"}), Block({})),
        "lifecycle": Block({"ignore_changes": (Reference("tags"),)}),
    }
    assert block(header("resource", "aws_thing", "a"), body) == (
        'resource "aws_thing" "a" {\n'
        "  size      = 1\n"
        "  encrypted = true\n"
        "  volume    = aws_ebs_volume.a.id\n"
        "\n"
        "  tags = {\n"
        '    Name             = "a"\n'
        '    "runctl:managed" = "true"\n'
        "  }\n"
        "\n"
        "  policy = jsonencode({\n"
        '    Action    = ["a"]\n'
        "    Principal = {}\n"
        "  })\n"
        "\n"
        "  rule {\n"
        '    id = "x"\n'
        "  }\n"
        "\n"
        "  rule {}\n"
        "\n"
        "  lifecycle {\n"
        "    ignore_changes = [tags]\n"
        "  }\n"
        "}"
    )


def test_a_long_list_has_a_line_for_each() -> None:
    long = ["x" * 60, {"a": 1}, "y"]
    assert block("locals", {"values": long}) == (
        f'locals {{\n  values = [\n    "{"x" * 60}",\n    {{\n      a = 1\n    }},\n    "y",\n  ]\n}}'
    )


def test_a_comment_stays_one() -> None:
    assert comment("a\n\n} b") == "# a\n#\n# } b"
