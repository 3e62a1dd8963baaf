"""What this machine has for the tests that need more than Python: one probe a marker, each with the reason in words."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where daemons live; not on an ordinary user's PATH."""


def find_program(name: str) -> str | None:
    """Where ``name`` is, system folders included."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS])
    return shutil.which(name, path=path)


def missing_programs(*names: str) -> str:
    """The reason why a test cannot run, or an empty string."""
    absent = [name for name in names if find_program(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


def no_linux() -> str:
    """Empty on Linux."""
    return "" if sys.platform == "linux" else f"needs Linux, this is {sys.platform}"


def no_root() -> str:
    """Empty for root."""
    return "" if os.geteuid() == 0 else "needs root"


def no_sshd() -> str:
    """Empty where OpenSSH's server and client are."""
    return missing_programs("sshd", "ssh", "ssh-keygen")


def no_docker() -> str:
    """Empty where a Docker engine of our own can be started."""
    return no_linux() or no_root() or missing_programs("dockerd", "containerd", "docker", "iptables")


def no_namespaces() -> str:
    """Empty where a process can get namespaces of its own, an overlay, a loop device and a network."""
    reason = no_linux() or no_root()
    reason = reason or missing_programs("unshare", "nsenter", "ip", "iptables", "losetup", "mkfs.ext4")
    if reason:
        return reason
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "the kernel has no overlay file system"
    if not Path("/dev/loop-control").exists():
        return "the kernel has no loop devices here"
    probe = subprocess.run(
        ["unshare", "--mount", "--pid", "--net", "--uts", "--fork", "mount", "-t", "tmpfs", "probe", "/mnt"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return f"namespaces are refused: {probe.stderr.strip()}" if probe.returncode else ""


def no_compose() -> str:
    """Empty where there is the plug-in, or the program of before."""
    reason = no_docker()
    if reason:
        return reason
    probe = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return "" if probe.returncode == 0 else missing_programs("docker-compose")


PLUGIN_FOLDERS = ("/opt/tf-plugins", "~/.terraform.d/plugins", "/usr/local/share/terraform/plugins")
"""Where Terraform's providers may be kept, so that nothing has to be downloaded."""


def terraform_plugins() -> Path | None:
    """The folder that has Terraform's AWS provider."""
    folders = (Path(each).expanduser() for each in PLUGIN_FOLDERS)
    aws = "registry.terraform.io/hashicorp/aws"
    return next((each for each in folders if any((each / aws).glob("*/*/terraform-provider-aws*"))), None)


def terraform_environment(folder: Path) -> dict[str, str]:
    """Variables with which Terraform takes its providers from that folder, without a network; the settings are written
    into ``folder``."""
    settings = folder / "terraform.rc"
    mirror = f'filesystem_mirror {{\n path = "{terraform_plugins()}"\n }}'
    settings.write_text(f"provider_installation {{\n {mirror}\n}}\n")
    plain = {f"TF_CLI_ARGS_{command}": "-no-color" for command in ("init", "plan", "apply", "destroy")}
    return {"TF_CLI_CONFIG_FILE": str(settings), "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", **plain}


def no_terraform() -> str:
    """Empty where Terraform is, with its AWS provider: no package index has them."""
    missing = missing_programs("terraform") or (
        "" if terraform_plugins() else f"its AWS provider is not in {' or '.join(PLUGIN_FOLDERS)}"
    )
    return f"{ONLY_ON} computers with Terraform: {missing}" if missing else ""


ONLY_ON = "only on"
"""What a reason begins with that excuses a skip in CI, too."""

PROBES: Mapping[str, Callable[[], str]] = {
    "linux": no_linux,
    "root": no_root,
    "sshd": no_sshd,
    "docker": no_docker,
    "compose": no_compose,
    "namespaces": no_namespaces,
    "terraform": no_terraform,
}
"""By marker. ``slow`` needs nothing."""


@functools.cache
def reason_against(marker: str) -> str:
    """Why tests with this marker cannot run here; empty when they can. Looked up once."""
    return PROBES[marker]()


def is_ci(environment: Mapping[str, str]) -> bool:
    """Whether a test that did not run is a failure."""
    return environment.get("CI", "").lower() in {"1", "true", "yes"}


def is_excused(reason: str) -> bool:
    """Whether a skip is about another platform, or what no package index has, and not about something missing here."""
    return re.match(rf"(Skipped: )?(\w+: )?{ONLY_ON} ", reason) is not None
