"""Lyceum's VM API, typed: which call means what, and what its refusals are in our words."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from urllib.parse import quote

import msgspec

from runctl._version import __version__
from runctl.core.errors import (
    CapacityError,
    CredentialsError,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    ProviderError,
    QuotaExceeded,
    RunctlError,
)
from runctl.providers.lyceum.settings import Account
from runctl.providers.rest import Answer, RestClient, created, decoded, usual_refusal

NAME = "Lyceum"
_ROOT = "/api/v2/external"
_CREATE_SECONDS = 150.0
_CREATE_WITH_STORAGE_SECONDS = 300.0
"""How long the vendor's own tool waits for either."""
_NO_CAPACITY = "could not be provisioned right now"
_UNKNOWN_PROFILE = "unknown hardware_profile"


class Specs(msgspec.Struct, frozen=True):
    """What a machine is made of."""

    gpu_type: str | None = None
    gpu_count: int | None = None


class Attached(msgspec.Struct, frozen=True):
    """A block volume as a machine has it."""

    volume_id: str
    size_gb: int | None = None
    mount_path: str | None = None


class Vm(msgspec.Struct, frozen=True):
    """One VM. Of a new one the top level leaves out what ``instance_specs`` has."""

    vm_id: str
    status: str
    display_name: str | None = None
    ip_address: str | None = None
    created_at: str | None = None
    instance_specs: Specs | None = None
    hardware_profile: str | None = None
    gpu_count: int | None = None
    instance_type: str | None = None
    """The market."""
    volumes: tuple[Attached, ...] | None = None


class Terminated(msgspec.Struct, frozen=True):
    """The answer of a termination."""

    detached_volumes: tuple[Attached, ...] | None = None


class Variant(msgspec.Struct, frozen=True):
    """A profile in a market: its price, and how many GPUs a machine of it can have now."""

    hardware_profile: str
    instance_type: str
    price_per_hour: Decimal
    """USD for one GPU."""
    allowed_gpus_per_instance: tuple[int, ...] = ()
    available_gpus_per_instance: tuple[int, ...] = ()


class BlockVolume(msgspec.Struct, frozen=True):
    """A block volume."""

    volume_id: str
    size_gb: int | None = None
    status: str | None = None
    location: str | None = None
    attached_vm_id: str | None = None
    mount_path: str | None = None


class StorageKeys(msgspec.Struct, frozen=True):
    """Keys of the account's bucket. Older pages call the bucket ``bucket``."""

    access_key: str
    secret_key: str
    endpoint: str
    """Its scheme may be left out."""
    session_token: str | None = None
    bucket_name: str | None = None
    bucket: str | None = None
    region: str | None = None
    expiry: str | None = None

    def __repr__(self) -> str:
        return f"StorageKeys({self.endpoint!r}, {self.bucket_name or self.bucket!r})"


class User(msgspec.Struct, frozen=True):
    """Whose key it is."""

    user_id: str | None = None
    org_id: str | None = None
    email: str | None = None
    credit_balance: Decimal | None = None


class Organisation(msgspec.Struct, frozen=True):
    """Who pays."""

    slug: str
    is_default: bool = False


class BilledSum(msgspec.Struct, frozen=True):
    """What one machine came to, over all of its time."""

    group_by_value: str
    """The VM's id."""
    total_amount: Decimal
    first_created_at: str | None = None
    last_created_at: str | None = None
    """When the first and the last amount of it were written down."""


class _Sums(msgspec.Struct, frozen=True):
    aggregates: tuple[BilledSum, ...]


class _Vms(msgspec.Struct, frozen=True):
    vms: tuple[Vm, ...]


class _Availability(msgspec.Struct, frozen=True):
    available_instance_variants: tuple[Variant, ...]


class _Volumes(msgspec.Struct, frozen=True):
    volumes: tuple[BlockVolume, ...]


