"""RunPod's HTTP API, below ``/runpod`` of the sandbox's address."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from runctl.sandbox.api.rest import Refused, Reply, RestApi
from runctl.sandbox.ec2.launch import machine_environment
from runctl.sandbox.ecr.backend import serve_machine
from runctl.sandbox.machines.network import REGISTRY_PORT
from runctl.sandbox.runpod.account import Account, Behaviour
from runctl.sandbox.runpod.pods import SandboxPod
from runctl.sandbox.runpod.runtimes import PodHost
from runctl.sandbox.world import NO_SSH, World

PREFIX = "/runpod"
_MOST = 1000


class RunPodApi(RestApi):
    """The WSGI application."""

    prefix = PREFIX
    routes = Map(
        [
            Rule("/pods", methods=["GET"], endpoint="list"),
            Rule("/pods", methods=["POST"], endpoint="create"),
            Rule("/pods/<pod_id>", methods=["GET"], endpoint="pod"),
            Rule("/pods/<pod_id>", methods=["DELETE"], endpoint="delete"),
            Rule("/pods/<pod_id>/action", methods=["POST"], endpoint="act"),
            Rule("/network-volumes", methods=["GET"], endpoint="volumes"),
            Rule("/network-volumes", methods=["POST"], endpoint="create_volume"),
            Rule("/network-volumes/<volume_id>", methods=["GET"], endpoint="volume"),
            Rule("/network-volumes/<volume_id>", methods=["PATCH"], endpoint="change_volume"),
            Rule("/network-volumes/<volume_id>", methods=["DELETE"], endpoint="delete_volume"),
            Rule("/billing/pods", methods=["GET"], endpoint="bill"),
            Rule("/billing/network-volumes", methods=["GET"], endpoint="volume_bill"),
            Rule("/registries", methods=["GET"], endpoint="registries"),
            Rule("/registries", methods=["POST"], endpoint="add_registry"),
            Rule("/registries/<login_id>", methods=["DELETE"], endpoint="delete_registry"),
            Rule("/graphql", methods=["POST"], endpoint="graphql"),
            Rule("/catalog/gpus", methods=["GET"], endpoint="gpus"),
            Rule("/catalog/datacenters", methods=["GET"], endpoint="data_centres"),
        ]
    )

    def __init__(self, world: World, key: str) -> None:
        super().__init__(key)
        self._world = world
        if world.docker and world.network is not None:
            world.runpod.host = PodHost(world, world.home / "runpod-volumes", self._stand_in, serve_machine)

    def _stand_in(self) -> str:
        """The name of the image that stands for RunPod's own; it is in the registry that pods pull from."""
        from runctl.sandbox.ecr.registry import Registry
        from runctl.sandbox.machines import images

        network = self._world.network
        assert network is not None  # noqa: S101 - only machines with a network have Docker
        registry = Registry(self._world.layout.registry, network.gateway, REGISTRY_PORT)
        images.provide(registry, recipes=[images.POD])
        return f"{images.POD.repository}:{images.POD.tags[0]}"

    @property
    def _account(self) -> Account:
        return self._world.runpod

    @property
    def behaviour(self) -> Behaviour:
        """See `RestApi`."""
        return self._account.behaviour

    def problem(self, status: int, title: str, refused: Refused | None) -> Mapping[str, Any]:
        """By RFC 9457 (§10)."""
        said = {"detail": refused.detail, "errors": list(refused.errors)} if refused is not None else {}
        return {"title": title, "status": status, **said}

    def respond(self, request: Request) -> Response:
        """With the number of the request; the network in front of the API refuses clients without a name (§2)."""
        agent = request.headers.get("User-Agent")
        if not agent or agent.startswith("Python-urllib"):
            return Response("error code: 1010", 403)
        response = super().respond(request)
        response.headers["x-request-id"] = secrets.token_hex(8)
        return response

    def _list(self, request: Request) -> Any:
        # A cursor is opaque; here it is the number of the first pod (§3).
        first = int(request.args.get("cursor", "0"))
        size = min(int(request.args.get("limit", str(_MOST))), _MOST, self.behaviour.page_size)
        pods = self._account.visible()
        if self.behaviour.unpaged:
            return {"pods": [self._shown(pod) for pod in pods]}
        more = len(pods) > first + size
        return {
            "pods": [self._shown(pod) for pod in pods[first : first + size]],
            "pagination": {"nextCursor": str(first + size) if more else None, "hasNextPage": more},
        }

    def _shown(self, pod: SandboxPod) -> dict[str, Any]:
        return pod.shown(empty_runtime=self.behaviour.empty_runtime)

    def _create(self, request: Request) -> Reply:
        if self._world.network is None:
            raise Refused(400, NO_SSH)
        world = self._world
        pod = self._account.create(
            world,
            request.get_json(force=True),
            machine_environment(world),
            f"{world.endpoint_in_machines}{PREFIX}",
        )
        return Reply(201, self._shown(pod))

    def _pod(self, _request: Request, pod_id: str) -> Any:
        return self._shown(self._account.find(pod_id))

    def _delete(self, _request: Request, pod_id: str) -> Reply:
        self._account.act(pod_id, "terminate")
        return Reply(204)

    def _act(self, request: Request, pod_id: str) -> Any:
        return self._shown(self._account.act(pod_id, str(request.get_json(force=True)["action"])))

    def _volumes(self, _request: Request) -> Any:
        return {"networkVolumes": [each.shown() for each in self._account.volumes.listed()]}

    def _create_volume(self, request: Request) -> Reply:
        return Reply(201, self._account.volumes.create(request.get_json(force=True)).shown())

    def _volume(self, _request: Request, volume_id: str) -> Any:
        return self._account.volumes.find(volume_id).shown()

    def _change_volume(self, request: Request, volume_id: str) -> Any:
        return self._account.volumes.change(volume_id, request.get_json(force=True)).shown()

    def _delete_volume(self, _request: Request, volume_id: str) -> Reply:
        self._account.volumes.delete(volume_id)
        return Reply(204)

    def _bill(self, request: Request) -> Any:
        since, until = (
            datetime.fromisoformat(request.args[name]).astimezone(UTC) for name in ("startTime", "endTime")
        )
        records = self._account.bill(since, until)
        return {"records": records, "metadata": {"recordCount": len(records)}}

    def _volume_bill(self, _request: Request) -> Any:
        # Billed by the hour, and a sandbox is not that old.
        return {"records": [], "metadata": {"recordCount": 0}}

    def _registries(self, _request: Request) -> Any:
        logins = self._account.logins.values()
        return {"registries": [{"id": each.login_id, "name": each.name} for each in logins]}

    def _add_registry(self, request: Request) -> Reply:
        created = self._account.add_login(request.get_json(force=True))
        return Reply(201, {"id": created.login_id, "name": created.name})

    def _delete_registry(self, _request: Request, login_id: str) -> Reply:
        self._account.remove_login(login_id)
        return Reply(204)

    def check_key(self, key: str, endpoint: str, values: Mapping[str, Any]) -> None:
        """The account's own may do all; that in a pod may end this pod, as far as that is so (§7)."""
        pod = next((each for each in self._account.visible() if hmac.compare_digest(each.key, key)), None)
        if pod is None:
            super().check_key(key, endpoint, values)
            return
        if endpoint == "graphql":
            return
        if endpoint != "delete" or values["pod_id"] != pod.pod_id or self.behaviour.pod_key != "rest":
            raise Refused(403, "access denied")

    def _graphql(self, request: Request) -> Any:
        # What the newer API has nothing for (§1), by status 200 also where it is refused (§10).
        query = str(request.get_json(force=True).get("query"))
        ended = re.search(r'podTerminate\(input:\s*\{\s*podId:\s*"([a-z0-9]+)"', query)
        if ended:
            key = request.headers.get("Authorization", "").removeprefix("Bearer ")
            pod = next((each for each in self._account.visible() if each.pod_id == ended[1]), None)
            mine = pod is not None and hmac.compare_digest(pod.key, key)
            if pod is None or (mine and self.behaviour.pod_key == "none"):
                return {"errors": [{"message": "Unauthorized"}]}
            self._account.act(pod.pod_id, "terminate")
            return {"data": {"podTerminate": None}}
        if self.behaviour.balance_untold:
            raise Refused(410, "Gone")
        if "myself" not in query or "clientBalance" not in query:
            return {"errors": [{"message": "not known here"}]}
        return {"data": {"myself": self._account.funds()}}

    def _gpus(self, request: Request) -> Any:
        if request.args.get("include") and not request.args.get("product"):
            raise Refused(400, "include needs product")
        return {"gpus": self._account.catalogue()}

    def _data_centres(self, _request: Request) -> Any:
        return {"dataCenters": self._account.volumes.data_centres()}
