"""What ``launch --unattended`` can do, and what it refuses with the reason, before anything is looked up. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from runctl._dataclasses import dataclass
from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.object_store import is_address
from runctl.agent.spec import RunSpec
from runctl.core.errors import Unsupported, UsageError
from runctl.core.ids import RunId, run_id_of
from runctl.core.machine_models import Market
from runctl.machines.nodes import NodesWanted
from runctl.providers.capacity import FallbackMode
from runctl.providers.instance_plans import InstanceRequest
from runctl.runs.launch.launch_plan import AfterRun, checked_address
from runctl.runs.train.project_plan import TrainRequest

RESULTS = "results"
"""Below the store's address: where results go that are to go nowhere else."""
NO_STORE_HINT = "--checkpoint-s3 s3://bucket/prefix: what the next machine needs lies there"


@dataclass(frozen=True)
class GroupIdentity:
    """What makes the same command the same again, so that it finishes what an earlier call has begun."""

    machine: InstanceRequest
    script: str
    args: tuple[str, ...]
    name: str | None
    project: str | None
    store: str
    folder: str
    nodes: NodesWanted | None = None


def identity_of(
    machine: InstanceRequest, train: TrainRequest, store: StoreSpec, nodes: NodesWanted | None = None
) -> GroupIdentity:
    """Of a launch. Pure."""
    return GroupIdentity(
        machine,
        str(train.script),
        train.args,
        train.name,
        machine.project,
        store.url,
        str(train.cwd),
        nodes,
    )


def run_of(token: str) -> RunId:
    """The run that an intent's token stands for: the same command means the same run. Pure."""
    return run_id_of(hashlib.sha256(token.encode()).digest())


def checked_store(train: TrainRequest) -> StoreSpec:
    """Where everything that the next machine needs lies. Raises `UsageError`, `Unsupported`."""
    store = train.keeping.store()
    if store is None or not is_address(store.url):
        raise UsageError("--unattended needs an object store", hint=NO_STORE_HINT)
    if store.endpoint:
        raise Unsupported(
            f"--unattended works with the provider's own object store only, not with {store.endpoint}: a machine that"
            " nobody watches has rights there, and no keys",
            hint="leave --checkpoint-endpoint out",
        )
    return store


def check_request(train: TrainRequest, after: AfterRun, machine: InstanceRequest) -> None:
    """Raises `UsageError`, `Unsupported` for what needs somebody who watches."""
    if after.keep:
        raise UsageError(
            "--keep leaves a machine to whoever watches it, and --unattended means that nobody does",
            hint="--keep-on-failure 1h leaves it for a while if the run does not complete",
        )
    if machine.market is Market.SPOT and machine.fallback.mode is FallbackMode.ON_DEMAND:
        raise Unsupported(
            "a group of spot machines does not change to on-demand: --spot-fallback has no effect with --unattended",
            hint="leave it out; without --spot the group rents on demand",
        )
    if after.results is not None and not is_address(after.results):
        raise UsageError(
            f"--results {after.results}: nobody is there to bring results to a folder",
            hint="leave it out; runctl runs results RUN brings them when you are back, or --results s3://…",
        )
    if machine.data_volume_size_gib is not None:
        raise Unsupported(
            "--data-volume-size is a disk that ends with each machine, and the next one knows nothing of it",
            hint="--ebs-volume keeps data from one machine to the next; --root-volume-size is room on each",
        )
    if train.sync_code is False:
        raise Unsupported(
            "--no-sync-code uses the project that a machine has, and a new one has none", hint="leave it out"
        )


def check_nodes(nodes: NodesWanted, *, moves: bool) -> None:
    """Raises `UsageError`, `Unsupported` for what a group of several does not do; ``moves``: the run has a deadline."""
    if nodes.least != nodes.most:
        raise Unsupported(
            f"--nodes {nodes.text}: a group keeps one number of machines, and a run in it has as many",
            hint=f"--nodes {nodes.least}, or leave out --unattended",
        )
    if moves:
        raise Unsupported(
            "--deadline with --unattended changes to one machine on demand at the last moment, and not to several",
            hint="leave out --unattended: whoever watches the run moves all of its machines",
        )
    if nodes.most < 2:
        raise UsageError(
            "--unattended with one machine needs no engine", hint="leave out --nodes and --engine"
        )


def shared_by(machine: InstanceRequest, count: int) -> InstanceRequest:
    """What each of so many machines is rented by: a budget pays for all of them together.

    Raises `Unsupported` for volumes that each would have to have.
    """
    if machine.volumes:
        raise Unsupported(
            f"{machine.volumes[0].volume} can be on one machine of a group only: who rents several makes a copy of a"
            " volume for each, and a group rents with nobody there",
            hint="read the data from s3://, put it into the image, or leave out --unattended",
        )
    return replace(machine, budget=None if machine.budget is None else machine.budget / count)


def check_settled(spec: RunSpec, *, needs_login: bool) -> None:
    """Raises `Unsupported` for an image that only somebody who is there could bring to the machine."""
    build = spec.container.build if spec.container is not None else None
    if build is not None and build.secrets:
        raise Unsupported(
            "the image is built with secrets, which are not put into the store",
            hint="push the image to a registry and name it: --image",
        )
    if needs_login:
        raise Unsupported(
            "the image's registry asks for a login, and a machine that nobody watches has none",
            hint="push it to the registry of the provider, account and region of the machine, build it on the machine"
            " (--build-on instance, without a registry), or use a public image",
        )


def results_address(after: AfterRun, store: StoreSpec) -> str | None:
    """Where the machine puts the results. Raises `UsageError`. Pure."""
    if not after.bring_results:
        return None
    return checked_address(after.results) if after.results is not None else f"{store.url}/{RESULTS}"
