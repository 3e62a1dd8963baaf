"""A key of the configuration is checked as the option of the same meaning is."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from runctl.checkpoints.keeping import Keeping
from runctl.containers.mounts import parse_mount
from runctl.core.config import load, read, rules
from runctl.core.config.edit import set_value
from runctl.core.config.files import ConfigFile
from runctl.core.errors import ConfigError, UsageError
from runctl.machines.config_checks import CHECKS
from runctl.providers.abilities.limits import settled_limits


def problems_of(tmp_path: Path, section: str, line: str) -> list[str]:
    file = tmp_path / "c.toml"
    file.write_text(f"[{section}]\n{line}\n")
    found = read(tmp_path, environ={}, config_file=file, user_file=tmp_path / "none", checks=CHECKS)
    return [problem.text() for problem in found.problems]


@pytest.mark.parametrize(
    ("section", "line", "why"),
    [
        ("aws", 'ttl = "5"', "a time to live of 5s is too short; use one minute to 366 days"),
        ("aws", 'ttl = "400d"', "too long"),
        ("aws", 'idle_timeout = "5"', "an idle timeout of 5s is too short"),
        ("aws", 'instance_type = "g5.xlarge,g4dn.xlarge"', "is not one instance type; name one"),
        ("ebs", 'mount_points = ["/a:/b", "/mnt/data"]', '"/mnt/data": it needs a source and a target'),
        ("checkpoints", 's3 = "mine/runs"', "is not an S3 address such as s3://bucket/folder"),
        ("checkpoints", 's3 = "s3://Bad_Bucket/x"', "is not an S3 address"),
        ("checkpoints", 'folder = "/mnt/../etc"', "without .."),
        ("checkpoints", 'endpoint = "minio:9000"', "it is not the URL of a store"),
        ("checkpoints", 'every = "soon"', "is not a duration"),
        ("train", 'env = { "A-B" = "1" }', "'A-B' cannot be the name of a variable; write NAME=VALUE"),
        ("train", 'env = { RUNCTL_RUN_ID = "1" }', "RUNCTL_RUN_ID is one that runctl sets itself"),
        ("checkpoints", 'every = "0.5"', "less than a second is not possible"),
    ],
)
def test_what_no_command_takes_is_a_problem_with_file_line_and_key(
    tmp_path: Path, section: str, line: str, why: str
) -> None:
    (text,) = problems_of(tmp_path, section, line)

    assert text.startswith(f"{tmp_path / 'c.toml'}:2: {section}.{line.partition(' ')[0]}: ")
    assert why in text


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ("aws", 'ttl = "12h"'),
        ("train", 'env = { WANDB_MODE = "offline" }'),
        ("aws", 'idle_timeout = "off"'),
        ("ebs", 'mount_points = ["datasets:/data:ro"]'),
        ("checkpoints", 's3 = "s3://mine/runs"'),
        ("checkpoints", 's3 = "own/runs"'),
        ("checkpoints", 'folder = "/mnt/shared"'),
        ("checkpoints", 'endpoint = "https://minio.example:9000"'),
        ("checkpoints", 'every = "auto"'),
        ("checkpoints", 'every = "10m"'),
    ],
)
def test_what_commands_take_is_none(tmp_path: Path, section: str, line: str) -> None:
    assert problems_of(tmp_path, section, line) == []


def test_variables_are_checked_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^\$RUNCTL_AWS_TTL: aws.ttl: a time to live of 5s"):
        load(tmp_path, environ={"RUNCTL_AWS_TTL": "5"}, user_file=tmp_path / "none", checks=CHECKS)


def test_nothing_is_set_that_no_command_takes(tmp_path: Path) -> None:
    file = ConfigFile(tmp_path / "c.toml")

    with pytest.raises(ConfigError, match=r"aws.ttl: a time to live of 5s is too short"):
        set_value(file, "aws.ttl", "5", CHECKS)

    assert not file.path.exists()


def test_the_options_say_the_same() -> None:
    with pytest.raises(UsageError, match=r"^a time to live of 5s is too short$"):
        settled_limits(
            ttl=timedelta(seconds=5), budget=None, idle_timeout=None, for_a_run=False, per_hour=None
        )
    with pytest.raises(UsageError, match=r'^--ebs-mount "/mnt/data": it needs a source and a target$'):
        parse_mount("/mnt/data")
    with pytest.raises(UsageError, match=r"^--checkpoint-folder /mnt/../etc: .* without ..$"):
        Keeping(folder="/mnt/../etc").store()


def test_every_check_that_a_key_names_is_there() -> None:
    named = {rule.check for rule in rules().values() if rule.check is not None}

    assert named == set(CHECKS)
