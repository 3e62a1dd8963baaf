"""A bridge with addresses for machines, and the way out. Everything has a name by which it can be removed."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import ipaddress
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from runctl.sandbox.layout import Layout

CLONE_NEWNET = 0x40000000
NETWORKS = ipaddress.IPv4Network("10.213.0.0/16")
"""Where sandboxes take their /24 from; nothing there is routed anywhere."""
REGISTRY_PORT = 5000
"""On the gateway: the registry of the machines' engines."""
METADATA_ADDRESS = "169.254.169.254"

_IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_FORWARDING = Path("/run/runctl-sandbox.forwarding")
"""A file for each network device of a sandbox, and what the setting was before the first."""
_BEFORE = "before"

T = TypeVar("T")


class NetworkError(Exception):
    """The kernel refused; the message is the tool's."""


def run(*argv: str, check: bool = True) -> str:
    """The output of a system program. Raises `NetworkError`."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise NetworkError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Network:
    """One sandbox's network. Made by `make`, gone after `remove`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._lock = threading.Lock()
        self._used: set[int] = {1}
        self.subnet = ipaddress.IPv4Network("10.213.0.0/24")
        self.mtu = 1500

    @property
    def gateway(self) -> str:
        """The host's address on the bridge."""
        return str(self.subnet[1])

    def make(self) -> None:
        """The bridge is up, packets are forwarded and translated on their way out."""
        with _locked():
            self.subnet = _free_subnet()
            self.mtu = _outward_mtu()
            bridge = self._layout.bridge
            # Without an address of its own a bridge takes that of a cable, and another one as machines come and go;
            # whoever remembers the old one then talks to nobody for half a minute.
            run(
                *("ip", "link", "add", bridge, "address", _hardware_address(self.subnet[1])),
                *("mtu", str(self.mtu), "type", "bridge"),
            )
            run("ip", "address", "add", f"{self.gateway}/24", "dev", bridge)
            run("ip", "link", "set", bridge, "up")
        # The rules are there before anything is forwarded.
        self._guard()
        hold_forwarding(bridge)

    def _guard(self) -> None:
        """Only this computer and its machines reach the sandbox's addresses, whatever the routes say."""
        chains = _chains(self._layout)
        bridge, mark = self._layout.bridge, _mark(self._layout)
        for chain in chains.values():
            run("iptables", "-w", "-N", chain)
        # Linux accepts packets for any of its addresses on every device.
        for rule in (
            (chains["INPUT"], "-i", "lo", "-j", "RETURN"),
            (chains["INPUT"], "-i", bridge, "-j", "RETURN"),
            (chains["INPUT"], "-j", "DROP"),
            (chains["FORWARD"], "-i", bridge, "-j", "ACCEPT"),
            (chains["FORWARD"], "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT"),
            (chains["FORWARD"], "-j", "DROP"),
        ):
            run("iptables", "-w", "-A", *rule)
        for chain, *match in (
            ("INPUT", "-d", str(self.subnet)),
            ("FORWARD", "-i", bridge),
            ("FORWARD", "-o", bridge),
        ):
            run("iptables", "-w", "-I", chain, *match, *mark, "-j", chains[chain])
        outward = ("-s", str(self.subnet), "!", "-o", bridge)
        run("iptables", "-w", "-t", "nat", "-I", "POSTROUTING", *outward, *mark, "-j", "MASQUERADE")
        # The registry takes what anybody pushes. Only the sandbox's user may, where the kernel can tell users apart.
        registry = ("-d", self.gateway, "-p", "tcp", "--dport", str(REGISTRY_PORT), *mark)
        run(
            *(
                "iptables",
                "-w",
                "-I",
                "OUTPUT",
                *registry,
                "-m",
                "owner",
                "!",
                "--uid-owner",
                str(os.getuid()),
            ),
            *("-j", "REJECT"),
            check=False,
        )

    def connect(self) -> tuple[int, str]:
        """A new namespace with an address: its number, and the address."""
        with self._lock:
            number = next(n for n in range(4, 250) if n not in self._used)
            self._used.add(number)
        layout, address = self._layout, str(self.subnet[number])
        namespace, veth = layout.namespace(number), layout.veth(number)
        run("ip", "netns", "add", namespace)
        run(
            "ip",
            "link",
            "add",
            veth,
            "mtu",
            str(self.mtu),
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            # Who has talked to the address before, and remembers its hardware address, finds the next machine there.
            "address",
            _hardware_address(self.subnet[number]),
            "netns",
            namespace,
        )
        run("ip", "link", "set", veth, "master", layout.bridge, "up")
        inside = ("ip", "-netns", namespace)
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "address", "add", f"{METADATA_ADDRESS}/32", "dev", "lo")
        run(*inside, "address", "add", f"{address}/24", "dev", "eth0")
        run(*inside, "link", "set", "eth0", "mtu", str(self.mtu), "up")
        run(*inside, "route", "add", "default", "via", self.gateway)
        return number, address

    def disconnect(self, number: int) -> None:
        """Remove the namespace and its cable."""
        run("ip", "link", "delete", self._layout.veth(number), check=False)
        run("ip", "netns", "delete", self._layout.namespace(number), check=False)
        with self._lock:
            self._used.discard(number)

    def allow_inbound(self, number: int, ranges: Sequence[tuple[str, int, int, str]]) -> None:
        """Only these (protocol, first port, last port, source network) get in, as security groups do it."""
        rules = [
            "*filter",
            ":INPUT DROP [0:0]",
            "-A INPUT -i lo -j ACCEPT",
            "-A INPUT -i docker+ -j ACCEPT",
            "-A INPUT -i br-+ -j ACCEPT",
            "-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
        ]
        for protocol, first, last, source in ranges:
            ports = f" -p {protocol} --dport {first}:{last}" if protocol in {"tcp", "udp"} else ""
            rules.append(f"-A INPUT -s {source}{ports} -j ACCEPT")
        command = [
            "ip",
            "netns",
            "exec",
            self._layout.namespace(number),
            "iptables-restore",
            "--noflush",
            "-w",
        ]
        flush = ["ip", "netns", "exec", self._layout.namespace(number), "iptables", "-w", "-F", "INPUT"]
        run(*flush)
        done = subprocess.run(
            command, input="\n".join([*rules, "COMMIT", ""]), text=True, capture_output=True, check=False
        )
        if done.returncode != 0:
            raise NetworkError(f"iptables-restore: {done.stderr.strip()}")


