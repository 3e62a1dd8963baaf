"""Lyceum's HTTP API, below ``/lyceum`` of the sandbox's address."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request

from runctl.sandbox.api.rest import Refused, RestApi
from runctl.sandbox.lyceum.account import Account, Behaviour
from runctl.sandbox.world import ACCOUNT, NO_SSH, World

PREFIX = "/lyceum"
ROOT = "/api/v2/external"
ORGANISATION = "sandbox"
_REQUIRED = ("user_public_key", "hardware_profile")


class LyceumApi(RestApi):
    """The WSGI application."""

    prefix = PREFIX
    routes = Map(
        [
            Rule(f"{ROOT}/vms/create", methods=["POST"], endpoint="create"),
            Rule(f"{ROOT}/vms/list", methods=["GET"], endpoint="list"),
            Rule(f"{ROOT}/vms/availability", methods=["GET"], endpoint="availability"),
            Rule(f"{ROOT}/vms/<vm_id>/status", methods=["GET"], endpoint="status"),
            Rule(f"{ROOT}/vms/<vm_id>", methods=["DELETE"], endpoint="terminate"),
            Rule(f"{ROOT}/storage/block", methods=["GET"], endpoint="volumes"),
            Rule(f"{ROOT}/storage/block/<volume_id>", methods=["DELETE"], endpoint="delete_volume"),
            Rule(f"{ROOT}/storage/credentials", methods=["POST"], endpoint="credentials"),
            Rule(f"{ROOT}/orgs", methods=["GET"], endpoint="organisations"),
            Rule(f"{ROOT}/orgs/<slug>/transactions/aggregate", methods=["GET"], endpoint="aggregate"),
            Rule(f"{ROOT}/user/status", methods=["GET"], endpoint="user"),
        ]
    )

    def __init__(self, world: World, key: str) -> None:
        super().__init__(key)
        self._world = world

    @property
    def _account(self) -> Account:
        return self._world.lyceum

    @property
    def behaviour(self) -> Behaviour:
        """See `RestApi`."""
        return self._account.behaviour

    def problem(self, status: int, title: str, refused: Refused | None) -> Mapping[str, Any]:
        """In FastAPI's form (§12)."""
        del status
        return {"detail": refused.detail if refused is not None else title}

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
        if self.behaviour.lost.get("create", 0) > 0:
            vm.appears_at = time.monotonic() + self.behaviour.late_creations
        return vm.shown(created=True)

    def _list(self, request: Request) -> Any:
        # All four default to true (§4).
        wanted = {
            "pending": _flag(request, "include_provisioning"),
            "provisioning": _flag(request, "include_provisioning"),
            "ready": _flag(request, "include_ready"),
            "running": _flag(request, "include_ready"),
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
        there = self._account.listed_volumes()
        has = [each.on_vm() for each in self._account.volumes_of(vm_id) if each in there]
        return {**vm.shown(), "volumes": has}

    def _terminate(self, _request: Request, vm_id: str) -> Any:
        detached = [each.on_vm() for each in self._account.volumes_of(vm_id)]
        vm = self._account.terminate(self._world, vm_id)
        return {
            "vm_id": vm.vm_id,
            "status": "terminated",
            "message": f"VM {vm.vm_id} has been terminated",
            "detached_volumes": detached,
        }

    def _availability(self, _request: Request) -> Any:
        return {"available_hardware_profiles": [], "available_instance_variants": self._account.variants()}

    def _volumes(self, _request: Request) -> Any:
        return {"volumes": [each.shown() for each in self._account.listed_volumes()]}

    def _delete_volume(self, _request: Request, volume_id: str) -> Any:
        self._account.delete_volume(volume_id)
        return {"message": f"Volume {volume_id} has been deleted"}

    def _credentials(self, _request: Request) -> Any:
        told, seconds = self.behaviour.storage_end_told, self.behaviour.storage_seconds
        storage, world = self._account.storage, self._world
        storage.account = ACCOUNT
        return storage.credentials(world.region, world.endpoint_in_machines, seconds, tells_end=told)

    def _organisations(self, _request: Request) -> Any:
        return [{"slug": ORGANISATION, "name": "Sandbox", "is_default": True, "role": "owner"}]

    def _aggregate(self, request: Request, slug: str) -> Any:
        # The header goes with these (§11).
        if slug != ORGANISATION or request.headers.get("X-Org-Slug") != slug:
            raise Refused(403, "Not a member of this organization")
        asked = request.args.get("category"), request.args.get("group_by")
        if asked != ("vms", "vm_id"):
            raise Refused(422, "query.category, query.group_by: only vms by vm_id are known here")
        return {"aggregates": self._account.billed_vms()}

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
