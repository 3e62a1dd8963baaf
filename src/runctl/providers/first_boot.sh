# Makes a fresh machine ready for runctl's agent and says so in /var/lib/runctl/ready.json.
# Runs once, as root, at the first boot. The lines above this one set RUNCTL_USER, RUNCTL_LIMITS (JSON: what ends this
# machine), RUNCTL_GUARD (the program that does so), RUNCTL_MINUTES (when it ends if that program cannot be started, or
# empty) and RUNCTL_DOCKER (1 to install Docker where it is missing). No disk is touched here.
set -u
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
root="${RUNCTL_MACHINE_ROOT:-}"
state="$root/var/lib/runctl"
steps=''
all_well=true
docker=null

plain() {
    tr -c '[:alnum:] ._/:;,()@=+-' ' ' | tail -c 400
}

step() { # NAME true|false DETAIL
    detail=$(printf '%s' "$3" | plain)
    [ -z "$steps" ] || steps="$steps,"
    steps="$steps{\"name\":\"$1\",\"ok\":$2,\"detail\":\"$detail\"}"
    printf 'runctl: %s: %s %s\n' "$1" "$2" "$detail"
}

limited() { # SECONDS COMMAND...
    if command -v timeout >/dev/null 2>&1; then timeout "$@"; else shift; "$@"; fi
}

if [ -z "$root" ]; then
    guard=/usr/local/lib/runctl/guard.pyz
    unpack='import base64, sys, zlib; sys.stdout.buffer.write(zlib.decompress(base64.b85decode(sys.argv[1])))'
    if output=$( (mkdir -p "${guard%/*}" &&
        python3 -c "$unpack" "$RUNCTL_GUARD" >"$guard.new" && mv "$guard.new" "$guard" &&
        python3 -IS "$guard" install "$RUNCTL_LIMITS" "$(command -v python3)" -IS "$guard" run) 2>&1); then
        step limits true "$RUNCTL_LIMITS"
    else
        # A machine that cannot end itself must not be taken for one that does.
        all_well=false
        step limits false "$output"
        [ -z "$RUNCTL_MINUTES" ] || shutdown -h "+$RUNCTL_MINUTES"
    fi
fi

if output=$( (mkdir -p "$state" && chmod 755 "$state") 2>&1 ); then
    [ -n "$root" ] || chown "$RUNCTL_USER" "$state"
    step state true "$state"
else
    all_well=false
    step state false "$output"
fi

if command -v python3 >/dev/null 2>&1; then
    step python true "$(python3 --version 2>&1)"
else
    all_well=false
    step python false 'this image has no python3, which the agent needs'
fi

if [ "$RUNCTL_DOCKER" = 1 ] && [ -z "$root" ]; then
    if ! command -v docker >/dev/null 2>&1; then
        if command -v dnf >/dev/null 2>&1; then
            limited 300 dnf install -y -q docker >/tmp/runctl-docker.log 2>&1
        elif command -v yum >/dev/null 2>&1; then
            limited 300 yum install -y -q docker >/tmp/runctl-docker.log 2>&1
        elif command -v apt-get >/dev/null 2>&1; then
            { limited 120 apt-get -q -o DPkg::Lock::Timeout=120 update &&
                limited 300 apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends docker.io
            } >/tmp/runctl-docker.log 2>&1
        else
            echo 'the image has none of apt-get, dnf and yum' >/tmp/runctl-docker.log
        fi
    fi
    if command -v docker >/dev/null 2>&1; then
        getent group docker >/dev/null 2>&1 || groupadd docker
        usermod -a -G docker "$RUNCTL_USER"
        if output=$( (systemctl enable --now docker || service docker start) 2>&1 ); then
            tries=0
            until version=$(limited 20 docker version --format '{{.Server.Version}}' 2>&1); do
                tries=$((tries + 1))
                [ "$tries" -lt 30 ] || break
                sleep 1
            done
            if [ "$tries" -lt 30 ]; then
                docker="\"$(printf '%s' "$version" | plain)\""
                step docker true "$version"
            else
                step docker false "docker does not answer: $version"
            fi
        else
            step docker false "docker could not be started: $output"
        fi
    else
        step docker false "docker could not be installed: $(tail -n 3 /tmp/runctl-docker.log 2>/dev/null)"
    fi
fi

printf '{"ok":%s,"docker":%s,"user":"%s","finished_at":%s,"steps":[%s]}\n' \
    "$all_well" "$docker" "$RUNCTL_USER" "$(date +%s)" "$steps" >"$state/ready.json.new" &&
    mv "$state/ready.json.new" "$state/ready.json" &&
    chmod 644 "$state/ready.json"