def kill_inside(layout: Layout) -> list[str]:
    """End every process of this sandbox's machines; those that ran."""
    killed = []
    prefix = f"rctl-{layout.tag}-"
    for line in run("ip", "netns", "list", check=False).splitlines():
        name = line.split()[0] if line.split() else ""
        if not name.startswith(prefix):
            continue
        count = kill_all(name)
        killed += [f"{count} processes in {name}"] if count else []
    return killed


def kill_all(namespace: str) -> int:
    """End every process in that namespace; how many there were."""
    count = 0
    limit = time.monotonic() + 10
    while (pids := run("ip", "netns", "pids", namespace, check=False).split()) and time.monotonic() < limit:
        count = max(count, len(pids))
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.02)
    return count


def remove(layout: Layout) -> list[str]:
    """Remove this sandbox's network, whoever made it; what was removed."""
    removed = []
    prefix = f"rctl-{layout.tag}-"
    for line in run("ip", "netns", "list", check=False).splitlines():
        name = line.split()[0] if line.split() else ""
        if name.startswith(prefix):
            run("ip", "netns", "delete", name, check=False)
            removed.append(f"network namespace {name}")
    devices = json.loads(run("ip", "-json", "link", "show", check=False) or "[]")
    for device in devices:
        if device["ifname"] == layout.bridge or device["ifname"].startswith(f"rv{layout.tag}-"):
            run("ip", "link", "delete", device["ifname"], check=False)
            removed.append(f"network device {device['ifname']}")
    for table in ("filter", "nat"):
        # First the rules that lead to chains of ours, then the chains.
        for line in run("iptables", "-w", "-t", table, "-S", check=False).splitlines():
            if f"runctl-sandbox-{layout.tag}" in line and line.startswith("-A "):
                rule = line.replace('"', "").split()
                run("iptables", "-w", "-t", table, "-D", *rule[1:], check=False)
                removed.append(f"iptables rule in {rule[1]}")
    chains = run("iptables", "-w", "-S", check=False).splitlines()
    for chain in _chains(layout).values():
        if f"-N {chain}" in chains:
            run("iptables", "-w", "-F", chain, check=False)
            run("iptables", "-w", "-X", chain, check=False)
            removed.append(f"iptables chain {chain}")
    release_forwarding(layout.bridge)
    return removed


