# What every script here needs: the tools, the environment, and a word about what is missing. Sourced, not run.
# shellcheck shell=sh

REPOSITORY=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
UV_VERSION=0.13.9
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/runctl
LEFT_OUT=''
POLICY=/usr/sbin/policy-rc.d

# Daemons and file system tools live where an ordinary user's PATH does not look.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH
# Set in many container images. Without what Python has compiled before, every command compiles boto3 first.
unset PYTHONDONTWRITEBYTECODE

say() {
    printf '%s\n' "$*" >&2
}

fail() {
    say "error: $1"
    [ -z "${2-}" ] || say "hint: $2"
    exit 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

is_root() {
    [ "$(id -u)" -eq 0 ]
}

# What was left out, and why: told when a script ends.
leave_out() {
    LEFT_OUT="$LEFT_OUT
  - $1"
}

tell_left_out() {
    [ -z "$LEFT_OUT" ] || say "Left out:$LEFT_OUT"
}

# The Debian packages that are missing, one a line.
missing_packages() {
    while read -r program package; do
        has "$program" || printf '%s\n' "$package"
    done <<END
git git
ssh openssh-client
rsync rsync
END
    find_uv || python_with_venv >/dev/null || printf '%s\n' python3 python3-venv
    [ "$(uname -s)" = Linux ] || return 0
    while read -r program package; do
        has "$program" || printf '%s\n' "$package"
    done <<END
dockerd docker.io
docker-registry docker-registry
debootstrap debootstrap
sshd openssh-server
sudo sudo
ip iproute2
iptables iptables
unshare util-linux
lsblk util-linux
losetup mount
mkfs.ext4 e2fsprogs
mkfs.xfs xfsprogs
sfdisk fdisk
END
    docker compose version >/dev/null 2>&1 || has docker-compose || printf '%s\n' docker-compose
    [ ! -x "$(command -v dpkg-query)" ] || dpkg-query -s busybox-static >/dev/null 2>&1 || printf '%s\n' busybox-static
    [ -e /etc/ssl/certs/ca-certificates.crt ] || [ -e /etc/pki/tls/certs/ca-bundle.crt ] || printf '%s\n' ca-certificates
}

# Installs what is missing where that is possible; says what that is where it is not.
system_packages() {
    packages=$(missing_packages | sort -u | tr '\n' ' ')
    [ -n "$packages" ] || return 0
    if [ "${RUNCTL_SETUP_APT-}" = no ]; then
        leave_out "system packages, as RUNCTL_SETUP_APT=no asks: $packages"
    elif ! has apt-get; then
        leave_out "programs of these Debian packages, install them with this system's own tool: $packages"
    elif ! is_root; then
        leave_out "system packages, only root may install them: apt-get install $packages"
    else
        say "Installing with apt: $packages"
        # shellcheck disable=SC2086
        install_packages $packages
    fi
}

# No daemon may start because its package was installed, now or at the next boot; the machine's own policy is
# put back as it was, also after a failure.
install_packages() (
    log=$(mktemp)
    policy=$POLICY
    saved=$policy.before-runctl
    if [ ! -e "$saved" ] && { [ -e "$policy" ] || [ -L "$policy" ]; } && ! grep -q 'written by runctl' "$policy"; then
        mv "$policy" "$saved"
    fi
    # Called by the trap.
    # shellcheck disable=SC2317,SC2329
    restore() {
        rm -f "$policy" "$log"
        [ ! -e "$saved" ] || mv "$saved" "$policy"
    }
    trap restore EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    printf '#!/bin/sh\n# written by runctl while it installs packages\nexit 101\n' >"$policy"
    chmod 755 "$policy"

    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    # The package lists may be missing or stale; they are fetched when that has shown.
    if ! apt_get install "$@" >"$log" 2>&1; then
        apt_get update >"$log" 2>&1 || true
        if ! apt_get install "$@" >>"$log" 2>&1; then
            tail -n 20 "$log" >&2
            fail "apt could not install: $*" 'what apt said is above'
        fi
    fi
    has systemctl || exit 0
    for package; do
        case $package in
            openssh-server) systemctl --quiet disable ssh.service ssh.socket ;;
            docker.io) systemctl --quiet disable docker.service docker.socket containerd.service ;;
            docker-registry) systemctl --quiet disable docker-registry.service ;;
        esac >/dev/null 2>&1 || true
    done
)

apt_get() {
    apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" </dev/null
}

# The first Python on PATH that can make a virtual environment.
python_with_venv() {
    for python in python3.14 python3.13 python3.12 python3.11 python3 /usr/bin/python3; do
        if has "$python" && "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
            printf '%s\n' "$python"
            return 0
        fi
    done
    return 1
}

# Sets UV to a uv that works: the one on PATH, else the private one.
find_uv() {
    if has uv && uv --version >/dev/null 2>&1; then
        UV=$(command -v uv)
    elif [ -x "$CACHE/uv-$UV_VERSION/bin/uv" ]; then
        UV=$CACHE/uv-$UV_VERSION/bin/uv
    else
        return 1
    fi
}

install_uv() {
    python=$(python_with_venv) || fail 'there is no Python with venv, and no uv' 'install python3-venv, or uv'
    say "Installing uv $UV_VERSION into $CACHE"
    mkdir -p "$CACHE"
    partial=$(mktemp -d "$CACHE/uv-XXXXXX")
    # Two that do this at once each make their own; the first stays.
    if ! "$python" -m venv "$partial" ||
        ! "$partial/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"; then
        rm -rf "$partial"
        fail 'uv could not be installed' 'is the package index reachable? pip says more above'
    fi
    if [ -d "$CACHE/uv-$UV_VERSION" ]; then rm -rf "$partial"; else mv "$partial" "$CACHE/uv-$UV_VERSION"; fi
    UV=$CACHE/uv-$UV_VERSION/bin/uv
}

# Afterwards the project's environment is complete, and `runctl`, `python` and `uv` are those of it.
setup() {
    system_packages
    find_uv || install_uv
    "$UV" sync --frozen --quiet --project "$REPOSITORY" || fail 'the environment could not be made' 'uv says why above'
    PATH=$REPOSITORY/.venv/bin:$(dirname -- "$UV"):$PATH
    export PATH
    unset VIRTUAL_ENV
}
