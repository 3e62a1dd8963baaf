"""RunPod's REST API, version 2, typed: which call means what, and what its refusals are in our words."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

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
from runctl.providers.rest import Answer, RestClient, created, decoded, usual_refusal
from runctl.providers.runpod.settings import Account

NAME = "RunPod"
_PAGE = "1000"
_NO_CAPACITY = ("no longer any instances available", "no instances available", "not enough free gpus")
_CDN = "error code: 1010"
_FUNDS = "query { myself { clientBalance currentSpendPerHr spendLimit } }"


class Gpu(msgspec.Struct, frozen=True):
    """The GPUs of a pod."""

    id: str
    count: int = 1


class SshDoor(msgspec.Struct, frozen=True):
    """One way in."""

    host: str
    port: int


class Ssh(msgspec.Struct, frozen=True):
    """The ways in; only the direct one runs commands."""

    direct: SshDoor | None = None


class Runtime(msgspec.Struct, frozen=True):
    """What a running pod reports; ``{}`` before it does."""

    uptime: float | None = None
    gpus: tuple[dict[str, Any], ...] | None = None


class NetworkMount(msgspec.Struct, frozen=True):
    """A network volume in a pod."""

    volumeId: str  # noqa: N815 (RunPod's name)
    path: str


class Mounts(msgspec.Struct, frozen=True):
    """What a pod has mounted."""

    network: tuple[NetworkMount, ...] | None = None


class Pod(msgspec.Struct, frozen=True):
    """One pod."""

    id: str
    name: str
    status: str
    image: str | None = None
    env: dict[str, str] | None = None
    gpu: Gpu | None = None
    cloud: str | None = None
    registry: str | None = None
    """The id of the login that its image is pulled by."""
    dataCenterId: str | None = None  # noqa: N815 (RunPod's name)
    ssh: Ssh | None = None
    cost: Decimal | None = None
    """USD an hour for the whole pod; 0 where it does not run."""
    runtime: Runtime | None = None
    mounts: Mounts | None = None
    createdAt: str | None = None  # noqa: N815 (RunPod's name)


class GpuStock(msgspec.Struct, frozen=True):
    """How much there is of a GPU type in one data centre."""

    data_centre: str = msgspec.field(name="id")
    availability: str = "NONE"


class GpuPrice(msgspec.Struct, frozen=True):
    """USD for one GPU's hour."""

    secure: Decimal | None = None
    community: Decimal | None = None


class GpuCount(msgspec.Struct, frozen=True):
    """The most GPUs of one pod."""

    secure: int | None = None
    community: int | None = None


class GpuType(msgspec.Struct, frozen=True):
    """A GPU type of the catalogue."""

    id: str
    name: str
    memory: int
    """GB."""
    secure: bool = False
    community: bool = False
    price: GpuPrice = GpuPrice()
    maxCount: GpuCount = GpuCount()  # noqa: N815 (RunPod's name)
    availability: str = "NONE"
    dataCenters: tuple[GpuStock, ...] = ()  # noqa: N815 (RunPod's name)


class NetworkVolume(msgspec.Struct, frozen=True):
    """A network volume."""

    id: str
    name: str
    size: int
    """GB."""
    dataCenter: str  # noqa: N815 (RunPod's name)
    type: str = "STANDARD"


class DataCentre(msgspec.Struct, frozen=True):
    """A data centre of the catalogue."""

    id: str
    networkVolumeTypes: tuple[str, ...] | None = None  # noqa: N815 (RunPod's name)
    """Empty: it has no network volumes."""


class Funds(msgspec.Struct, frozen=True):
    """What the account has and spends, in USD."""

    clientBalance: Decimal | None = None  # noqa: N815 (RunPod's name)
    currentSpendPerHr: Decimal | None = None  # noqa: N815 (RunPod's name)
    spendLimit: Decimal | None = None  # noqa: N815 (RunPod's name)
    """An hour."""


class BilledPod(msgspec.Struct, frozen=True):
    """What a pod came to in a span of time, or a network volume."""

    startTime: str  # noqa: N815 (RunPod's name)
    totalAmount: Decimal  # noqa: N815 (RunPod's name)
    podId: str | None = None  # noqa: N815 (RunPod's name)
    networkVolumeId: str | None = None  # noqa: N815 (RunPod's name)


class Registry(msgspec.Struct, frozen=True):
    """A login to an image registry that RunPod keeps."""

    id: str
    name: str


