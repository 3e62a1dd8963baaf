"""What a machine finds at 169.254.169.254: its metadata, as IMDS version 2 (and 1, where that is allowed)."""

from __future__ import annotations

import json
import secrets
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from moto.core.types import Base64EncodedString
from moto.ec2.models import ec2_backends
from moto.sts.models import sts_backends

from runctl.sandbox import network
from runctl.sandbox.instance_role import InstanceRole, role_of
from runctl.sandbox.listener import Listener, relayed_to
from runctl.sandbox.world import ACCOUNT, Notices, World

TOKEN_HEADER = "X-aws-ec2-metadata-token"  # noqa: S105 - the header's name
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
LONGEST_TTL = 21600
CREDENTIAL_SECONDS = 6 * 3600
RENEWED_BEFORE = timedelta(minutes=15)
"""AWS has new keys ready some minutes before the old ones end."""
_HELD_SECONDS = 30.0

Tree = Mapping[str, Any]


@dataclass(frozen=True)
class InstanceFacts:
    """What an instance's metadata says of it."""

    instance_id: str
    instance_type: str
    image_id: str
    zone: str
    region: str
    private_ip: str
    public_ip: str | None
    mac: str
    architecture: str
    lifecycle: str
    """``spot`` or ``on-demand``."""
    launched: datetime
    role: InstanceRole | None = None
    tags: Mapping[str, str] | None = None
    """``None`` when the instance does not show its tags."""
    block_devices: Mapping[str, str] = field(default_factory=dict)
    """``ami``, ``root``, ``ebs1`` … to device names."""
    security_groups: tuple[str, ...] = ()
    user_data: bytes | None = None
    tokens_required: bool = True
    hop_limit: int = 2
    enabled: bool = True


@dataclass(frozen=True)
class Credentials:
    """Temporary keys of a role."""

    access_key: str
    secret_key: str
    token: str
    issued: datetime
    expires: datetime


class MetadataService:
    """Serves the machines of one world."""

    def __init__(self, world: World, issue: Callable[[InstanceFacts], Credentials] | None = None) -> None:
        """``issue`` makes keys for a role; by default moto's STS does."""
        self._world = world
        self._issue = issue or assume_role

    def serve(self, machine: Any, describe: Callable[[], InstanceFacts]) -> Callable[[], None]:
        """The machine's metadata is answered until the returned function is called.

        In a machine with a network of its own at 169.254.169.254; for a folder machine on a loopback port, which
        `metadata_endpoint` then names.
        """
        namespace = getattr(machine, "namespace", None)
        if namespace is not None:
            listening = network.listen(namespace, network.METADATA_ADDRESS, 80)
            own = frozenset({network.METADATA_ADDRESS, "127.0.0.1", machine.address})
        else:
            listening = socket.create_server(("127.0.0.1", 0), backlog=64)
            machine.metadata_endpoint = f"http://127.0.0.1:{listening.getsockname()[1]}"
            own = frozenset({"127.0.0.1"})
        desk = _Desk(self._world, describe, self._issue, own)
        return Listener(listening, desk.answer, "metadata").stop


def relay(world: World, machine: Any) -> Callable[[], None]:
    """The server's own address works inside the machine too, until the returned function is called.

    URLs that were signed for 127.0.0.1 and the server's port are good there as they are.
    """
    namespace = getattr(machine, "namespace", None)
    if namespace is None:
        return lambda: None
    listening = network.listen(namespace, "127.0.0.1", world.port)
    return Listener(listening, relayed_to(("127.0.0.1", world.port)), "relay").stop


def install(world: World) -> None:
    """Every machine of the world that boots from now on has metadata and the server's address."""
    service = MetadataService(world)
    world.providers.append(
        lambda _, machine, instance: service.serve(machine, lambda: facts_of(instance, world.region))
    )
    world.providers.append(lambda _, machine, __: relay(world, machine))


def facts_of(instance: Any, region: str) -> InstanceFacts:
    """The facts of moto's instance, as they are now."""
    options = instance.metadata_options
    backend = ec2_backends[ACCOUNT][region]
    tags = None
    if options.instance_metadata_tags == "enabled":
        tags = {tag["key"]: tag["value"] for tag in instance.get_tags()}
    devices = {"ami": instance.root_device_name, "root": instance.root_device_name}
    extra = sorted(name for name in instance.block_device_mapping if name != instance.root_device_name)
    devices.update({f"ebs{number}": name for number, name in enumerate(extra, 1)})
    nic = next(iter(instance.nics.values()), None)
    return InstanceFacts(
        instance_id=instance.id,
        instance_type=instance.instance_type,
        image_id=instance.image_id,
        zone=instance.availability_zone,
        region=region,
        private_ip=instance.private_ip,
        public_ip=instance.public_ip,
        mac=nic.mac_address if nic is not None else "02:00:00:00:00:00",
        architecture=instance.architecture,
        lifecycle="spot" if instance.lifecycle == "spot" else "on-demand",
        launched=instance.launch_time.replace(tzinfo=UTC),
        role=role_of(backend, instance.id),
        tags=tags,
        block_devices=devices,
        security_groups=tuple(group.name for group in instance.security_groups),
        user_data=Base64EncodedString(instance.user_data).as_bytes() if instance.user_data else None,
        tokens_required=options.http_tokens == "required",
        hop_limit=options.http_put_response_hop_limit,
        enabled=options.http_endpoint == "enabled",
    )