class LyceumApi:
    """Each call raises `Unreachable`, and of our errors what its refusal means."""

    def __init__(self, account: Account) -> None:
        self.account = account
        # The default of Python's own clients is refused by some proxies of this field.
        self._headers = {
            **account.headers,
            "User-Agent": f"runctl/{__version__}",
            "Accept": "application/json",
        }
        self._rest = RestClient(account.base_url, self._headers, NAME)

    def vms(self) -> tuple[Vm, ...]:
        """All of the organisation, ended ones included."""
        return decoded(self._read("/vms/list"), _Vms, NAME).vms

    def vm(self, vm_id: str) -> Vm:
        """One. Raises `NotFound`."""
        answer = self._rest.read(f"{_ROOT}/vms/{vm_id}/status")
        if answer.status == 404:
            raise NotFound(f"Lyceum has no VM {vm_id}", hint="runctl lyceum list", code="instance-not-found")
        return decoded(_good(answer, f"read VM {vm_id}"), Vm, NAME)

    def create(self, body: dict[str, Any]) -> Vm:
        """The new VM. Raises `CapacityError`, and `OutcomeUnknown` where it may have been made all the same."""
        storage = "new_volume" in body or "volume_ids" in body
        answer = self._rest.write(
            "POST",
            f"{_ROOT}/vms/create",
            body,
            read_seconds=_CREATE_WITH_STORAGE_SECONDS if storage else _CREATE_SECONDS,
        )
        if answer.status == 500 and _NO_CAPACITY in _detail(answer):
            raise CapacityError(
                f"Lyceum: {_detail(answer)}", hint="try another profile, market or number of GPUs"
            )
        if answer.status >= 500:
            raise OutcomeUnknown(
                f"Lyceum answered {answer.status} to the creation of a VM: {_detail(answer)}",
                may_still_happen=True,
            )
        return created(_good(answer, "create a VM"), Vm, NAME)

    def terminate(self, vm_id: str) -> Terminated:
        """It ends, and its block volumes are free. Raises `NotFound` where it has ended."""
        answer = self._rest.write("DELETE", f"{_ROOT}/vms/{vm_id}", repeatable=True)
        if answer.status >= 500:
            raise OutcomeUnknown(
                f"Lyceum answered {answer.status} to the end of VM {vm_id}: {_detail(answer)}",
                hint=f"runctl lyceum terminate {vm_id}",
            )
        return decoded(_good(answer, f"end VM {vm_id}"), Terminated, NAME)

    def variants(self) -> tuple[Variant, ...]:
        """What is offered, with its stock a moment ago."""
        return decoded(self._read("/vms/availability"), _Availability, NAME).available_instance_variants

    def volumes(self) -> tuple[BlockVolume, ...]:
        """All block volumes."""
        return decoded(self._read("/storage/block"), _Volumes, NAME).volumes

    def delete_volume(self, volume_id: str) -> None:
        """A detached volume is gone. Raises `NotFound`, `Conflict`."""
        answer = self._rest.write("DELETE", f"{_ROOT}/storage/block/{volume_id}", repeatable=True)
        if answer.status >= 500:
            raise OutcomeUnknown(
                f"Lyceum answered {answer.status} to the deletion of volume {volume_id}: {_detail(answer)}",
                hint=f"runctl lyceum volumes delete {volume_id}",
            )
        _good(answer, f"delete volume {volume_id}")

    def storage_keys(self) -> StorageKeys:
        """New keys of the account's bucket; they end by themselves."""
        answer = self._rest.write("POST", f"{_ROOT}/storage/credentials", repeatable=True)
        return decoded(_good(answer, "give out keys of the account's bucket"), StorageKeys, NAME)

    def user(self) -> User:
        """Whose key it is, and the balance."""
        return decoded(self._read("/user/status"), User, NAME)

    def billed_vms(self) -> tuple[BilledSum, ...]:
        """What was billed for each machine of the organisation. Raises `ProviderError` where there is none."""
        slug = self.account.organisation or self._default_organisation()
        rest = RestClient(self.account.base_url, {**self._headers, "X-Org-Slug": slug}, NAME)
        query = {"category": "vms", "group_by": "vm_id"}
        answer = rest.read(f"{_ROOT}/orgs/{quote(slug, safe='')}/transactions/aggregate", query)
        return decoded(_good(answer, "tell what it has billed"), _Sums, NAME).aggregates

    def _default_organisation(self) -> str:
        found = decoded(self._read("/orgs"), tuple[Organisation, ...], NAME)
        chosen = next((each for each in found if each.is_default), found[0] if found else None)
        if chosen is None:
            raise ProviderError(
                "Lyceum names no organisation whose bill could be read", hint="set LYCEUM_ORG to its name"
            )
        return chosen.slug

    def _read(self, path: str) -> Answer:
        return _good(self._rest.read(_ROOT + path), f"read {path}")


def _good(answer: Answer, what: str) -> Answer:
    if not answer.is_good:
        raise refused(answer, what)
    return answer


def refused(answer: Answer, what: str) -> RunctlError:
    """The error that an answer is: decided by its status, then by its words. Pure."""
    said = _detail(answer)
    message = f"Lyceum refused to {what}: {said or f'HTTP {answer.status}'}"
    if answer.status == 401:
        return CredentialsError(message, hint="check LYCEUM_API_KEY: runctl doctor")
    if answer.status == 403:
        return PermissionDenied(
            message, hint="is it the right organisation? set LYCEUM_ORG, or use another key"
        )
    if answer.status == 402:
        return QuotaExceeded(message, hint="add credit at dashboard.lyceum.technology", code="no-credit")
    if answer.status == 404:
        return NotFound(message, hint="runctl lyceum list", code="instance-not-found")
    if answer.status == 400 and _UNKNOWN_PROFILE in said.lower():
        return NotFound(message, hint="runctl lyceum offers", code="instance-type-not-found")
    return usual_refusal(answer.status, message)


def _detail(answer: Answer) -> str:
    """Lyceum's own words: a text, or one for each field that is wrong."""
    content = answer.json()
    detail = content.get("detail") if isinstance(content, dict) else None
    if isinstance(detail, list):
        parts = [
            f"{'.'.join(str(step) for step in each.get('loc', ()))}: {each.get('msg', '')}"
            for each in detail
            if isinstance(each, dict)
        ]
        return "; ".join(parts)
    return detail if isinstance(detail, str) else answer.text()
