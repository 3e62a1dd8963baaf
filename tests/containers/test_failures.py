"""What docker says, in our words."""

from __future__ import annotations

import pytest

from runctl.containers.client import Builder, Candidate, cache_support, choose
from runctl.containers.failures import build_failure, registry_failure

IMAGE = "registry.example.com/team/digits:abc"


@pytest.mark.parametrize(
    ("said", "code", "exit_code"),
    [
        (
            "denied: Your authorization token has expired. Reauthenticate and try again.",
            "expired-credentials",
            4,
        ),
        ("no basic auth credentials", "registry-login", 4),
        ("unauthorized: authentication required", "registry-login", 4),
        ("denied: requested access to the resource is denied", "permission", 4),
        (
            "denied: User: arn:aws:iam::1:user/a is not authorized to perform: ecr:InitiateLayerUpload",
            "permission",
            4,
        ),
        ("name unknown: The repository with name 'x' does not exist in the registry", "no-repository", 5),
        ('Get "https://registry.example.com/v2/": dial tcp: connection refused', "registry-unreachable", 7),
        ("dial tcp: lookup registry.example.com: no such host", "registry-unreachable", 7),
        ("write /var/lib/docker/tmp/x: no space left on device", "disk-full", 1),
        ("Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?", "no-engine", 1),
        ("something else", "registry-failed", 1),
        ("", "registry-failed", 1),
    ],
)
def test_a_registrys_refusal_has_a_code_and_a_hint(said: str, code: str, exit_code: int) -> None:
    error = registry_failure(said, IMAGE, "pushing")

    assert (error.code, error.exit_code) == (code, exit_code)
    assert said.strip() in error.message


def test_a_build_that_failed_ends_with_what_docker_said() -> None:
    error = build_failure([f"line {number}" for number in range(30)], 1)

    assert error.code == "build-failed"
    assert error.message.endswith("line 29")
    assert "line 10" not in error.message
    assert build_failure(["x", "no space left on device", "y"], 1).code == "disk-full"


OLD = Candidate("/usr/bin/docker", (20, 10), buildx=False)
NEW = Candidate("/usr/local/bin/docker", (28, 2), buildx=False)
BUILDX = Candidate("/opt/docker", (27, 0), buildx=True)


@pytest.mark.parametrize(
    ("candidates", "best", "builder"),
    [
        ([NEW, OLD, BUILDX], BUILDX, Builder.BUILDX),
        ([NEW, OLD], OLD, Builder.BUILT_IN),
        ([NEW], NEW, Builder.LEGACY),
        ([Candidate("/x", (17, 6), buildx=False)], None, Builder.LEGACY),
    ],
)
def test_the_program_that_builds_best_is_taken(
    candidates: list[Candidate], best: Candidate | None, builder: Builder
) -> None:
    chosen = choose(candidates)

    assert chosen == (best or candidates[0])
    assert chosen is not None
    assert chosen.builder is builder


def test_a_buildx_driver_exports_its_cache_if_it_can() -> None:
    assert cache_support("docker-container", ()) == (True, False)
    assert cache_support("docker", [["Backing Filesystem", "extfs"]]) == (False, True)
    assert cache_support("docker", [["driver-type", "io.containerd.snapshotter.v1"]]) == (True, True)