def assume_role(facts: InstanceFacts) -> Credentials:
    """Keys of the instance's role from moto's STS, so that GetCallerIdentity knows them."""
    assert facts.role is not None  # noqa: S101 - asked for a role's keys only where there is one
    backend = sts_backends[ACCOUNT]["aws"]
    role = backend.assume_role(
        region_name=facts.region,
        role_session_name=facts.instance_id,
        role_arn=facts.role.arn,
        policy="",
        duration=CREDENTIAL_SECONDS,
        external_id="",
    )
    now = datetime.now(UTC)
    return Credentials(
        role.access_key_id,
        role.secret_access_key,
        role.session_token,
        now,
        now + timedelta(seconds=CREDENTIAL_SECONDS),
    )


def tree(
    facts: InstanceFacts, notices: Notices | None, credentials: Callable[[], Credentials]
) -> dict[str, Any]:
    """Everything below ``/latest/``: names to texts, to functions that make them, or to trees.

    What is ``None`` is not there.
    """
    hostname = f"ip-{facts.private_ip.replace('.', '-')}.ec2.internal"
    meta: dict[str, Any] = {
        "ami-id": facts.image_id,
        "ami-launch-index": "0",
        "block-device-mapping": dict(facts.block_devices),
        "events": {
            "maintenance": {"history": "[]", "scheduled": "[]"},
            "recommendations": {"rebalance": notices.rebalance} if notices and notices.rebalance else None,
        },
        "hostname": hostname,
        "instance-action": "none",
        "instance-id": facts.instance_id,
        "instance-life-cycle": facts.lifecycle,
        "instance-type": facts.instance_type,
        "local-hostname": hostname,
        "local-ipv4": facts.private_ip,
        "mac": facts.mac,
        "placement": {"availability-zone": facts.zone, "region": facts.region},
        "public-ipv4": facts.public_ip,
        "reservation-id": f"r-{facts.instance_id[2:]}",
        "security-groups": "\n".join(facts.security_groups),
        "services": {"domain": "amazonaws.com", "partition": "aws"},
    }
    if facts.role is not None:
        meta["iam"] = {
            "info": lambda: _iam_info(facts, credentials()),
            "security-credentials": {facts.role.name: lambda: _credentials_text(credentials())},
        }
    if notices is not None and notices.instance_action is not None:
        meta["spot"] = {
            "instance-action": notices.instance_action,
            "termination-time": _termination_time(notices.instance_action),
        }
    if facts.tags is not None:
        meta["tags"] = {"instance": dict(facts.tags)}
    return {
        "meta-data": meta,
        "user-data": facts.user_data,
        "dynamic": {"instance-identity": {"document": lambda: _identity(facts)}},
    }


def look_up(root: Tree, path: str) -> bytes | None:
    """The text at a path, or a listing where it is a folder; ``None`` where there is nothing."""
    here: Any = root
    for name in filter(None, path.split("/")):
        if not isinstance(here, Mapping) or here.get(name) is None:
            return None
        here = here[name]
    if isinstance(here, Mapping):
        lines = [
            name + "/" if isinstance(value, Mapping) else name
            for name, value in sorted(here.items())
            if value is not None
        ]
        return "\n".join(lines).encode()
    if callable(here):
        here = here()
    return here if isinstance(here, bytes) else str(here).encode()


