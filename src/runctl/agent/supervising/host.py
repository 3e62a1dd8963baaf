"""The phases of an attempt on the host: its own copy of the project, its environment, its script."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from runctl.agent.attempt import distributed
from runctl.agent.attempt.attempt import Attempt, Outcome
from runctl.agent.attempt.children import FADE_SECONDS, LEFTOVER_SECONDS, cpu_seconds
from runctl.agent.attempt.evidence import conclude, oom_counters
from runctl.agent.disks import mountns, run_folders
from runctl.agent.end_reason import EndReason
from runctl.agent.environments import environment, script
from runctl.agent.machine import processes
from runctl.agent.machine import root as machine
from runctl.agent.machine.shutdown import ProcessStopper
from runctl.agent.spec import DependencyKind, RunSpec, RunState
from runctl.agent.trees.verbs import copy_tree


def copy_project(attempt: Attempt) -> None:
    """The run has a copy of the project to itself: syncs and other runs change nothing under it.

    Raises `AgentError`, ``disk-full`` among others.
    """
    if attempt.round:
        # It has begun before.
        return
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
    run_folders.make(attempt.folders)
    links = mountns.show_in_folder(mountns.to_bind(spec)) if machine.folder_root() is not None else []
    try:
        if spec.builtin:
            return _run_builtin(attempt)
        copy_project(attempt)
        path = None if spec.is_command else script.checked_path(folder.work, spec.script)
        cwd = script.folder(spec, folder.work)
        login = script.login_environment(machine.login_user(), attempt.own_environment())
        needs_python = script.uses_python(spec) or spec.dependencies.kind is not DependencyKind.NONE
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
        if attempt.environment is None:
            attempt.environment = environment.prepare(spec.dependencies, builder)
        ready = attempt.environment
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
        host = distributed.describe_host(spec.node) if spec.node is not None else None
        start = distributed.script_start(spec.node, host, argv, ready.python)
        contract = {
            **run_folders.variables(spec, attempt.folders),
            **distributed.variables(start),
            **attempt.contract(),
        }
        env = script.environment(login, contract, spec, ready.bin_folder)
        _check_engine(spec, ready.python, env)
        if start is not None:
            argv = distributed.command(start)
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


def _check_engine(spec: RunSpec, python: str, env: Mapping[str, str]) -> None:
    """The engine's package is there. Raises `AgentError` (``setup-failed``)."""
    module = distributed.needed_module(spec.node)
    if spec.node is None or module is None:
        return
    argv = [python, "-c", distributed.HAS_MODULE, module]
    done = subprocess.run(argv, env=dict(env), capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise distributed.module_is_missing(spec.node, "the run's environment")


def _run_builtin(attempt: Attempt) -> Outcome:
    """A program of the agent's own, by the Python that runs the agent."""
    spec, work = attempt.spec, attempt.folder.work
    work.mkdir(exist_ok=True)
    attempt.check()
    attempt.volumes.check_start()
    login = script.login_environment(machine.login_user(), attempt.own_environment())
    env = script.environment(login, run_folders.variables(spec, attempt.folders), spec, None)
    return run_script(
        attempt, [*machine.agent_command(), spec.script, *spec.args], {**env, **attempt.marks()}, work
    )


def run_script(attempt: Attempt, argv: Sequence[str], env: dict[str, str], cwd: Path) -> Outcome:
    """Run it, end what it leaves behind, and say how it ended."""
    attempt.wait_for_nodes()
    spec = attempt.spec
    before, cpu_before = oom_counters(), cpu_seconds()
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
        started_at=attempt.live.started_at or time.time(),
        script=processes.identity(pid),
        follower=attempt.collector.identity(),
    )
    stopper = ProcessStopper()
    exited = attempt.children.wait(pid, attempt.shutdown, stopper)
    attempt.script_ended(stopper.told_at)
    shutdown = attempt.shutdown() if exited.stop_requested else None
    grace = min(spec.grace_seconds, LEFTOVER_SECONDS)
    if shutdown is not None:
        # What the script started may still be saving: it has the rest of the grace.
        grace = max(0.0, shutdown.began + shutdown.grace - time.monotonic())
        if attempt.live.machine_ends_at is not None:
            # Of the time until a machine's end, what follows needs its share.
            grace = min(grace, spec.grace_seconds)
    leftover = attempt.children.end_all(grace, told=stopper.told, fade=FADE_SECONDS)
    attempt.collector.finish()
    if leftover:
        names = ", ".join(sorted({process.name for process in leftover}))
        attempt.log.line(f"ended {len(leftover)} process(es) that outlived the script: {names}")
    return conclude(attempt, exited, since, before, cpu_seconds() - cpu_before)


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
