"""A build as a command line, and what docker says about it as steps."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from runctl.containers.build_commands import Secret, parse_build_args, parse_secret
from runctl.containers.build_log import BuildLog
from runctl.containers.client import Builder
from runctl.containers.explain import explain
from runctl.containers.image_inputs import ImageInputs
from runctl.containers.image_plan import ImagePlan, Rebuild
from runctl.containers.registry_login import private_config
from runctl.core.errors import NotFound, Unsupported, UsageError

INPUTS = ImageInputs(
    "docker/Dockerfile",
    "FROM a AS deps\nRUN x\nFROM b\nCOPY --from=deps / /\n",
    {"a": "f 0644 1"},
    {"B": "2", "A": "1"},
    None,
    "linux/arm64",
)
PLAN = ImagePlan(Path("/p"), "Digits", INPUTS, "host/path")
SECRETS = (Secret("tok", file=Path("/secret")), Secret("var", variable="TOKEN"))


def option(arguments: list[str], name: str) -> list[str]:
    return [arguments[index + 1] for index, word in enumerate(arguments) if word == name]


def test_buildx_exports_every_stages_cache_and_loads_the_image() -> None:
    command = PLAN.command(Builder.BUILDX, SECRETS, exports_cache=True, name=PLAN.unchecked("1"))
    arguments = command.arguments(Builder.BUILDX)

    assert option(arguments, "--tag") == [PLAN.unchecked("1")]
    assert arguments[:5] == ["buildx", "build", "--progress", "plain", "--load"]
    (exported,) = option(arguments, "--cache-to")
    assert exported.startswith("type=registry,ref=host/path:buildcache,mode=max,image-manifest=true")
    assert "type=registry,ref=host/path:buildcache" in option(arguments, "--cache-from")
    assert option(arguments, "--secret") == ["id=tok,src=/secret", "id=var,env=TOKEN"]
    assert option(arguments, "--platform") == ["linux/arm64"]
    assert option(arguments, "--build-arg") == ["A=1", "B=2"]
    assert option(arguments, "--file") == ["/p/docker/Dockerfile"]
    assert arguments[-1] == "/p"


def test_buildx_that_cannot_export_makes_the_image_a_cache() -> None:
    arguments = PLAN.command(Builder.BUILDX, ()).arguments(Builder.BUILDX)

    assert option(arguments, "--cache-to") == ["type=inline"]


def test_a_builder_in_a_container_pushes_at_once_and_without_a_tag() -> None:
    command = PLAN.command(Builder.BUILDX, (), exports_cache=True, digest_file=Path("/d"))
    arguments = command.arguments(Builder.BUILDX)

    assert option(arguments, "--output") == [
        "type=image,name=host/path,push-by-digest=true,name-canonical=true,push=true"
    ]
    assert option(arguments, "--metadata-file") == ["/d"]
    assert option(arguments, "--tag") == []


def test_a_build_for_its_caches_alone_leaves_no_image() -> None:
    arguments = PLAN.command(Builder.BUILDX, (), exports_cache=True).arguments(Builder.BUILDX)

    assert option(arguments, "--output") == ["type=cacheonly"]
    assert option(arguments, "--tag") == []
    assert "--load" not in arguments


def test_the_built_in_buildkit_looks_at_the_images_of_every_stage() -> None:
    arguments = PLAN.command(Builder.BUILT_IN, ()).arguments(Builder.BUILT_IN)

    assert "BUILDKIT_INLINE_CACHE=1" in option(arguments, "--build-arg")
    assert option(arguments, "--cache-from") == [
        f"host/path:{tag}" for tag in ("cache-deps", "cache-deps-top", "cache", "cache-top", "buildcache")
    ]


def test_without_a_registry_there_is_no_cache_to_speak_of() -> None:
    arguments = (
        dataclasses.replace(PLAN, repository=None)
        .command(Builder.BUILT_IN, (), name="n:1")
        .arguments(Builder.BUILT_IN)
    )

    assert option(arguments, "--cache-from") == []
    assert option(arguments, "--tag") == ["n:1"]
    # It may be pushed later, by a command of its own, and is to be a cache then.
    assert "BUILDKIT_INLINE_CACHE=1" in arguments


def test_building_anew_uses_no_cache_and_a_pull_does() -> None:
    rebuild = PLAN.command(Builder.BUILT_IN, (), rebuild=Rebuild(no_cache=True)).arguments(Builder.BUILT_IN)
    pull = PLAN.command(Builder.BUILT_IN, (), rebuild=Rebuild(pull=True)).arguments(Builder.BUILT_IN)

    assert "--no-cache" in rebuild
    assert "--cache-from" not in rebuild
    assert "--pull" in pull
    assert "--cache-from" in pull


def test_the_old_builder_has_no_secrets_and_says_so() -> None:
    with pytest.raises(Unsupported, match="no BuildKit"):
        PLAN.command(Builder.LEGACY, SECRETS).arguments(Builder.LEGACY)


def test_secrets_are_checked_and_never_quoted(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hidden")

    assert parse_secret("id=a,src=token", tmp_path, {}) == Secret("a", file=tmp_path / "token")
    assert parse_secret("id=a,env=T", tmp_path, {"T": "hidden"}) == Secret("a", variable="T")
    with pytest.raises(NotFound):
        parse_secret("id=a,src=none", tmp_path, {})
    for text in ("", "a", "id=", "id=a", "id=a,src=token,env=T", "id=a,src=token,mode=1", "id=a b,src=token"):
        with pytest.raises(UsageError) as raised:
            parse_secret(text, tmp_path, {"T": "hidden"})
        assert "hidden" not in raised.value.message


def test_build_arguments_come_over_the_configured_ones() -> None:
    assert parse_build_args(["B=2=3", "C"], {"A": "1", "B": "1"}, {"C": "4"}) == {
        "A": "1",
        "B": "2=3",
        "C": "4",
    }
    with pytest.raises(UsageError):
        parse_build_args(["C"], {}, {})


def test_plain_progress_is_read_as_steps() -> None:
    log = BuildLog()
    shown = [
        log.feed(line)
        for line in (
            "#1 [internal] load build definition from Dockerfile",
            "#1 DONE 0.0s",
            "#4 importing cache manifest from host/path:cache",
            "#4 ERROR: host/path:cache: not found",
            "#5 [linux/amd64 deps 1/3] FROM docker.io/library/base:py",
            "#6 [deps 2/3] RUN x",
            "#6 CACHED",
            "#7 [2/4] COPY . /w",
            "#7 sha256:" + "0" * 64,
            "#7 0.5 hello",
            "#7 DONE 0.1s",
            "#8 [stage-1 3/4] RUN false",
            "#8 ERROR: exit code: 1",
        )
    ]

    steps = {step.text: step for step in log.ordered}
    assert (steps["RUN x"].stage, steps["RUN x"].number, steps["RUN x"].cached) == ("deps", 2, True)
    assert (steps["COPY . /w"].stage, steps["COPY . /w"].done, steps["COPY . /w"].cached) == (
        None,
        True,
        False,
    )
    assert steps["RUN false"].failed
    assert log.errors == ["ERROR: exit code: 1"]
    assert "  0.5 hello" in shown
    assert not any("not found" in line for line in shown if line)


def test_a_changed_base_image_is_the_reason_for_what_follows() -> None:
    log = BuildLog()
    for line in ("#6 [stage-1 2/2] COPY --from=deps / /", "#6 DONE 0.1s"):
        log.feed(line)
    before = dataclasses.replace(INPUTS, dockerfile_text=INPUTS.dockerfile_text.replace("FROM b", "FROM c"))

    (broken,) = explain(log.ordered, INPUTS, before).breaks

    assert (broken.line, broken.reason) == (4, "its base image is b now, and was c")


def test_a_private_configuration_keeps_the_users_other_logins() -> None:
    users = {"credsStore": "desktop", "auths": {"host": {"auth": "x"}, "ghcr.io": {}}, "proxies": {"a": 1}}

    mine = private_config(users, "host")

    assert mine["auths"] == {"ghcr.io": {}}
    assert mine["credHelpers"] == {"host": ""}
    assert (mine["credsStore"], mine["proxies"]) == ("desktop", {"a": 1})
