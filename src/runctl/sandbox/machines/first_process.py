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
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    import cloud_init  # type: ignore[import-not-found]  # beside this file
    import disk_face  # type: ignore[import-not-found]
    import own_cgroup  # type: ignore[import-not-found]
    import own_kernel  # type: ignore[import-not-found]
    import own_paths  # type: ignore[import-not-found]
    import systemd_init  # type: ignore[import-not-found]
else:
    from runctl.sandbox.machines import cloud_init, disk_face, own_cgroup, own_kernel, own_paths, systemd_init

POWER = "run/runctl-sandbox/power"
NODES = ("null", "zero", "full", "random", "urandom", "tty", "fuse", "kmsg")
UP = str(cloud_init.UP)
"""Appears when sshd listens, or earlier, when user data is carried out before that."""
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
SWITCHES = {"cloud-init": CLOUD_INIT}
POWER_SWITCHES = {
    "shutdown": SHUTDOWN,
    "poweroff": "#!/bin/sh\nexec /usr/local/sbin/shutdown -P now\n",
    "halt": "#!/bin/sh\nexec /usr/local/sbin/shutdown -h now\n",
    "reboot": "#!/bin/sh\nexec /usr/local/sbin/shutdown -r now\n",
}
"""What systemd has itself."""


def main() -> int:
    """Boot, and run until power-off."""
    boot = json.load(sys.stdin)
    root = Path(boot["root"])
    if boot["systemd"]:
        own_cgroup.enter(boot["machine"])
    build_root(root, boot)
    subprocess.run(
        [
            *(sys.executable, "-IS", boot["docker_engine"], "prepare", str(root)),
            *(["--systemd"] if boot["systemd"] else []),
        ],
        input=json.dumps(boot["docker"]).encode(),
        check=True,
    )
    install_switches(root, systemd=bool(boot["systemd"]))
    if boot["systemd"]:
        systemd_init.install(
            root,
            cloud_init=boot["cloud_init"],
            up=UP,
            environment=boot["environment"],
            hub=boot["hub_command"],
            dockerd=boot["dockerd"],
        )
    own_kernel.shield(root, mount)
    own_kernel.move_into(root)
    own_kernel.drop_capabilities()
    os.environ.clear()
    os.environ.update({"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/root", **boot["environment"]})
    console = Path("/var/log/console.log").open("ab", buffering=0)  # noqa: SIM115 - open for as long as the machine runs
    for descriptor in (1, 2):
        os.dup2(console.fileno(), descriptor)
    if boot["systemd"]:
        systemd_init.begin(boot["systemd"], {"PATH": PATH, "LANG": "C.UTF-8"})
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    subprocess.run([*boot["cloud_init"], "early"], check=False, stdin=subprocess.DEVNULL)
    start_services(boot)
    Path(UP).touch()
    # A process of its own: this one reaps whatever ends, also what another part of it waits for.
    subprocess.Popen([*boot["cloud_init"], "final"], stdin=subprocess.DEVNULL, start_new_session=True)
    return reap_until_power_goes()


def build_root(root: Path, boot: dict[str, Any]) -> None:
    """Mount everything below ``root`` that a machine has."""
    lower = "/"
    if boot["image"]:
        image = root.with_name("image")
        mount("-o", "loop,ro", boot["image"], str(image))
        lower = f"{image}:/"
    layers = f"lowerdir={lower},upperdir={boot['upper']},workdir={boot['work']}"
    mount("-t", "overlay", "-o", layers, "overlay", str(root))
    mount("-t", "proc", "proc", str(own_paths.make_folder(root, "proc")))
    mount("-t", "sysfs", "sysfs", str(own_paths.make_folder(root, "sys")))
    for folder, mode in (("run", "755"), ("tmp", "1777"), ("dev", "755")):
        mount("-t", "tmpfs", "-o", f"mode={mode}", "tmpfs", str(own_paths.make_folder(root, folder)))
    dev = own_paths.resolve(root, "dev")
    # The kernel's log is this computer's; systemd would write into it.
    for name in (each for each in NODES if not (boot["systemd"] and each == "kmsg")):
        source = Path("/dev") / name
        if source.exists():
            info = source.stat()
            os.mknod(dev / name, info.st_mode, info.st_rdev)
            os.chmod(dev / name, info.st_mode & 0o7777)  # noqa: PTH101 - the umask took part of it
    for folder in ("dev/pts", "dev/shm", "dev/disk/by-id", "run/sshd", "run/lock", "run/runctl-sandbox"):
        own_paths.make_folder(root, folder)
    mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=0620,gid=5", "devpts", str(dev / "pts"))
    mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", str(dev / "shm"))
    for link, target in (("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0")):
        (dev / link).symlink_to(target)
    (dev / "stdout").symlink_to("/proc/self/fd/1")
    (dev / "stderr").symlink_to("/proc/self/fd/2")
    for folder, path in boot["shares"]:
        mount("--bind", folder, str(own_paths.make_folder(root, path)))
    subprocess.run(["hostname", boot["hostname"]], check=True)
    disk_face.prepare(root, mount)


def start_services(boot: dict[str, Any]) -> None:
    """sshd, and what `docker_engine.prepare` left to be started."""
    if Path("/usr/sbin/sshd").exists():
        subprocess.run(["/usr/sbin/sshd", "-f", "/etc/ssh/sshd_config"], check=False)
    subprocess.run(boot["boot_command"], check=False, stdin=subprocess.DEVNULL)
    if Path("/etc/fstab").exists():
        subprocess.run(["mount", "--all"], check=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def install_switches(root: Path, *, systemd: bool) -> None:
    """``cloud-init status``, and where there is no systemd ``shutdown`` and the like, which tell the first process."""
    for name, text in {**SWITCHES, **({} if systemd else POWER_SWITCHES)}.items():
        own_paths.write(root, f"usr/local/sbin/{name}", text).chmod(0o755)


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
