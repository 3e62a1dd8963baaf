"""The phases of an attempt in a container: its image, its container, its output and its end."""

from __future__ import annotations

from runctl.agent.containers import container_code, container_folder, container_plan, docker, docker_root
from runctl.agent.containers.container_made import make_plan
from runctl.agent.containers.container_run import run_to_end
from runctl.agent.disks import places
from runctl.agent.errors import AgentError
from runctl.agent.images import dev_image
from runctl.agent.images.image import ready_image
from runctl.agent.machine.root import login_user
from runctl.agent.spec import EndReason
from runctl.agent.supervising.attempt import Attempt, Outcome


def run_in_container(attempt: Attempt) -> Outcome:
    """Make the image and the container, run it to its end, and remove the container."""
    spec = attempt.spec
    assert spec.container is not None  # noqa: S101 (the supervisor has looked)
    docker_root.use_instance_store(attempt)
    engine = docker.connect()
    places.make(attempt.where)
    (attempt.folder.path / "home").mkdir(exist_ok=True)
    image = _image(attempt, engine)
    attempt.update(image=image)
    if spec.container.build is not None and spec.container.build.only:
        return Outcome(EndReason.COMPLETED, f"the image {image} is on the machine", exit_code=0)
    facts, why = engine.inspect("image", image)
    if facts is None:
        raise AgentError(
            "image-failed", "the image {} cannot be inspected: {}".format(image, why or "it is gone")
        )
    attempt.update(image_digest=docker.digest_of(facts))
    code = container_code.place_code(attempt, engine, image)
    plan = make_plan(attempt, engine, image, facts.get("Config") or {}, code)
    places.make_inner_targets(
        spec.mounts, attempt.folder.work if plan.mount_code else None, plan.container.workdir
    )
    if plan.user != docker.owner():
        places.open_to_others(attempt.where)
    container_id = _create(attempt, engine, plan)
    attempt.update(container_id=container_id)
    workdir = plan.container.workdir
    try:
        container_folder.give_to_user(attempt, engine, container_id, plan.user, workdir)
        if code.place is container_code.Place.OVER:
            user = login_user()
            container_code.put_over(attempt, engine, container_id, workdir, (user.uid, user.gid))
        attempt.check()
        outcome = run_to_end(attempt, engine, container_id)
        if code.place is container_code.Place.IMAGE:
            container_folder.tell_written(attempt, engine, container_id, workdir)
        return outcome
    finally:
        engine.call("rm", "--force", "--volumes", container_id)
        if plan.user != docker.owner():
            places.give_to_user(attempt.where)


def _image(attempt: Attempt, engine: docker.Engine) -> str:
    reused = dev_image.reusable(attempt, engine)
    if reused is not None:
        return reused
    image = ready_image(attempt, engine)
    dev_image.remember(attempt, image)
    return image


def _create(attempt: Attempt, engine: docker.Engine, plan: container_plan.Plan) -> str:
    attempt.update(phase="creating the container")
    name = container_plan.name(plan.spec)
    env = container_plan.environment(plan)
    done = engine.call_with_secrets(container_plan.create(plan, sorted(env)), env)
    if done.returncode != 0:
        said = docker.words(done.stderr)
        raise AgentError("image-failed", f"the container {name} cannot be made: {said}")
    gpus = {"": "", "all": ", with all GPUs"}.get(plan.gpus, f", with {plan.gpus} GPUs")
    attempt.log.line(
        "container {} as {}{}".format(name, "user " + plan.user if plan.user else "the image's user", gpus)
    )
    return docker.words(done.stdout).splitlines()[-1]
