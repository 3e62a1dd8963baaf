"""The commands that a folder machine brings itself, because this computer's own would act on the computer.

POSIX sh, found first on the machine's PATH. What would change the computer is refused with a reason.
"""

from __future__ import annotations

from pathlib import Path

SUDO = """\
#!/bin/sh
# The machine has one user, who may do everything in its folder: the command runs as it is.
while [ $# -gt 0 ]; do
  case $1 in
    --) shift; break ;;
    -u|-g|-p|-C|-r|-t|-D|-R|-T|-U|-h|--user|--group|--prompt|--chdir|--host) shift 2 || shift ;;
    -v|-k|-K|-l|--validate|--reset-timestamp|--list) exit 0 ;;
    -i|-s|--login|--shell) login=yes; shift ;;
    -*) shift ;;
    *) break ;;
  esac
done
if [ $# -eq 0 ]; then
  [ -n "$login" ] && exec /bin/sh
  exit 0
fi
exec env "$@"
"""

RUNUSER = """\
#!/bin/sh
# `runuser -u USER -- COMMAND...`, `runuser [-l] USER -c COMMAND` and su's forms: the machine has one user.
user= script=
while [ $# -gt 0 ]; do
  case $1 in
    --) shift; break ;;
    -u) user=$2; shift 2 ;;
    -c|--command|--session-command) script=$2; shift 2 ;;
    -g|-G|-s|-w|--group|--supp-group|--shell|--whitelist-environment) shift 2 ;;
    -*) shift ;;
    *) if [ -n "$user" ]; then break; fi; user=$1; shift ;;
  esac
done
[ -n "$script" ] && exec /bin/sh -c "$script" "$@"
[ $# -eq 0 ] && exec /bin/sh
exec "$@"
"""

SHUTDOWN = """\
#!/bin/sh
# Leaves a request for whoever runs this machine: its action, and when, in seconds since the epoch.
request=$RUNCTL_MACHINE_ROOT/run/shutdown-request
scheduled=$RUNCTL_MACHINE_ROOT/run/systemd/shutdown/scheduled
action=poweroff when=now
case ${0##*/} in reboot) action=reboot ;; esac
for word in "$@"; do
  case $word in
    -c) rm -f "$request" "$scheduled"; exit 0 ;;
    -r|--reboot) action=reboot ;;
    -h|-H|-P|--halt|--poweroff|-f|--force|--no-wall|-n|-w|-q) ;;
    now|+*) when=$word ;;
    [0-9]|[0-9][0-9]|[0-9][0-9][0-9]) when=+$word ;;
    -*) echo "${0##*/}: $word is not supported on a sandbox machine" >&2; exit 1 ;;
    *) break ;;
  esac
done
# As on a real machine, shutdown without a time means in a minute; the others mean now.
if [ $# -eq 0 ] && [ "${0##*/}" = shutdown ]; then when=+1; fi
at=$(date +%s)
case $when in
  +*)
    at=$((at + 60 * ${when#+})) || exit 1
    # What is planned can be seen where systemd shows it.
    mkdir -p "${scheduled%/*}"
    printf 'USEC=%s000000\\nWARN_WALL=1\\nMODE=%s\\n' "$at" "$action" > "$scheduled.$$" &&
      mv "$scheduled.$$" "$scheduled"
    ;;
esac
printf '%s %s\\n' "$action" "$at" > "$request.$$" && mv "$request.$$" "$request"
"""

SYSTEMCTL = """\
#!/bin/sh
# No systemd here, and no Docker.
verb= unit= quiet=
for word in "$@"; do
  case $word in
    -q|--quiet) quiet=yes ;;
    -*) ;;
    *) if [ -z "$verb" ]; then verb=$word; elif [ -z "$unit" ]; then unit=$word; fi ;;
  esac
done
case $verb in
  poweroff|halt) exec shutdown -P now ;;
  reboot) exec shutdown -r now ;;
  daemon-reload|daemon-reexec|reset-failed) exit 0 ;;
  is-system-running) echo offline; exit 1 ;;
  is-active) [ -n "$quiet" ] || echo inactive; exit 3 ;;
  is-enabled) [ -n "$quiet" ] || echo not-found; exit 4 ;;
esac
echo "Failed to ${verb:-list units}${unit:+ $unit}: not available here: this sandbox machine is a folder, without \
systemd and Docker" >&2
exit 5
"""

SERVICE = """\
#!/bin/sh
[ $# -ge 2 ] || { echo "Usage: service NAME start|stop|restart|status" >&2; exit 2; }
exec systemctl "$2" "$1"
"""

CLOUD_INIT = """\
#!/bin/sh
# `cloud-init status [--wait]`
[ "$1" = status ] || { echo "cloud-init: only status is supported on a sandbox machine" >&2; exit 1; }
folder=$RUNCTL_MACHINE_ROOT/var/lib/cloud/instance
if [ "$2" = --wait ]; then
  until [ -e "$folder/boot-finished" ]; do sleep 0.2; done
fi
if [ ! -e "$folder/boot-finished" ]; then echo "status: running"; exit 0; fi
if [ -e "$folder/user-data-failed" ]; then echo "status: error"; exit 1; fi
echo "status: done"
"""

REFUSE = """\
#!/bin/sh
echo "${0##*/}: not available here: this sandbox machine is a folder of your computer, and this would change the \
computer itself" >&2
exit 127
"""

NO_DOCKER = """\
#!/bin/sh
echo "${0##*/}: not available here: a sandbox machine that is a folder has no Docker (it needs root and Linux \
namespaces)" >&2
exit 127
"""

SHIMS = {
    "sudo": SUDO,
    **dict.fromkeys(("runuser", "su"), RUNUSER),
    **dict.fromkeys(("shutdown", "poweroff", "halt", "reboot"), SHUTDOWN),
    "systemctl": SYSTEMCTL,
    "service": SERVICE,
    "cloud-init": CLOUD_INIT,
    **dict.fromkeys(("docker", "dockerd", "docker-compose", "podman", "nerdctl"), NO_DOCKER),
    **dict.fromkeys(
        (
            *("apt", "apt-get", "dpkg", "dnf", "yum", "rpm", "snap"),
            *("mount", "umount", "losetup", "wipefs", "parted", "fdisk", "sfdisk", "diskutil"),
            *("mkfs", "mkfs.ext4", "mkfs.xfs", "mke2fs", "mkswap", "swapon", "swapoff"),
            *("useradd", "usermod", "userdel", "groupadd", "passwd", "chpasswd", "visudo"),
            *("sysctl", "modprobe", "iptables", "nft", "systemd-run", "hostnamectl", "timedatectl"),
        ),
        REFUSE,
    ),
}
"""By command name."""


def install(folder: Path) -> None:
    """Write the commands into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in SHIMS.items():
        path = folder / name
        path.write_text(text)
        path.chmod(0o755)
