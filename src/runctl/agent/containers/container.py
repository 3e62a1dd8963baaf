"""The phases of an attempt in a container: its image, its container, its output and its end."""

from __future__ import annotations

from runctl.agent.attempt import distributed
from runctl.agent.attempt.attempt import Attempt, Outcome
from runctl.agent.containers import container_code, container_folder, container_plan, docker_root
from runctl.agent.containers.container_run import run_to_end
from runctl.agent.disks import run_folders
from runctl.agent.end_reason import EndReason
from runctl.agent.errors import AgentError
from runctl.agent.images.image import ready_image
from runctl.agent.machine import docker
from runctl.agent.machine.root import login_user
from runctl.agent.spec import ContainerSpec


def run_in_container(attempt: Attempt, container: ContainerSpec) -> Outcome:
    """Make the image and the container, run it to its end, and remove the container."""
    docker_root.use_instance_store(attempt)
    engine = docker.connect()
    run_folders.make(attempt.folders)
    (attempt.folder.path / "home").mkdir(exist_ok=True)
    # What was entrusted for the image is gone by the second time, and all machines go on with what they had.
    image = (attempt.live.image if attempt.is_restart else None) or ready_image(attempt, engine, container)
    attempt.update(image=image)
    if container.build is not None and container.build.only:
        return Outcome(EndReason.COMPLETED, f"the image {image} is on the machine", exit_code=0)
    facts, why = engine.inspect("image", image)
    if facts is None:
        raise AgentError("image-failed", f"the image {image} cannot be inspected: {why or 'it is gone'}")
    attempt.update(image_digest=docker.digest_of(facts))
    _check_engine(attempt, engine, container, image)
    code = container_code.decide_for_image(attempt, engine, container, image)
    plan = container_plan.make_plan(attempt, engine, container, image, facts.get("Config") or {}, code)
    run_folders.make_inner_targets(
        attempt.spec.mounts, attempt.folder.work if plan.mount_code else None, container.workdir
    )
    if plan.user != docker.owner():
        run_folders.open_to_others(attempt.folders)
    container_id = _create(attempt, engine, plan)
    attempt.update(container_id=container_id)
    try:
        container_folder.give_to_user(attempt, engine, container_id, plan.user, container.workdir)
        if code.source is container_code.CodeSource.OVERLAID:
            user = login_user()
            owner = (user.uid, user.gid)
            container_code.put_over(attempt, engine, container_id, container.workdir, owner)
        attempt.check()
        outcome = run_to_end(attempt, engine, container, container_id)
        if code.source is container_code.CodeSource.IMAGE:
            container_folder.report_written(attempt, engine, container_id, container.workdir)
        return outcome
    finally:
        engine.call("rm", "--force", "--volumes", container_id)
        if plan.user != docker.owner():
            run_folders.give_to_user(attempt.folders)


def _check_engine(attempt: Attempt, engine: docker.Engine, container: ContainerSpec, image: str) -> None:
    """The package of the run's engine is in the image. Raises `AgentError` (``setup-failed``)."""
    node, module = attempt.spec.node, distributed.needed_module(attempt.spec.node)
    if node is None or module is None:
        return
    program = ("-c", distributed.HAS_MODULE, module)
    done = engine.call(
        *("run", "--rm", "--network", "none"), *("--entrypoint", container.python, image), *program
    )
    if done.returncode:
        raise distributed.module_is_missing(node, f"the image {image}")


def _create(attempt: Attempt, engine: docker.Engine, plan: container_plan.Plan) -> str:
    attempt.update(phase="creating the container")
    name = container_plan.name(plan.spec)
    env = container_plan.environment(plan)
    done = engine.call_with_secrets(container_plan.create(plan, sorted(env)), env)
    if done.returncode != 0:
        reason = docker.text(done.stderr)
        raise AgentError("image-failed", f"the container {name} cannot be created: {reason}")
    user = f"user {plan.user}" if plan.user else "the image's user"
    gpus = {"": "", "all": ", with all GPUs"}.get(plan.gpus, f", with {plan.gpus} GPUs")
    attempt.log.line(f"container {name} as {user}{gpus}")
    return docker.text(done.stdout).splitlines()[-1]
