"""The first process of a sandbox machine. Runs as pid 1 in namespaces of its own; standard library only.

Reads what it is to boot as JSON from stdin, builds the machine's root, moves into it, starts what a machine starts, and
from then on reaps. What is in ``/run/runctl-sandbox/power`` ends it: ``poweroff`` or ``reboot``, and when, in seconds
since the epoch.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    import disk_face  # type: ignore[import-not-found]  # beside this file
    import own_kernel  # type: ignore[import-not-found]
else:
    from runctl.sandbox.machines import disk_face, own_kernel

POWER = "run/runctl-sandbox/power"
NODES = ("null", "zero", "full", "random", "urandom", "tty", "fuse", "kmsg")
UP = "/var/lib/runctl-sandbox-up"
"""Appears on the root disk when sshd listens."""
EXIT_CODES = {"poweroff": 80, "reboot": 81}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


SHUTDOWN = """#!/bin/sh
# The words of shutdown(8) that scripts use: -h -P -r -c now +N. Nothing of it stays behind: the first process waits.
power=/run/runctl-sandbox/power scheduled=/run/systemd/shutdown/scheduled
word=poweroff minutes=1
for argument in "$@"; do
    case $argument in
        -r) word=reboot ;;
        -h|-P) word=poweroff ;;
        -c) rm -f $power $scheduled; exit ;;
        now) minutes=0 ;;
        +*) minutes=${argument#+} ;;
    esac
done
at=$(($(date +%s) + minutes * 60))
# What is planned can be seen where systemd shows it.
if [ "$minutes" -gt 0 ]; then
    mkdir -p "${scheduled%/*}"
    printf 'USEC=%s000000\\nWARN_WALL=1\\nMODE=%s\\n' "$at" "$word" > $scheduled.$$ && mv $scheduled.$$ $scheduled
fi
echo "$word $at" > $power.$$ && mv $power.$$ $power
"""
CLOUD_INIT = """#!/bin/sh
finished=/var/lib/cloud/instance/boot-finished
if [ "$1 $2" = "status --wait" ]; then
    while [ ! -e "$finished" ]; do sleep 0.1; done
fi
if [ ! -e "$finished" ]; then echo "status: running"; exit 0; fi
if [ -e /var/lib/cloud/instance/error ]; then echo "status: error"; exit 1; fi
echo "status: done"
"""
SWITCHES = {
    "shutdown": SHUTDOWN,
    "poweroff": "#!/bin/sh\nexec /usr/local/sbin/shutdown -P now\n",
    "halt": "#!/bin/sh\nexec /usr/local/sbin/shutdown -h now\n",
    "reboot": "#!/bin/sh\nexec /usr/local/sbin/shutdown -r now\n",
    "cloud-init": CLOUD_INIT,
}


def main() -> int:
    """Boot, and run until power-off."""
    boot = json.load(sys.stdin)
    root = Path(boot["root"])
    build_root(root, boot)
    subprocess.run(
        [sys.executable, "-IS", boot["docker_engine"], "prepare", str(root)],
        input=json.dumps(boot["docker"]).encode(),
        check=True,
    )
    install_power_switches(root)
    own_kernel.shield(root, mount)
    own_kernel.move_into(root)
    own_kernel.drop_capabilities()
    os.environ.clear()
    os.environ.update({"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/root", **boot["environment"]})
    console = Path("/var/log/console.log").open("ab", buffering=0)  # noqa: SIM115 - open for as long as the machine runs
    for descriptor in (1, 2):
        os.dup2(console.fileno(), descriptor)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    start_services(boot)
    Path(UP).touch()
    run_boot_scripts()
    if boot["user_data"] is not None:
        threading.Thread(target=run_user_data, args=(boot["user_data"],), daemon=True).start()
    else:
        finish_boot()
    return reap_until_power_goes()


def build_root(root: Path, boot: dict[str, Any]) -> None:
    """Mount everything below ``root`` that a machine has."""
    layers = f"lowerdir=/,upperdir={boot['upper']},workdir={boot['work']}"
    mount("-t", "overlay", "-o", layers, "overlay", str(root))
    mount("-t", "proc", "proc", str(root / "proc"))
    mount("-t", "sysfs", "sysfs", str(root / "sys"))
    for folder, mode in (("run", "755"), ("tmp", "1777"), ("dev", "755")):
        mount("-t", "tmpfs", "-o", f"mode={mode}", "tmpfs", str(root / folder))
    for name in NODES:
        source = Path("/dev") / name
        if source.exists():
            info = source.stat()
            os.mknod(root / "dev" / name, info.st_mode, info.st_rdev)
            os.chmod(root / "dev" / name, info.st_mode & 0o7777)  # noqa: PTH101 - the umask took part of it
    for folder in ("dev/pts", "dev/shm", "dev/disk/by-id", "run/sshd", "run/lock", "run/runctl-sandbox"):
        (root / folder).mkdir(parents=True)
    mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=0620,gid=5", "devpts", str(root / "dev/pts"))
    mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", str(root / "dev/shm"))
    for link, target in (("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0")):
        (root / "dev" / link).symlink_to(target)
    (root / "dev/stdout").symlink_to("/proc/self/fd/1")
    (root / "dev/stderr").symlink_to("/proc/self/fd/2")
    for folder, path in boot["shares"]:
        point = root / path.lstrip("/")
        point.mkdir(parents=True, exist_ok=True)
        mount("--bind", folder, str(point))
    subprocess.run(["hostname", boot["hostname"]], check=True)
    disk_face.prepare(root, mount)


def start_services(boot: dict[str, Any]) -> None:
    """sshd, and what `docker_engine.prepare` left to be started."""
    if Path("/usr/sbin/sshd").exists():
        subprocess.run(["/usr/sbin/sshd", "-f", "/etc/ssh/sshd_config"], check=False)
    subprocess.run(boot["boot_command"], check=False, stdin=subprocess.DEVNULL)
    if Path("/etc/fstab").exists():
        subprocess.run(["mount", "--all"], check=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def install_power_switches(root: Path) -> None:
    """``shutdown`` and the like, which tell the first process instead of systemd; and ``cloud-init status``."""
    folder = root / "usr/local/sbin"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in SWITCHES.items():
        path = folder / name
        path.write_text(text)
        path.chmod(0o755)


def run_boot_scripts() -> None:
    """As cloud-init does on every boot, before user data (its module ``scripts-per-boot``)."""
    folder = Path("/var/lib/cloud/scripts/per-boot")
    with Path("/var/log/cloud-init-output.log").open("ab") as log:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            subprocess.run(
                [str(path)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False, cwd="/"
            )


def run_user_data(text: str) -> None:
    """As cloud-init does on the first boot: run it as root, keep what it says, mark the end."""
    folder = Path("/var/lib/cloud/instance")
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "boot-finished"
    if done.exists():
        return
    script = folder / "user-data.txt"
    script.write_text(text)
    script.chmod(0o700)
    if text.startswith("#!"):
        with Path("/var/log/cloud-init-output.log").open("ab") as log:
            code = subprocess.run(
                [str(script)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False, cwd="/"
            ).returncode
        if code:
            (folder / "error").write_text(f"user-data ended with {code}\n")
    finish_boot()


def finish_boot() -> None:
    """What ``cloud-init status --wait`` waits for."""
    folder = Path("/var/lib/cloud/instance")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "boot-finished").write_text(time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime()) + "\n")


def reap_until_power_goes() -> int:
    """Reap orphans; return when a process of the machine has asked for its end."""
    power = Path("/") / POWER
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        action = due(power)
        if action is not None:
            power.unlink(missing_ok=True)
            shut_down()
            return EXIT_CODES[action]
        time.sleep(0.1)


def due(power: Path) -> str | None:
    """What is to happen now. It may be half written, and may be taken back at any moment."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        action, at = power.read_text().split()
        if time.time() >= float(at):
            return action
    return None


def shut_down() -> None:
    """As an orderly shutdown: no logins any more, SIGTERM to all, a moment, SIGKILL, disks flushed and unmounted."""
    Path("/run/nologin").write_text("System is going down.\n")
    for how, patience in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 1.0)):
        try:
            os.kill(-1, how)
        except ProcessLookupError:
            break
        limit = time.monotonic() + patience
        while time.monotonic() < limit:
            try:
                if not os.waitpid(-1, os.WNOHANG)[0]:
                    time.sleep(0.02)
            except ChildProcessError:
                break
    os.sync()


def mount(*arguments: str) -> None:
    """As the program does it."""
    subprocess.run(["mount", *arguments], check=True)


if __name__ == "__main__":
    sys.exit(main())
