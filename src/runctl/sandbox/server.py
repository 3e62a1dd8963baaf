"""The sandbox's server process: moto's application, with machines and disks behind it. ``python -m
runctl.sandbox.server``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from runctl.sandbox import record
from runctl.sandbox.amis import AMIS, write_for_moto
from runctl.sandbox.api.admission import LOOPBACK, Admission, answer, has_token
from runctl.sandbox.api.gate import Gate
from runctl.sandbox.api.http_server import HttpServer, Start, Wsgi
from runctl.sandbox.ebs.disks import Disks
from runctl.sandbox.ecr.registry import Registry
from runctl.sandbox.folders.instance import FolderDisks
from runctl.sandbox.layout import Layout
from runctl.sandbox.machines.network import REGISTRY_PORT, Network
from runctl.sandbox.record import CONTROL
from runctl.sandbox.world import World, become

log = logging.getLogger("runctl.sandbox")
_BACKLOG = 256


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="The sandbox's server; runctl sandbox start starts it.")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--region", required=True)
    parser.add_argument("--kind", choices=["namespaces", "systemd", "folders"], required=True)
    parser.add_argument("--docker", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    log.setLevel(logging.INFO)
    serve(Layout(options.home), options.region, options.kind, docker=options.docker)
    return 0


def serve(layout: Layout, region: str, kind: str, *, docker: bool) -> None:
    """Make what machines need, listen, write down where, and serve."""
    for folder in (layout.machines, layout.volumes):
        folder.mkdir(mode=0o700, exist_ok=True)
    amis = layout.home / "amis.json"
    write_for_moto(amis)
    os.environ.update(
        {
            "MOTO_AMIS_PATH": str(amis),
            "MOTO_ENABLE_AMI_VALIDATION": "true",
            "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",
            "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
        }
    )
    from runctl.sandbox.ecr import backend as ecr

    network = None if kind == "folders" else Network(layout)
    if network is not None:
        network.make()
    disks = Disks(layout) if network is not None else FolderDisks(layout)
    world = World(layout, region, 0, network, docker, disks, systemd=kind == "systemd")
    become(world)
    # Nothing is answered before everything is ready.
    ready = threading.Event()
    hosts = LOOPBACK if network is None else (*LOOPBACK, network.gateway)
    apis = _Apis(Gate(_moto(world), world), world)
    gate = Admission(_once_ready(apis, ready), hosts)
    control = Admission(_once_ready(_Control(apis, world), ready), hosts)
    world.port = HttpServer(control, socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)).port
    if network is not None:
        # Machines must not use the sandbox's own requests.
        HttpServer(gate, socket.create_server((network.gateway, world.port), backlog=_BACKLOG))
    _install(world)
    registry = _registry(world) if docker and network is not None else None
    _say(layout, world, kind)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    ready.set()
    stopping.wait()

    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(world.forget_machine, list(world.machines)))
    if registry is not None:
        registry.stop()
    ecr.stop()
    os._exit(0)


def _moto(world: World) -> Wsgi:
    from moto import backends
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    from runctl.sandbox.prices.price_list import PriceListService
    from runctl.sandbox.quotas import QuotaService
    from runctl.sandbox.s3.bodies import ChunkedBodies
    from runctl.sandbox.s3.objects import ObjectReads
    from runctl.sandbox.s3.trouble import TroubledStore
    from runctl.sandbox.s3.writes import SerialWrites

    # moto looks them up on disk twice for every request, which takes a third of an answer's time.
    modules = tuple(backends.list_of_moto_modules())
    backends.list_of_moto_modules = lambda: iter(modules)
    name_services_quickly()
    objects = ObjectReads(ChunkedBodies(SerialWrites(DomainDispatcherApplication(create_backend_app))))
    application = TroubledStore(objects, lambda: world.faults.store)
    return PriceListService(QuotaService(application, lambda: world.faults.quotas))


def name_services_quickly() -> None:
    """With the first error of a service moto looks into the folders of all that botocore has, which takes a second."""
    import botocore
    from moto.core import utils

    folders = (Path(botocore.__file__).parent / "data").iterdir()
    names = {folder.name.replace("-", ""): folder.name for folder in folders}

    @cache
    def service_name(package: str) -> str:
        return names.get(package, package)

    utils.service_name_from_moto_package_name = service_name


def _install(world: World) -> None:
    """Put our back-ends in moto's place, then fill in what an account finds there."""
    from runctl.sandbox import ec2
    from runctl.sandbox.api import answer_fields, policy_documents
    from runctl.sandbox.autoscaling import api as autoscaling
    from runctl.sandbox.ebs import ebs_direct
    from runctl.sandbox.ec2 import instance_connect
    from runctl.sandbox.ecr import api as ecr
    from runctl.sandbox.metadata import service as metadata
    from runctl.sandbox.prices import bill, budgets, spot_prices
    from runctl.sandbox.s3 import bucket_tags
    from runctl.sandbox.ssm import api as ssm
    from runctl.sandbox.ssm.backend import set_public_parameter

    for module in (
        answer_fields,
        policy_documents,
        ec2,
        autoscaling,
        ebs_direct,
        ssm,
        instance_connect,
        spot_prices,
        bucket_tags,
        budgets,
    ):
        module.install()
    ec2.open_default_network()
    bill.install(world.meter)
    ecr.install(world)
    metadata.install(world)
    for image in AMIS:
        if image.parameter is not None:
            set_public_parameter(image.parameter, image.id)


