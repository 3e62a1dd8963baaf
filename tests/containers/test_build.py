"""``docker build`` and ``build-push`` by the real command line, a real engine and a real registry."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from runctl.core.files import cache_folder
from runctl.project.docker.build_context import read_context
from runctl.sandbox.ecr.registry import Registry
from tests.agent import engine as engines
from tests.agent.driver import until
from tests.agent.engine import Engine
from tests.containers.conftest import BASE
from tests.e2e.command_line import CommandLine, write_project

pytestmark = [pytest.mark.linux, pytest.mark.root, pytest.mark.docker]


def build(runctl: CommandLine, *options: object, verb: str = "build") -> dict[str, Any]:
    found: dict[str, Any] = runctl("docker", verb, *options, "--output", "json").ok().json
    return found


def tags(engine: Engine) -> list[str]:
    return sorted(engine.docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split())


def file_in(engine: Engine, image: str, path: str) -> bytes:
    container = engine.docker("create", "--entrypoint", "/none", image).strip()
    try:
        copied = subprocess.run(
            ["docker", "cp", f"{container}:{path}", "-"],
            env={**os.environ, "DOCKER_HOST": engine.host},
            capture_output=True,
            check=True,
        ).stdout
    finally:
        engine.docker("rm", container)
    return copied


def test_the_same_project_is_built_once(runctl: CommandLine, engine: Engine) -> None:
    first = build(runctl)
    second = build(runctl)

    assert first["built"] is True
    assert first["reference"] == f"runctl/digits:{first['tag']}"
    assert first["platform"] == "linux/amd64" or first["platform"].startswith("linux/")
    assert first["reference"] in tags(engine)
    assert (second["built"], second["found_in"], second["tag"]) == (False, "engine", first["tag"])
    repeated = runctl("docker", "build").ok().err
    assert "in the engine already: nothing was built" in repeated
    assert ".git" not in repeated


def test_a_context_with_the_history_or_results_in_it_is_warned_of(runctl: CommandLine, project: Path) -> None:
    rules = (project / ".dockerignore").read_text()
    (project / ".dockerignore").unlink()
    (project / ".git").mkdir(exist_ok=True)
    (project / "results" / "run-7kq2m9xd4t" / "output").mkdir(parents=True)

    done = runctl("docker", "build", "--dry-run").ok()

    assert "every commit makes another image: name it in .dockerignore" in done.err
    assert "has results in it" in done.err
    assert "every run makes another image: name it in .dockerignore" in done.err
    (project / ".dockerignore").write_text(f"{rules}\nresults\n.git\n")
    assert "another image" not in runctl("docker", "build", "--dry-run").ok().err


def test_what_has_been_hashed_for_one_build_is_not_hashed_for_the_next(runctl: CommandLine) -> None:
    # What was written a moment ago may be written again without a trace, and is never taken as known.
    time.sleep(2.1)
    build(runctl)

    (saved,) = (cache_folder() / "hashes").glob("*.json")
    assert set(json.loads(saved.read_bytes())["files"]) >= {"train.py", "requirements.txt"}


def test_a_code_change_rebuilds_the_last_layer_and_says_what_changed(
    runctl: CommandLine, project: Path
) -> None:
    first = build(runctl)
    (project / "train.py").write_text("print(2)\n")
    (project / "new.py").write_text("")
    (project / "ignored.log").write_text("x")

    second = build(runctl)
    shown = runctl("docker", "build", "--rebuild").ok().err

    assert second["tag"] != first["tag"]
    (broken,) = second["cache"]["breaks"]
    assert (broken["line"], broken["instruction"], broken["steps_after"]) == (8, "COPY . /workspace", 0)
    assert broken["changed"] == ["new.py", "train.py"]
    assert broken["reason"] == "new.py is new, train.py changed"
    assert second["cache"]["built"] == 1
    assert "cache broken at Dockerfile:" in shown


def test_the_reasons_name_requirements_arguments_and_instructions(runctl: CommandLine, project: Path) -> None:
    build(runctl, "--build-arg", "MARK=one")

    (project / "requirements.txt").write_text("torch\n")
    requirements = build(runctl, "--build-arg", "MARK=one")["cache"]["breaks"]
    argument = build(runctl, "--build-arg", "MARK=two")["cache"]["breaks"]
    text = (project / "Dockerfile").read_text()
    (project / "Dockerfile").write_text(text.replace("echo $MARK", "echo now $MARK"))
    instruction = build(runctl, "--build-arg", "MARK=two")["cache"]["breaks"]

    assert [requirement["stage"] for requirement in requirements] == ["deps", "1"]
    assert requirements[0]["reason"] == "requirements.txt changed"
    assert requirements[1]["reason"] == "the stage deps, which it is made of, was rebuilt"
    assert argument[0]["reason"] == "the build argument MARK changed"
    assert (instruction[0]["line"], instruction[0]["reason"]) == (7, "the instruction is new or has changed")


def test_what_is_hashed_is_what_docker_sends(tmp_path: Path, engine: Engine) -> None:
    root = write_project(
        tmp_path / "context",
        {
            "docker/Dockerfile": "FROM scratch\nCOPY . /\n",
            "docker/Dockerfile.dockerignore": (
                ".git\n# a comment\n**/*.pyc\ndata\n!data/keep/**\n/build/\n*/temp*\nlogs/[0-9]?.txt\n!logs/15.txt\n"
            ),
            ".dockerignore": "*\n",
            "a.py": "",
            "a.pyc": "",
            "pkg/b.pyc": "",
            "pkg/b.py": "x",
            "data/big/one": "",
            "data/keep/two": "",
            "build/out": "",
            "sub/build/in": "",
            "sub/temporary": "",
            "sub/sub/temporary": "",
            "logs/14.txt": "",
            "logs/15.txt": "",
            "logs/x.txt": "",
        },
    )
    (root / "empty").mkdir(mode=0o700)
    (root / "a.py").chmod(0o751)
    (root / "link").symlink_to("a.py")
    (root / "data/dangling").symlink_to("nowhere")
    runctl = CommandLine(root, {"DOCKER_HOST": engine.host})

    image = build(runctl)["reference"]
    context = read_context(root, "docker/Dockerfile")

    entries: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(file_in(engine, image, "/"))) as archive:
        for item in archive:
            path = item.name.removeprefix("./").strip("/")
            if path.partition("/")[0] in {"", "dev", "etc", "proc", "sys", ".dockerenv"}:
                continue
            kind = "l" if item.issym() else "d" if item.isdir() else "f"
            entries[path] = f"l {item.linkname}" if kind == "l" else f"{kind} {item.mode & 0o7777:04o}"
    assert entries == {path: " ".join(entry.split()[:2]) for path, entry in context.entries.items()}


def test_a_secret_is_in_no_image_no_digest_and_no_command_line(
    runctl: CommandLine, project: Path, engine: Engine, tmp_path: Path
) -> None:
    (project / "Dockerfile").write_text(
        f"FROM {BASE}\n"
        "RUN --mount=type=secret,id=file --mount=type=secret,id=var"
        " read f < /run/secrets/file; read v < /run/secrets/var || :; sleep 1; echo ${#f} ${#v} > /lengths\n"
    )
    (tmp_path / "token").write_text("hidden-in-file\n")
    with_secret = CommandLine(project, {**runctl.env, "TOKEN": "hidden-in-variable"})

    process = with_secret.start(
        "docker",
        "build",
        *("--secret", f"id=file,src={tmp_path / 'token'}", "--secret", "id=var,env=TOKEN"),
        *("--output", "json"),
    )
    seen = set()
    while process.poll() is None:
        for folder in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                seen.add(folder.read_bytes())
            except OSError:
                continue
        time.sleep(0.05)
    out, err = process.communicate()
    assert process.returncode == 0, err.decode()
    built = json.loads(out)
    (tmp_path / "token").write_text("another\n")

    assert any(b"id=file" in line for line in seen)
    assert not any(b"hidden-in" in line for line in seen)
    assert b"14 18\n" in file_in(engine, built["reference"], "/lengths")
    saved = subprocess.run(
        ["docker", "save", built["reference"]],
        env={**os.environ, "DOCKER_HOST": engine.host},
        capture_output=True,
        check=True,
    ).stdout
    assert b"hidden-in" not in saved
    records = Path(os.environ["XDG_DATA_HOME"], "runctl", "builds")
    assert not any(b"hidden-in" in file.read_bytes() for file in records.iterdir())
    second = build(
        with_secret, "--secret", f"id=file,src={tmp_path / 'token'}", "--secret", "id=var,env=TOKEN"
    )
    assert (second["built"], second["tag"]) == (False, built["tag"])


def test_bad_secrets_and_arguments_are_refused_before_anything_is_done(runctl: CommandLine) -> None:
    for argv, code in (
        (("--secret", "id=a,src=/nowhere"), 5),
        (("--target", "nonesuch"), 2),
        (("--registry", "Not A Registry"), 2),
    ):
        done = runctl("docker", "build", *argv, "--output", "json")
        assert done.code == code, f"{done}"


def test_a_stage_is_built_alone(runctl: CommandLine, engine: Engine) -> None:
    stage = build(runctl, "--target", "deps")
    whole = build(runctl)

    assert stage["tag"] != whole["tag"]
    assert stage["target"] == "deps"
    assert b"numpy" in file_in(engine, stage["reference"], "/deps")


def test_a_dockerfile_that_does_not_build_says_why_and_leaves_no_image(
    runctl: CommandLine, project: Path, engine: Engine
) -> None:
    before = tags(engine)
    (project / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo it is broken >&2; exit 7\n")

    done = runctl("docker", "build", "--output", "json")

    assert (done.code, done.error["code"]) == (1, "build-failed")
    assert "it is broken" in done.error["message"]
    assert tags(engine) == before


def test_without_an_engine_it_says_so(project: Path) -> None:
    nowhere = CommandLine(project, {"DOCKER_HOST": "unix:///nowhere/docker.sock"})

    done = nowhere("docker", "build", "--output", "json")

    assert (done.code, done.error["code"]) == (1, "no-engine")
    assert "--build-on instance" in done.error["hint"]


def test_two_builds_at_once_build_once(runctl: CommandLine, project: Path) -> None:
    (project / "Dockerfile").write_text(f"FROM {BASE}\nRUN sleep 1; echo once > /once\nCOPY . /workspace\n")

    both = [runctl.start("docker", "build", "--output", "json") for _ in range(2)]
    answers = [json.loads(item.communicate(timeout=60)[0]) for item in both]

    assert sorted(answer["built"] for answer in answers) == [False, True]
    assert len({answer["tag"] for answer in answers}) == 1


def test_ctrl_c_leaves_no_image_and_nothing_running(
    runctl: CommandLine, project: Path, engine: Engine
) -> None:
    before = tags(engine)
    (project / "Dockerfile").write_text(f"FROM {BASE}\nRUN sleep 4321\n")

    process = runctl.start("docker", "build")
    until(lambda: _running("sleep\0004321\0"), "the step")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)

    assert process.returncode == 130, err.decode()
    until(lambda: not _running("sleep\0004321\0"), "the end of the step")
    assert tags(engine) == before
    assert not _running(f"docker\0build\0--progress\0plain\0--file\0{project}")


def _running(text: str) -> bool:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in file.read_bytes():
                return True
        except OSError:
            continue
    return False


def test_a_file_that_changes_under_the_build_makes_no_image_of_that_digest(
    runctl: CommandLine, project: Path, engine: Engine
) -> None:
    before = tags(engine)
    (project / "Dockerfile").write_text(f"FROM {BASE}\nRUN sleep 2.5\nCOPY . /workspace\n")

    process = runctl.start("docker", "build", "--output", "json")
    until(lambda: _running("sleep\0002.5\0"), "the step")
    (project / "train.py").write_text("changed\n")
    _, err = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "file-changed" in err.decode()
    assert tags(engine) == before


def test_a_push_happens_once_and_needs_an_image(
    runctl: CommandLine, project: Path, registry: Registry
) -> None:
    where = f"{registry.address}/team/digits"
    (project / "train.py").write_text("print('pushed')\n")
    missing = runctl("docker", "push", "--registry", where, "--output", "json")
    built = build(runctl)

    pushed = build(runctl, "--registry", where, verb="push")
    second = build(runctl, "--registry", where, verb="push")
    both = build(runctl, "--registry", where, verb="build-push")

    assert (missing.code, missing.error["code"]) == (5, "no-image")
    assert pushed["reference"] == f"{where}:{built['tag']}"
    assert pushed["push"]["pushed"] is True
    assert pushed["push"]["digest"].startswith("sha256:")
    assert pushed["push"]["caches"] == ["cache-deps", "cache"]
    assert second["push"]["pushed"] is False
    assert (both["built"], both["found_in"], both["push"]["pushed"]) == (False, "registry", False)
    assert registry.has("team/digits", built["tag"]) == pushed["push"]["digest"]
    assert set(registry.tags("team/digits")) == {built["tag"], "cache", "cache-deps"}


def test_another_machine_takes_every_stage_from_the_registrys_cache(
    runctl: CommandLine,
    project: Path,
    engine: Engine,
    registry: Registry,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    where = f"{registry.address}/team/shared"
    build(runctl, "--registry", where, verb="build-push")
    # A socket's path is short.
    other = engines.start(tmp_path_factory.mktemp("b"), bridge=True)
    try:
        subprocess.run(
            ["docker", "load"],
            input=subprocess.run(
                ["docker", "save", BASE],
                env={**os.environ, "DOCKER_HOST": engine.host},
                capture_output=True,
                check=True,
            ).stdout,
            env={**os.environ, "DOCKER_HOST": other.host},
            capture_output=True,
            check=True,
        )
        elsewhere = CommandLine(project, {"DOCKER_HOST": other.host})
        (project / "train.py").write_text("print('other')\n")
        code = build(elsewhere, "--registry", where, verb="build-push")
        text = (project / "Dockerfile").read_text()
        (project / "Dockerfile").write_text(text.replace("echo $x", "echo again $x"))
        other.docker("image", "rm", code["reference"], f"runctl/digits:{code['tag']}")
        other.docker("builder", "prune", "--all", "--force")
        stage = build(elsewhere, "--registry", where)
    finally:
        engines.stop(other)

    assert (code["cache"]["built"], code["cache"]["cached"]) == (1, 4)
    assert code["cache"]["breaks"][0]["reason"] == "train.py changed"
    # What is only half of a cache does not take the place of a whole one.
    assert code["push"]["caches"] == []
    # The stage's first step is below what has changed, and in no layer of the last image.
    first = stage["cache"]["breaks"][0]
    assert (first["stage"], first["line"]) == ("deps", 3)


def test_a_registry_that_is_down_is_told_from_one_without_the_image(
    runctl: CommandLine, registry: Registry, engine: Engine
) -> None:
    build(runctl)
    registry.stop()
    try:
        done = runctl("docker", "build-push", "--registry", f"{registry.address}/x/y", "--output", "json")
    finally:
        registry.start()

    assert (done.code, done.error["code"]) == (7, "registry-unreachable")


def test_images_are_listed_and_the_old_ones_removed(
    runctl: CommandLine, project: Path, engine: Engine
) -> None:
    for number in range(3):
        (project / "train.py").write_text(f"print('list {number}')\n")
        build(runctl)
    listed = runctl("docker", "list", "--output", "json").ok().json
    engine.docker("create", "--name", "user", "--entrypoint", "/none", listed[1]["reference"])

    try:
        plan = runctl("docker", "prune", "--keep", 1, "--dry-run", "--output", "json").ok().json
        unasked = runctl("docker", "prune", "--keep", 1, "--output", "json")
        done = runctl("docker", "prune", "--keep", 1, "--yes", "--output", "json")
        left = runctl("docker", "list", "--output", "json").ok().json
    finally:
        engine.docker("rm", "user")

    assert [item["reference"] for item in plan["removed"]] == [entry["reference"] for entry in listed[1:]]
    assert (plan["dry_run"], plan["failed"]) == (True, [])
    assert unasked.error["code"] == "confirmation-needed"
    # One is in use by a container, and said so; the others are gone.
    assert (done.code, done.error["code"]) == (1, "image-in-use")
    assert [candidate["reference"] for candidate in done.json["failed"]] == [listed[1]["reference"]]
    assert [element["digest"] for element in left] == [listed[0]["digest"], listed[1]["digest"]]


def test_a_full_disk_is_named(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=220m", "tmpfs", folder], check=True)
    try:
        small = engines.start(folder, bridge=True)
        try:
            engines.python_image(small, BASE)
            (project / "Dockerfile").write_text(
                f"FROM {BASE}\nRUN python3 -c \"open('/x', 'wb').write(bytes(250 << 20))\"\n"
            )
            done = CommandLine(project, {"DOCKER_HOST": small.host})("docker", "build", "--output", "json")
            left = tags(small)
        finally:
            engines.stop(small)
    finally:
        subprocess.run(["umount", folder], check=True)

    assert (done.code, done.error["code"]) == (1, "disk-full"), f"{done}"
    assert left == [BASE]
