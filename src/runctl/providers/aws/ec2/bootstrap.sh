# Makes a fresh machine ready for runctl's agent and says so in /var/lib/runctl/ready.json.
# Runs once, as root, at the first boot. The lines above this one set RUNCTL_USER, RUNCTL_DEADLINE (seconds since
# the epoch, or empty), RUNCTL_DOCKER (1 to install Docker where it is missing) and RUNCTL_UNUSED (the seconds after which
# a machine without a run ends itself, or empty). No disk is touched here.
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

if [ -n "$RUNCTL_DEADLINE" ] && [ -z "$root" ]; then
    mkdir -p /usr/local/sbin
    cat >/usr/local/sbin/runctl-deadline <<'END'
#!/bin/sh
# Ends this machine at its deadline, also after a reboot.
minutes=$(( (DEADLINE - $(date +%s) + 59) / 60 ))
[ "$minutes" -gt 0 ] || minutes=0
exec shutdown -h "+$minutes"
END
    sed -i "s/DEADLINE/$RUNCTL_DEADLINE/" /usr/local/sbin/runctl-deadline
    chmod 755 /usr/local/sbin/runctl-deadline
    if [ -d /etc/systemd/system ]; then
        cat >/etc/systemd/system/runctl-deadline.service <<'END'
[Unit]
Description=End this machine at the deadline that runctl set
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/runctl-deadline
[Install]
WantedBy=multi-user.target
END
        systemctl enable runctl-deadline.service >/dev/null 2>&1
    fi
    if output=$(/usr/local/sbin/runctl-deadline 2>&1); then
        step ttl true "$output"
    else
        # A machine that cannot end itself must not be taken for one that does.
        all_well=false
        step ttl false "$output"
    fi
fi

if [ -n "$RUNCTL_UNUSED" ] && [ -z "$root" ]; then
    mkdir -p /usr/local/sbin
    cat >/usr/local/sbin/runctl-unused <<'END'
#!/bin/sh
# Ends this machine when no run was started on it in time. What was written within half an hour, such as a project that
# is being sent, says that somebody is about to.
left=UNUSED
while [ -z "$(ls -A /var/lib/runctl/runs 2>/dev/null)" ]; do
    if [ "$left" -le 0 ] && [ -z "$(find /var/lib/runctl -cmin -30 -print -quit 2>/dev/null)" ]; then
        shutdown -h now
        left=600
    fi
    pause=60
    [ "$left" -le 0 ] || [ "$left" -ge "$pause" ] || pause=$left
    sleep "$pause"
    left=$((left - pause))
done
END
    sed -i "s/UNUSED/$RUNCTL_UNUSED/" /usr/local/sbin/runctl-unused
    chmod 755 /usr/local/sbin/runctl-unused
    if [ -d /run/systemd/system ]; then
        cat >/etc/systemd/system/runctl-unused.service <<'END'
[Unit]
Description=End this machine when no run was started on it
[Service]
ExecStart=/usr/local/sbin/runctl-unused
[Install]
WantedBy=multi-user.target
END
        output=$(systemctl enable runctl-unused.service 2>&1 && systemctl start --no-block runctl-unused.service 2>&1)
    else
        output=$(setsid /usr/local/sbin/runctl-unused </dev/null >/dev/null 2>&1 &)
    fi
    started=$?
    if [ "$started" = 0 ]; then
        step unused true "$RUNCTL_UNUSED seconds"
    else
        all_well=false
        step unused false "$output"
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
