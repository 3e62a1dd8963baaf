"""What a run may wish of its container."""

from __future__ import annotations

import pytest

from runctl.agent.spec import ContainerSpec
from runctl.containers.container_options import (
    NO_DOCKERFILE,
    ContainerOptions,
    check_docker_args,
    refuse_without_container,
    with_options,
)
from runctl.core.errors import UsageError


@pytest.mark.parametrize(
    "word",
    [
        "--network=host",
        "--memory=2g",
        "-v/a:/b:ro",
        "-p8080:80",
        "--privileged",
        "--read-only",
        "--label=team=vision",
        "--ulimit=memlock=-1",
        "--cap-add=SYS_PTRACE",
    ],
)
def test_an_option_in_one_word_is_passed_on(word: str) -> None:
    created = with_options(ContainerSpec(image="x"), ContainerOptions(docker_args=(word,)))
    assert created.docker_args == (word,)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("--rm", "exit code"),
        ("--rm=true", "exit code"),
        ("-d", "waits for it"),
        ("--detach", "waits for it"),
        ("-dit", "waits for it"),
        ("--name=mine", "found by the name"),
        ("--restart=always", "no end"),
        ("-t", "no terminal"),
        ("--log-driver=none", "must be complete"),
        ("--init=false", "SIGTERM"),
        ("--oom-kill-disable", "hang"),
        ("--label=runctl.run=x", "finds the run"),
        ("-lrunctl.attempt=1", "finds the run"),
        ("--env=TOKEN=x", "runctl has --env"),
        ("-eTOKEN", "runctl has --env"),
        ("--gpus=all", "runctl has --gpus"),
        ("-uroot", "runctl has --user"),
        ("--network", "its value is missing"),
        ("-v", "its value is missing"),
        ("host", "not an option"),
        ("--", "not an option"),
        ("-", "not an option"),
        ("", "not an option"),
        ("image:1", "not an option"),
    ],
)
def test_what_would_break_supervision_is_refused_with_the_reason(word: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        check_docker_args([word])
    assert caught.value.code == "bad-docker-arg"


@pytest.mark.parametrize("options", ["", "0", "-1", "some", "1.5", "٣"])
def test_gpus_are_all_none_or_a_number(options: str) -> None:
    with pytest.raises(UsageError, match="--gpus"):
        with_options(ContainerSpec(image="x"), ContainerOptions(gpus=options))


def test_wishes_become_the_container() -> None:
    options = ContainerOptions(entrypoint=(), user="", gpus="2", shm_mib=8192)
    created = with_options(ContainerSpec(image="x", workdir="/app"), options)
    assert created == ContainerSpec(image="x", workdir="/app", entrypoint=(), user="", gpus="2", shm_mib=8192)


def test_what_is_about_a_container_is_refused_on_the_host() -> None:
    refuse_without_container(ContainerOptions(), "--no-docker")
    for reason, hint in (
        ("--no-docker", "leave it out, or --no-docker"),
        (NO_DOCKERFILE, "name an image with --image, or leave it out"),
    ):
        with pytest.raises(UsageError, match="--gpus is about a container") as raised:
            refuse_without_container(ContainerOptions(gpus="all"), reason)
        assert reason in raised.value.message
        assert raised.value.hint == hint