def hold_forwarding(device: str) -> None:
    """This computer forwards packets for as long as that network device is there, or until `release_forwarding`."""
    with _locked():
        _FORWARDING.mkdir(mode=0o700, exist_ok=True)
        before = _FORWARDING / _BEFORE
        if not before.exists():
            before.write_text(_IP_FORWARD.read_text())
        (_FORWARDING / device).touch()
        _IP_FORWARD.write_text("1")


def release_forwarding(device: str) -> None:
    """The setting is as it was before the first who held it, once the last one is gone. Safe to repeat."""
    with _locked():
        if not _FORWARDING.is_dir():
            return
        (_FORWARDING / device).unlink(missing_ok=True)
        holders = [path for path in _FORWARDING.iterdir() if path.name != _BEFORE]
        if any(Path("/sys/class/net", holder.name).exists() for holder in holders):
            return
        before = _FORWARDING / _BEFORE
        if before.exists() and before.read_text().strip() == "0" and not _others_forward():
            _IP_FORWARD.write_text("0")
        for path in (*holders, before):
            path.unlink(missing_ok=True)
        _FORWARDING.rmdir()


def _others_forward() -> bool:
    """Whether another program of this computer has come to rely on forwarding: it found it switched on."""
    rules = run("iptables", "-w", "-S", check=False).upper()
    return any(name in rules for name in ("DOCKER", "LIBVIRT", "CNI-", "KUBE-", "NETAVARK", "PODMAN"))


def _chains(layout: Layout) -> dict[str, str]:
    """Our chains, by the one that leads there."""
    return {"INPUT": f"RCTL-{layout.tag}-IN", "FORWARD": f"RCTL-{layout.tag}-FWD"}


def _mark(layout: Layout) -> tuple[str, ...]:
    return "-m", "comment", "--comment", f"runctl-sandbox-{layout.tag}"


def inside(namespace: str, action: Callable[[], T]) -> T:
    """Run ``action`` in a thread that is in that network namespace; sockets it makes stay there."""
    result: list[T] = []
    failure: list[BaseException] = []

    def enter() -> None:
        try:
            with Path("/run/netns", namespace).open() as handle:
                _set_namespace(handle.fileno(), namespace)
            result.append(action())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that asked
            failure.append(error)

    thread = threading.Thread(target=enter, name=f"into-{namespace}")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def _set_namespace(descriptor: int, namespace: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"cannot enter network namespace {namespace}")


def listen(namespace: str, address: str, port: int) -> socket.socket:
    """A listening TCP socket in that namespace, served from here."""

    def make() -> socket.socket:
        return socket.create_server((address, port), backlog=64)

    return inside(namespace, make)


def _free_subnet() -> ipaddress.IPv4Network:
    taken = [
        ipaddress.IPv4Network(route["dst"], strict=False) for route in _routes() if route["dst"] != "default"
    ]
    for subnet in NETWORKS.subnets(new_prefix=24):
        if not any(subnet.overlaps(other) for other in taken):
            return subnet
    raise NetworkError(
        f"every network of {NETWORKS} is in use; runctl sandbox stop ends the sandbox that is yours"
    )


def _hardware_address(address: ipaddress.IPv4Address) -> str:
    """Of the range that is free for local use; no two IPv4 addresses share one."""
    return ":".join(f"{byte:02x}" for byte in b"\x02\x52" + address.packed)


def _outward_mtu() -> int:
    """That of the device to the outside: a larger one would lose packets on the way."""
    for route in _routes():
        if route["dst"] == "default" and "dev" in route:
            return int(Path("/sys/class/net", route["dev"], "mtu").read_text())
    return 1500


def _routes() -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(run("ip", "-json", "-4", "route", "show") or "[]")
    return found


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Two sandboxes that start at once take different subnets."""
    lock = os.open("/run/runctl-sandbox.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
