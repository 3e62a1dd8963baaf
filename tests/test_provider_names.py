"""Only a provider's own package names it: what the rest says of a provider comes from the provider."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import runctl

ROOT = Path(runctl.__file__).parent
AWS = re.compile(
    r"(?<![a-z0-9])(aws|amazon|amazonaws|ssm|systems manager)(?![a-z])|^_?(Aws|Ssm)", re.IGNORECASE
)
AT_HOME = ("providers/aws/", "providers/local/", "sandbox/")

ALLOWED = {
    "agent/cloud/": "it speaks to the object store and the metadata service of AWS in their own protocols",
    "agent/fill/": "it fills volumes from S3, and says what to ask of S3",
    "agent/object_store.py": "it reads the names of S3's buckets, and writes the rights on them",
    "agent/disks/decision.py": "the kernel's name of a disk that ends with its machine",
    "agent/disks/interface.py": "the kernel's names of disks",
    "agent/disks/growth.py": "Amazon Linux is a distribution with a package name of its own",
    "agent/guard/activity.py": "the processes by which somebody is logged in, those of the SSM agent among them",
    "agent/machine/stop_targets.py": "aws-vault is a program that runs others",
    "cli/framework/command_table.py": "the help of the sandbox, which is one of AWS",
    "cli/sandbox.py": "the commands of the sandbox",
    "cli/sandbox_faults.py": "the faults of the sandbox",
    "core/masking.py": "it knows the forms of many services' keys",
    "core/tags.py": "the beginning of tags that nobody may set",
    "project/secrets.py": "it knows the folders in which many programs keep their keys",
    "providers/lyceum/storage.py": "its bucket speaks S3's protocol, for which that package has the client",
    "providers/registry.py": "the default",
}
"""Where AWS may be named outside its package, and why."""


def modules(skipped: tuple[str, ...]) -> list[str]:
    names = (path.relative_to(ROOT).as_posix() for path in sorted(ROOT.rglob("*.py")))
    return [name for name in names if not name.startswith(skipped)]


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Names and texts in a module, each with its line; docstrings and comments are for readers, and not in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.arg | ast.keyword):
            yield node.lineno, node.arg or ""
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""


def naming(source: str, names: re.Pattern[str] = AWS) -> list[int]:
    """The lines of a module that name AWS, or whatever else."""
    return sorted({line for line, text in texts(ast.parse(source)) if names.search(text)})


def comparing(source: str) -> list[int]:
    """The lines of a module that compare something with the name of the provider ``local``."""
    return sorted(
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Compare)
        for side in (node.left, *node.comparators)
        if isinstance(side, ast.Constant) and side.value == "local"
    )


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ('hint = f"runctl aws list {x}"', [1]),
        ("from runctl.providers.aws import x", [1]),
        ("x = 1\nclass AwsThing: ...", [2]),
        ("config.aws.region", [1]),
        ('transport == "ssm"', [1]),
        ('text = "over Systems Manager"', [1]),
        ("@classmethod\ndef f(): ...", []),
        ("f(aws=1)", [1]),
        ('"""Of AWS."""\n# AWS\nx = "laws, draws"', []),
        ('def f():\n    """Of AWS."""\n    return "Amazon"', [3]),
    ],
)
def test_what_names_aws_is_found(source: str, lines: list[int]) -> None:
    assert naming(source) == lines


def test_what_compares_with_a_provider_is_found() -> None:
    assert comparing('a.provider == "local"\nx = "local"\n"local" != b') == [1, 3]


def test_nothing_but_its_own_package_names_aws() -> None:
    found = {name: naming((ROOT / name).read_text()) for name in modules(AT_HOME)}
    named = {name: lines for name, lines in found.items() if lines}

    assert {name: lines for name, lines in named.items() if not name.startswith(tuple(ALLOWED))} == {}
    assert [where for where in ALLOWED if not any(name.startswith(where) for name in named)] == []


def test_no_help_or_message_names_an_instance_type_that_one_provider_has() -> None:
    types = re.compile(
        r"\b[a-z][0-9][a-z]{0,4}\.([0-9]*x?large|micro|small|medium|metal)\b|\b[a-z][a-z0-9-]+\.[1-9]x\b"
    )
    found = {name: naming((ROOT / name).read_text(), types) for name in modules(("providers/", "sandbox/"))}

    assert {name: lines for name, lines in found.items() if lines and name not in ALLOWED} == {}


@pytest.mark.parametrize("provider", ["runpod", "lyceum"])
def test_nothing_but_its_own_package_names_another_provider(provider: str) -> None:
    names = re.compile(provider, re.IGNORECASE)
    elsewhere = modules((f"providers/{provider}/", "sandbox/"))
    found = {name: naming((ROOT / name).read_text(), names) for name in elsewhere}

    assert {name: lines for name, lines in found.items() if lines} == {}


def test_nothing_asks_whether_a_provider_is_this_computer_by_its_name() -> None:
    found = {name: comparing((ROOT / name).read_text()) for name in modules(AT_HOME)}

    assert {name: lines for name, lines in found.items() if lines} == {}
