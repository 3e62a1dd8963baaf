"""The phases of an attempt on the host: its own copy of the project, its environment, its script."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from runctl.agent.disks import mountns, places
from runctl.agent.disks.mount_watch import disk_name
from runctl.agent.environments import environment, script
from runctl.agent.machine import processes
from runctl.agent.machine import root as machine
from runctl.agent.spec import EndReason, RunState
from runctl.agent.supervising import end_reason as ending
from runctl.agent.supervising.attempt import Attempt, Outcome
from runctl.agent.supervising.children import FADE_SECONDS, LEFTOVER_SECONDS, Ended, cpu_seconds
from runctl.agent.supervising.log import says_no_space, says_read_only
from runctl.agent.supervising.shutdown import Shutdown
from runctl.agent.trees.verbs import copy_tree


def copy_project(attempt: Attempt) -> None:
    """The run has a copy of the project to itself: syncs and other runs change nothing under it.

    Raises `AgentError`, ``disk-full`` among others.
    """
    digest = attempt.live.tree
    if digest is None:
        attempt.folder.work.mkdir(exist_ok=True)
        return
    attempt.update(phase="copying the project")
    copy_tree(str(attempt.state), attempt.spec.project, digest, str(attempt.folder.work))
    attempt.check()


def run_on_host(attempt: Attempt) -> Outcome:
    """Set up, run the script to its end, and leave no process behind."""
    spec, folder = attempt.spec, attempt.folder
    places.make(attempt.where)
    links = mountns.show_in_folder(mountns.to_bind(spec)) if machine.folder_root() is not None else []
    try:
        if spec.builtin:
            return _run_builtin(attempt)
        copy_project(attempt)
        path = None if spec.is_command else script.checked_path(folder.work, spec.script)
        cwd = script.folder(spec, folder.work)
        login = script.login_environment(machine.login_user(), attempt.own_environment())
        needs_python = script.uses_python(spec) or spec.dependencies.kind != "none"
        builder = environment.VenvBuilder(
            env=login,
            work=folder.work,
            target=folder.path / "env",
            state=attempt.state,
            run=attempt.run_step,
            # Which Python there is says nothing of a shell script that needs none.
            say=attempt.log.line if needs_python else lambda _: None,
            asked_env=spec.env,
        )
        ready = environment.prepare(spec.dependencies, builder)
        calls_uv = script.calls_uv(spec, path)
        if calls_uv:
            environment.provide_uv(builder)
        attempt.check()
        attempt.volumes.check_start()
        if path is None:
            argv = [spec.script, *spec.args]
        else:
            shown = spec.script if cwd == folder.work else str(path)
            argv = script.command(path, shown, spec, ready.python)
        env = script.environment(login, places.variables(spec, attempt.where), spec, ready.bin_folder)
        if calls_uv:
            env = {**environment.TRUST_THE_MACHINE, **env}
        env["PATH"] = os.pathsep.join(
            [env.get("PATH", script.DEFAULT_PATH), *environment.folders_of_uv(builder)]
        )
        env.update(attempt.marks())
        return run_script(attempt, argv, env, cwd)
    finally:
        for link in links:
            link.unlink(missing_ok=True)


def _run_builtin(attempt: Attempt) -> Outcome:
    """A program of the agent's own, by the Python that runs the agent."""
    spec, work = attempt.spec, attempt.folder.work
    work.mkdir(exist_ok=True)
    attempt.check()
    attempt.volumes.check_start()
    login = script.login_environment(machine.login_user(), attempt.own_environment())
    env = script.environment(login, places.variables(spec, attempt.where), spec, None)
    return run_script(
        attempt, [*machine.agent_command(), spec.script, *spec.args], {**env, **attempt.marks()}, work
    )


def run_script(attempt: Attempt, argv: Sequence[str], env: dict[str, str], cwd: Path) -> Outcome:
    """Run it, end what it leaves behind, and say how it ended."""
    spec = attempt.spec
    before, cpu_before = ending.oom_counters(), cpu_seconds()
    since = attempt.log.size()
    try:
        attempt.collector.start()
        output = attempt.collector.writer()
        try:
            pid = attempt.children.start(argv, output=output, env=env, cwd=cwd, sacrifice=True)
        finally:
            os.close(output)
    except OSError as error:
        return cannot_start(argv[0], cwd, error)
    attempt.script_began()
    attempt.update(
        state=RunState.RUNNING,
        phase="running",
        started_at=time.time(),
        script=processes.identity(pid),
        follower=attempt.collector.identity(),
    )
    shutdown = Shutdown()
    ended = attempt.children.wait(pid, attempt.ending, shutdown)
    wish = attempt.ending() if ended.asked else None
    grace = min(spec.grace_seconds, LEFTOVER_SECONDS)
    if wish is not None:
        # What the script started may still be saving: it has the rest of the grace.
        grace = max(0.0, wish.began + wish.grace - time.monotonic())
    leftover = attempt.children.end_all(grace, told=shutdown.told, fade=FADE_SECONDS)
    attempt.collector.finish()
    if leftover:
        names = ", ".join(sorted({one.name for one in leftover}))
        attempt.log.line(f"ended {len(leftover)} process(es) that outlived the script: {names}")
    return conclude(attempt, ended, since, before, cpu_seconds() - cpu_before)


def cannot_start(program: str, cwd: Path, error: OSError) -> Outcome:
    """The end of a script whose program cannot be started: with the exit code that a shell would give."""
    is_there = "/" in program and (cwd / program).exists()
    if isinstance(error, FileNotFoundError) and is_there:
        said = f"{program} is there, but not the program that its #! line names"
    elif isinstance(error, FileNotFoundError):
        said = f"there is no program {program} on the machine"
    else:
        said = f"{program} cannot be started: {error.strerror or error}"
    return Outcome(EndReason.FAILED, said, 127 if isinstance(error, FileNotFoundError) else 126)


def conclude(attempt: Attempt, ended: Ended, since: int, before: tuple[int, int], cpu: float) -> Outcome:
    """Look for evidence and decide why the script ended."""
    after = ending.oom_counters()
    request = attempt.request if ended.asked else None
    spoken, last = says_no_space(attempt.log.tail(since))
    folders = [
        attempt.folder.path,
        attempt.where.checkpoints,
        attempt.where.output,
        Path(tempfile.gettempdir()),
    ]
    troubles = attempt.volumes.at_the_end()
    lost = next((one for one in troubles if one.lost), None)
    full = ending.full_folder([*folders, *_writable_mounts(attempt)])
    facts = ending.Facts(
        exit_code=ended.exit_code,
        signal=ended.signal,
        asked=request.reason if request is not None else None,
        asked_message=request.message if request is not None else "",
        killed=ended.killed,
        oom_kills=after[0] - before[0],
        machine_oom_kills=after[1] - before[1],
        says_no_space=spoken or attempt.log.disk_full,
        ends_with_no_space=last,
        disk_full=disk_name(full, attempt.spec.mounts) if full else None,
        volume_lost=lost.words if lost else None,
        lost_writable=any(one.lost and not one.mount.read_only for one in troubles),
        volume_read_only=next((one.words for one in troubles if not one.lost), None),
        says_read_only=says_read_only(attempt.log.tail(since)),
    )
    reason, message = ending.decide_end(facts)
    return Outcome(reason, message, ended.exit_code, ended.signal, ended.max_rss_bytes, round(cpu, 3))


def _writable_mounts(attempt: Attempt) -> list[Path]:
    found = []
    with contextlib.suppress(OSError):
        found = [machine.on_machine(m.source) for m in attempt.spec.mounts if not m.read_only]
    return found