class _Myself(msgspec.Struct, frozen=True):
    myself: Funds


class _Answered(msgspec.Struct, frozen=True):
    data: _Myself


class _Billed(msgspec.Struct, frozen=True):
    records: tuple[BilledPod, ...]


class _Registries(msgspec.Struct, frozen=True):
    registries: tuple[Registry, ...]


class _NetworkVolumes(msgspec.Struct, frozen=True):
    networkVolumes: tuple[NetworkVolume, ...]  # noqa: N815 (RunPod's name)


class _DataCentres(msgspec.Struct, frozen=True):
    dataCenters: tuple[DataCentre, ...]  # noqa: N815 (RunPod's name)


class _Pagination(msgspec.Struct, frozen=True):
    nextCursor: str | None = None  # noqa: N815 (RunPod's name)
    hasNextPage: bool = False  # noqa: N815 (RunPod's name)


class _Pods(msgspec.Struct, frozen=True):
    pods: tuple[Pod, ...]
    pagination: _Pagination | None = None


class _Gpus(msgspec.Struct, frozen=True):
    gpus: tuple[GpuType, ...]


class RunPodApi:
    """Each call raises `Unreachable`, and of our errors what its refusal means."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self._headers = headers = {
            "Authorization": f"Bearer {account.key}",
            # Without one, the network in front of the API answers 403 and "error code: 1010".
            "User-Agent": f"runctl/{__version__}",
            "Accept": "application/json",
        }
        self._rest = RestClient(account.base_url, headers, NAME)

    def pods(self) -> tuple[Pod, ...]:
        """All of the account, every page."""
        found: list[Pod] = []
        query = {"limit": _PAGE}
        while True:
            page = decoded(_good(self._rest.read("/pods", query), "list pods"), _Pods, NAME)
            found += page.pods
            cursor = page.pagination.nextCursor if page.pagination and page.pagination.hasNextPage else None
            if cursor is None:
                return tuple(found)
            query = {"limit": _PAGE, "cursor": cursor}

    def pod(self, pod_id: str) -> Pod:
        """One. Raises `NotFound`."""
        answer = self._rest.read(f"/pods/{pod_id}")
        if answer.status == 404:
            raise NotFound(
                f"RunPod has no pod {pod_id}", hint="runctl runpod list", code="instance-not-found"
            )
        return decoded(_good(answer, f"read pod {pod_id}"), Pod, NAME)

    def create(self, body: dict[str, Any]) -> Pod:
        """The new pod. Raises `CapacityError`, and `OutcomeUnknown` where it may have been made all the same."""
        return created(self._changed("POST", "/pods", body, what="create a pod"), Pod, NAME)

    def act(self, pod_id: str, action: str) -> None:
        """``start`` or ``stop`` is under way. Raises `Conflict` in a state that has no such action, also where an
        answer to it was lost.
        """
        path = f"/pods/{pod_id}/action"
        self._changed("POST", path, {"action": action}, what=f"{action} pod {pod_id}", repeatable=True)

    def delete(self, pod_id: str) -> None:
        """It is gone. Raises `NotFound` where it was already."""
        self._changed("DELETE", f"/pods/{pod_id}", what=f"end pod {pod_id}", repeatable=True)

    def volumes(self) -> tuple[NetworkVolume, ...]:
        """All network volumes of the account."""
        answer = _good(self._rest.read("/network-volumes"), "list network volumes")
        return decoded(answer, _NetworkVolumes, NAME).networkVolumes

    def create_volume(self, body: dict[str, Any]) -> NetworkVolume:
        """The new network volume. Raises `OutcomeUnknown` where it may have been made all the same."""
        answer = self._changed("POST", "/network-volumes", body, what="create a network volume")
        return created(answer, NetworkVolume, NAME)

    def grow_volume(self, volume_id: str, size: int) -> NetworkVolume:
        """It has so many GB. The same call twice is fine."""
        path, what = f"/network-volumes/{volume_id}", f"enlarge network volume {volume_id}"
        answer = self._changed("PATCH", path, {"size": size}, what=what, repeatable=True)
        return decoded(answer, NetworkVolume, NAME)

    def delete_volume(self, volume_id: str) -> None:
        """It is gone, with its data. Raises `NotFound` where it was already."""
        path = f"/network-volumes/{volume_id}"
        self._changed("DELETE", path, what=f"delete network volume {volume_id}", repeatable=True)

    def data_centres(self) -> tuple[DataCentre, ...]:
        """All of them, with the types of network volumes that each has."""
        answer = _good(self._rest.read("/catalog/datacenters"), "list data centres")
        return decoded(answer, _DataCentres, NAME).dataCenters

    def gpus(self) -> tuple[GpuType, ...]:
        """The catalogue, with stock a moment ago."""
        query = {"include": "AVAILABILITY", "product": "POD"}
        types = decoded(
            _good(self._rest.read("/catalog/gpus", query), "read the catalogue"), _Gpus, NAME
        ).gpus
        return tuple(each for each in types if each.id != "unknown")

    def registries(self) -> tuple[Registry, ...]:
        """The logins to image registries that RunPod keeps for the account."""
        return decoded(_good(self._rest.read("/registries"), "list registries"), _Registries, NAME).registries

    def add_registry(self, name: str, username: str, password: str) -> Registry:
        """RunPod keeps that login."""
        body = {"name": name, "username": username, "password": password}
        return decoded(
            self._changed("POST", "/registries", body, what="keep a login to a registry"), Registry, NAME
        )

    def delete_registry(self, login_id: str) -> None:
        """The login is forgotten."""
        self._changed("DELETE", f"/registries/{login_id}", what=f"forget login {login_id}", repeatable=True)

    def billed(
        self, what: Literal["pods", "network-volumes"], since: str, until: str
    ) -> tuple[BilledPod, ...]:
        """What each came to, day by day; RunPod adds to it for a while."""
        query = {"startTime": since, "endTime": until, "bucketSize": "day"}
        answer = _good(self._rest.read(f"/billing/{what}", query), "read the bill")
        return decoded(answer, _Billed, NAME).records

    def funds(self) -> Funds:
        """Balance and spending: only the older GraphQL API tells them. Raises `ProviderError` where it does not."""
        old = RestClient(self.account.graphql_url, self._headers, NAME)
        answer = _good(old.write("POST", "", {"query": _FUNDS}, repeatable=True), "tell the balance")
        return decoded(answer, _Answered, NAME).data.myself

    def check_key(self) -> None:
        """The key is good. Raises `CredentialsError`."""
        _good(self._rest.read("/pods", {"limit": "1"}), "list pods")

    def _changed(
        self, method: str, path: str, body: Any = None, *, what: str, repeatable: bool = False
    ) -> Answer:
        """The answer of a call that changes something. Raises `OutcomeUnknown` where it may have, and what a refusal
        means."""
        answer = self._rest.write(method, path, body, repeatable=repeatable)
        if answer.status >= 500:
            raise OutcomeUnknown(
                f"RunPod answered {answer.status} when it was to {what}: {_detail(answer)}",
                may_still_happen=True,
            )
        return _good(answer, what)


def _good(answer: Answer, what: str) -> Answer:
    if not answer.is_good:
        raise refused(answer, what)
    return answer


def refused(answer: Answer, what: str) -> RunctlError:
    """The error that an answer is: decided by its status, then by its words. Pure."""
    said = _detail(answer)
    seen = f" (request {answer.request_id})" if answer.request_id else ""
    message = f"RunPod refused to {what}: {said or f'HTTP {answer.status}'}{seen}"
    lowered = said.lower()
    if answer.status == 401:
        return CredentialsError(message, hint="check RUNPOD_API_KEY: runctl doctor")
    if answer.status == 403 and _CDN in answer.body.decode(errors="replace"):
        return ProviderError(
            message, hint="the network in front of RunPod refuses this client; it is not the key"
        )
    if answer.status == 403:
        return PermissionDenied(
            message, hint="the key may not do this: make one with more rights in the console"
        )
    if answer.status == 402 or (answer.status == 400 and "balance" in lowered):
        return QuotaExceeded(message, hint="add credit at console.runpod.io", code="no-credit")
    if answer.status == 404:
        return NotFound(message, hint="runctl runpod list", code="instance-not-found")
    if answer.status == 400 and any(phrase in lowered for phrase in _NO_CAPACITY):
        return CapacityError(message, hint="try another GPU, cloud or data centre, or again in a few minutes")
    return usual_refusal(answer.status, message)


def _detail(answer: Answer) -> str:
    """RunPod's own words (RFC 9457), with what it says of each field."""
    content = answer.json()
    if not isinstance(content, dict):
        return answer.text()
    parts = [content.get("detail") or content.get("title"), *(content.get("errors") or ())]
    return "; ".join(str(part) for part in parts if part)