class _Desk:
    """One machine's: its tokens and its role's keys."""

    def __init__(
        self,
        world: World,
        describe: Callable[[], InstanceFacts],
        issue: Callable[[InstanceFacts], Credentials],
        own_addresses: frozenset[str],
    ) -> None:
        self._world = world
        self.describe = describe
        self._issue = issue
        self.own_addresses = own_addresses
        self._tokens: dict[str, float] = {}
        self._credentials: Credentials | None = None
        self._lock = threading.Lock()

    def answer(self, connection: socket.socket) -> None:
        """Every request of one connection."""
        _Handler(connection, self)

    def new_token(self, seconds: int) -> str:
        """Good for that long."""
        token, now = secrets.token_urlsafe(40) + "==", time.monotonic()
        with self._lock:
            self._tokens = {known: until for known, until in self._tokens.items() if until > now}
            self._tokens[token] = now + seconds
        return token

    def knows(self, token: str) -> bool:
        """Whether it is good now."""
        with self._lock:
            return self._tokens.get(token, 0.0) > time.monotonic()

    def read(self, facts: InstanceFacts, path: str) -> bytes | None:
        """The text at that path below ``/latest/``."""
        with self._world.lock:
            notices = self._world.notices.get(facts.instance_id)
        return look_up(tree(facts, notices, lambda: self._keys(facts)), path)

    def _keys(self, facts: InstanceFacts) -> Credentials:
        with self._lock:
            kept = self._credentials
            if kept is None or kept.expires - datetime.now(UTC) < RENEWED_BEFORE:
                kept = self._credentials = self._issue(facts)
            return kept


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "EC2ws"
    sys_version = ""
    timeout = 60

    def __init__(self, connection: socket.socket, desk: _Desk) -> None:
        self._desk = desk
        super().__init__(connection, connection.getpeername(), None)  # type: ignore[arg-type]

    def do_PUT(self) -> None:
        """A token."""
        facts = self._desk.describe()
        if self._is_refused(facts):
            return
        if self.path.partition("?")[0].rstrip("/") != "/latest/api/token":
            self._send(HTTPStatus.NOT_FOUND)
            return
        if facts.hop_limit < 2 and self.client_address[0] not in self._desk.own_addresses:
            # On AWS the answer's packets die one hop short of a container: its caller hears nothing.
            select.select([self.connection], [], [], _HELD_SECONDS)
            self.close_connection = True
            return
        ttl = self.headers.get(TTL_HEADER, "")
        if not ttl.isascii() or not ttl.isdigit() or not 1 <= int(ttl) <= LONGEST_TTL:
            self._send(HTTPStatus.BAD_REQUEST)
            return
        self._send(HTTPStatus.OK, self._desk.new_token(int(ttl)).encode(), {TTL_HEADER: ttl})

    def do_GET(self) -> None:
        """A text or a listing."""
        facts = self._desk.describe()
        if self._is_refused(facts):
            return
        token = self.headers.get(TOKEN_HEADER)
        if (token is None and facts.tokens_required) or (token is not None and not self._desk.knows(token)):
            self._send(HTTPStatus.UNAUTHORIZED)
            return
        version, _, rest = self.path.partition("?")[0].lstrip("/").partition("/")
        found: bytes | None
        if not version:
            found = b"latest"
        elif version == "latest" or _is_date(version):
            found = self._desk.read(facts, rest)
        else:
            found = None
        if found is None:
            self._send(HTTPStatus.NOT_FOUND)
        else:
            self._send(HTTPStatus.OK, found)

    do_HEAD = do_GET  # noqa: N815 - the base class calls it so

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Not written."""

    def _is_refused(self, facts: InstanceFacts) -> bool:
        length = int(self.headers.get("Content-Length") or 0)
        if length:
            self.rfile.read(length)
        refused = not facts.enabled or "X-Forwarded-For" in self.headers
        if refused:
            self._send(HTTPStatus.FORBIDDEN)
        return refused

    def _send(
        self, status: HTTPStatus, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        if body is None:
            body = f"{status.value} - {status.phrase}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _is_date(version: str) -> bool:
    """IMDS answers under the dates of its versions too."""
    try:
        datetime.strptime(version, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return False
    return True


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _iam_info(facts: InstanceFacts, credentials: Credentials) -> str:
    assert facts.role is not None  # noqa: S101 - listed only where there is one
    return json.dumps(
        {
            "Code": "Success",
            "LastUpdated": _iso(credentials.issued),
            "InstanceProfileArn": facts.role.profile_arn,
            "InstanceProfileId": facts.role.profile_id,
        },
        indent=2,
    )


def _credentials_text(credentials: Credentials) -> str:
    return json.dumps(
        {
            "Code": "Success",
            "LastUpdated": _iso(credentials.issued),
            "Type": "AWS-HMAC",
            "AccessKeyId": credentials.access_key,
            "SecretAccessKey": credentials.secret_key,
            "Token": credentials.token,
            "Expiration": _iso(credentials.expires),
        },
        indent=2,
    )


def _identity(facts: InstanceFacts) -> str:
    return json.dumps(
        {
            "accountId": ACCOUNT,
            "architecture": facts.architecture,
            "availabilityZone": facts.zone,
            "billingProducts": None,
            "devpayProductCodes": None,
            "marketplaceProductCodes": None,
            "imageId": facts.image_id,
            "instanceId": facts.instance_id,
            "instanceType": facts.instance_type,
            "kernelId": None,
            "pendingTime": _iso(facts.launched),
            "privateIp": facts.private_ip,
            "ramdiskId": None,
            "region": facts.region,
            "version": "2017-09-30",
        },
        indent=2,
    )


def _termination_time(instance_action: str) -> str | None:
    """The older path, there for instances that are to be terminated or stopped at a known time."""
    try:
        words = json.loads(instance_action)
        return str(words["time"]) if words["action"] in {"terminate", "stop"} else None
    except (ValueError, KeyError, TypeError):
        return None