def _registry(world: World) -> Registry:
    """The machines' registry, on their bridge."""
    assert world.network is not None  # noqa: S101 - the caller has looked
    registry = Registry(world.layout.registry, world.network.gateway, REGISTRY_PORT)
    registry.start()
    (world.home / "registry.port").write_text(str(REGISTRY_PORT))
    return registry


def _say(layout: Layout, world: World, kind: str) -> None:
    """The file by which others find this server; there only once it answers."""
    content = {
        "pid": os.getpid(),
        "port": world.port,
        "region": world.region,
        "kind": kind,
        "docker": world.docker,
        "gateway": world.network.gateway if world.network is not None else None,
        "keys": asdict(world.keys),
        "started_at": datetime.now(UTC).isoformat(),
    }
    record.write(layout, content)


class _Apis:
    """AWS's API, and those of other providers below paths of their own; each asks for keys itself."""

    def __init__(self, application: Wsgi, world: World) -> None:
        self._application = application
        # moto reads where its images are when it is imported, and these import it.
        from runctl.sandbox.lyceum import api as lyceum
        from runctl.sandbox.runpod import api as runpod

        self._others: Mapping[str, Wsgi] = {
            lyceum.PREFIX: lyceum.LyceumApi(world, world.keys.lyceum_key),
            runpod.PREFIX: runpod.RunPodApi(world, world.keys.runpod_key),
        }

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        other = self._others.get(f"/{path[1:].partition('/')[0]}")
        return (other or self._application)(environ, start)


class _Control:
    """Answers what tests and ``sandbox status`` ask of the sandbox itself, with its token; the rest is a provider's."""

    def __init__(self, application: Wsgi, world: World) -> None:
        self._application = application
        self._world = world

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if not path.startswith(CONTROL):
            return self._application(environ, start)
        if not has_token(environ, self._world.keys.control_token):
            return answer(start, "403 Forbidden", {"error": "this needs the token of the sandbox"})
        length = int(environ.get("CONTENT_LENGTH") or 0)
        try:
            parameters = json.loads(environ["wsgi.input"].read(length) or b"{}")
            return answer(start, "200 OK", self._do(path[len(CONTROL) :], parameters))
        except KeyError as error:
            said = dict(zip(("error", "hint"), map(str, error.args), strict=False))
            return answer(start, "404 Not Found", said)
        except Exception as error:
            log.exception("%s", path)
            return answer(start, "400 Bad Request", {"error": str(error)})

    def _do(self, verb: str, parameters: dict[str, Any]) -> Any:
        from runctl.sandbox.faults import apply

        if verb == "status":
            return {"machines": sorted(self._world.machines), "pid": os.getpid()}
        return apply(self._world, verb, parameters)


def _once_ready(application: Wsgi, ready: threading.Event) -> Wsgi:
    def wait(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        ready.wait()
        return application(environ, start)

    return wait


if __name__ == "__main__":
    sys.exit(main())
