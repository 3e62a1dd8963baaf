"""What the tests make in the sandbox's account, and give back."""

from __future__ import annotations

from typing import Any

from tests.e2e.command_line import CommandLine, until


def create(runctl: CommandLine, *options: str) -> str:
    """An instance, ready."""
    done = runctl("aws", "create", "t3.medium", "--quiet", *options).ok()
    instance_id = done.out.strip()
    assert done.out == f"{instance_id}\n"
    assert instance_id.startswith("i-")
    return instance_id


def volume(runctl: CommandLine, name: str = "datasets", *options: str) -> str:
    """A volume."""
    return runctl("aws", "ebs", "create", "--size", 1, "--name", name, "--quiet", *options).ok().out.strip()


def volume_named(runctl: CommandLine, name: str) -> dict[str, Any]:
    """As ``ebs list`` shows it now."""
    listed = runctl("aws", "ebs", "list", "--output", "json").ok().json
    (found,) = [volume for volume in listed if volume["name"] == name]
    return dict(found)


def terminate(runctl: CommandLine, instance_id: str) -> None:
    """It is gone, and its volumes are free."""
    runctl("aws", "terminate", instance_id, "--yes").ok()
    until(
        lambda: all(
            found["state"] == "available"
            for found in runctl("aws", "ebs", "list", "--output", "json").ok().json
        ),
        what="the volumes to be free",
    )
