"""RunPod's HTTP API, below ``/runpod`` of the sandbox's address."""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Iterable
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from runctl.sandbox.api.http_server import Start
from runctl.sandbox.ec2.launch import machine_environment
from runctl.sandbox.runpod.account import Account, Refused
from runctl.sandbox.world import NO_SSH, World

PREFIX = "/runpod"
_RULES = Map(
    [
        Rule("/pods", methods=["GET"], endpoint="list"),
        Rule("/pods", methods=["POST"], endpoint="create"),
        Rule("/pods/<pod_id>", methods=["GET"], endpoint="pod"),
        Rule("/pods/<pod_id>", methods=["DELETE"], endpoint="delete"),
        Rule("/pods/<pod_id>/action", methods=["POST"], endpoint="act"),
        Rule("/catalog/gpus", methods=["GET"], endpoint="gpus"),
    ]
)
_MOST = 1000


class RunPodApi:
    """The WSGI application."""

    def __init__(self, world: World, key: str) -> None:
        self._world = world
        self._key = key

    @property
    def _account(self) -> Account:
        return self._world.runpod

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """One request."""
        environ = {**environ, "PATH_INFO": environ.get("PATH_INFO", "").removeprefix(PREFIX)}
        request = Request(environ)
        if not request.headers.get("User-Agent") or request.headers["User-Agent"].startswith("Python-urllib"):
            # The network in front of the API refuses such clients (§2).
            return Response("error code: 1010", 403)(environ, start)
        try:
            value, status = self._do(request)
        except Refused as refused:
            problem = {"title": "Refused", "status": refused.status, "detail": refused.detail}
            value, status = {**problem, "errors": list(refused.errors)}, refused.status
        except HTTPException as error:
            value, status = {"title": error.name, "status": error.code}, error.code or 500
        response = Response(
            "" if value is None else json.dumps(value), status, content_type="application/json"
        )
        response.headers["x-request-id"] = secrets.token_hex(8)
        return response(environ, start)

    def _do(self, request: Request) -> tuple[Any, int]:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self._account.behaviour.refused_key or not hmac.compare_digest(key.encode(), self._key.encode()):
            raise Refused(401, "missing bearer token")
        endpoint, values = _RULES.bind("runpod").match(request.path, request.method)
        behaviour = self._account.behaviour
        if request.method == "GET" and behaviour.failing_reads > 0:
            behaviour.failing_reads -= 1
            raise Refused(500, "internal error")
        answer: tuple[Any, int] = getattr(self, f"_{endpoint}")(request, **values)
        return answer

    def _list(self, request: Request) -> tuple[Any, int]:
        # A cursor is opaque; here it is the number of the first pod (§3).
        first = int(request.args.get("cursor", "0"))
        size = min(int(request.args.get("limit", str(_MOST))), _MOST)
        pods = self._account.visible()
        more = len(pods) > first + size
        return {
            "pods": [pod.shown() for pod in pods[first : first + size]],
            "pagination": {"nextCursor": str(first + size) if more else None, "hasNextPage": more},
        }, 200

    def _create(self, request: Request) -> tuple[Any, int]:
        if self._world.network is None:
            raise Refused(400, NO_SSH)
        pod = self._account.create(
            self._world, request.get_json(force=True), machine_environment(self._world)
        )
        behaviour = self._account.behaviour
        if behaviour.lost_creations > 0:
            behaviour.lost_creations -= 1
            raise Refused(500, "upstream error")
        return pod.shown(), 201

    def _pod(self, _request: Request, pod_id: str) -> tuple[Any, int]:
        return self._account.find(pod_id).shown(), 200

    def _delete(self, _request: Request, pod_id: str) -> tuple[Any, int]:
        self._account.act(self._world, pod_id, "terminate")
        return None, 204

    def _act(self, request: Request, pod_id: str) -> tuple[Any, int]:
        return self._account.act(
            self._world, pod_id, str(request.get_json(force=True)["action"])
        ).shown(), 200

    def _gpus(self, request: Request) -> tuple[Any, int]:
        if request.args.get("include") and not request.args.get("product"):
            raise Refused(400, "include needs product")
        return {"gpus": self._account.catalogue()}, 200
