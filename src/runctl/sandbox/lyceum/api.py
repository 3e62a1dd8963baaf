"""Lyceum's HTTP API, below ``/lyceum`` of the sandbox's address."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Iterable
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from runctl.sandbox.api.http_server import Start
from runctl.sandbox.lyceum.account import Account, Refused
from runctl.sandbox.world import NO_SSH, World

PREFIX = "/lyceum"
ROOT = "/api/v2/external"
_RULES = Map(
    [
        Rule(f"{ROOT}/vms/create", methods=["POST"], endpoint="create"),
        Rule(f"{ROOT}/vms/list", methods=["GET"], endpoint="list"),
        Rule(f"{ROOT}/vms/availability", methods=["GET"], endpoint="availability"),
        Rule(f"{ROOT}/vms/<vm_id>/status", methods=["GET"], endpoint="status"),
        Rule(f"{ROOT}/vms/<vm_id>", methods=["DELETE"], endpoint="terminate"),
        Rule(f"{ROOT}/storage/block", methods=["GET"], endpoint="volumes"),
        Rule(f"{ROOT}/user/status", methods=["GET"], endpoint="user"),
    ]
)
_REQUIRED = ("user_public_key", "hardware_profile")


class LyceumApi:
    """The WSGI application."""

    def __init__(self, world: World, key: str) -> None:
        self._world = world
        self._key = key

    @property
    def _account(self) -> Account:
        return self._world.lyceum

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """One request."""
        environ = {**environ, "PATH_INFO": environ.get("PATH_INFO", "").removeprefix(PREFIX)}
        request = Request(environ)
        try:
            value = self._do(request)
        except Refused as refused:
            value, status = {"detail": refused.detail}, refused.status
        except HTTPException as error:
            value, status = {"detail": error.name}, error.code or 500
        else:
            status = 200
        return Response(json.dumps(value), status, content_type="application/json")(environ, start)

    def _do(self, request: Request) -> Any:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self._account.behaviour.refused_key or not hmac.compare_digest(key.encode(), self._key.encode()):
            raise Refused(401, "Invalid or expired token")
        endpoint, values = _RULES.bind("lyceum").match(request.path, request.method)
        behaviour = self._account.behaviour
        if request.method == "GET" and behaviour.failing_reads > 0:
            behaviour.failing_reads -= 1
            raise Refused(500, "Internal Server Error")
        answer = getattr(self, f"_{endpoint}")
        return answer(request, **values)

    def _create(self, request: Request) -> Any:
        if self._world.network is None:
            raise Refused(400, NO_SSH)
        body = request.get_json(force=True)
        missing = [name for name in _REQUIRED if not body.get(name)]
        if missing:
            # FastAPI's own form (§12).
            raise Refused(422, "; ".join(f"body.{name}: Field required" for name in missing))
        # moto reads the sandbox's images when EC2's part is first imported, so that they must be settled by then.
        from runctl.sandbox.ec2.launch import machine_environment

        vm = self._account.create(self._world, body, machine_environment(self._world))
        behaviour = self._account.behaviour
        if behaviour.lost_creations > 0:
            behaviour.lost_creations -= 1
            vm.appears_at = time.monotonic() + behaviour.late_creations
            raise Refused(502, "Bad Gateway")
        return vm.shown(created=True)

    def _list(self, request: Request) -> Any:
        # All four default to true (§4).
        wanted = {
            "pending": _flag(request, "include_provisioning"),
            "provisioning": _flag(request, "include_provisioning"),
            "ready": _flag(request, "include_ready"),
            "failed": _flag(request, "include_failed"),
            "error": _flag(request, "include_failed"),
            "terminated": _flag(request, "include_terminated"),
        }
        vms = [vm.shown() for vm in self._account.listed() if wanted[vm.status]]
        return {"vms": vms, "total": len(vms)}

    def _status(self, _request: Request, vm_id: str) -> Any:
        vm = self._account.vms.get(vm_id)
        if vm is None or vm not in self._account.listed():
            raise Refused(404, "VM not found")
        return vm.shown()

    def _terminate(self, _request: Request, vm_id: str) -> Any:
        vm = self._account.terminate(self._world, vm_id)
        return {
            "vm_id": vm.vm_id,
            "status": "terminated",
            "message": f"VM {vm.vm_id} has been terminated",
            "detached_volumes": [],
        }

    def _availability(self, _request: Request) -> Any:
        return {"available_hardware_profiles": [], "available_instance_variants": self._account.variants()}

    def _volumes(self, _request: Request) -> Any:
        return {"volumes": []}

    def _user(self, _request: Request) -> Any:
        return {
            "user_id": "00000000-0000-4000-8000-000000000001",
            "org_id": "00000000-0000-4000-8000-000000000002",
            "email": "someone@example.org",
            "credit_balance": float(self._account.behaviour.balance),
            "status": "authenticated",
        }


def _flag(request: Request, name: str) -> bool:
    return request.args.get(name, "true").lower() != "false"
