# start.sh COUNT [RESUME-ARG ...] COMMAND [ARG ...]
# Runs the command with its folders there and the newest checkpoint in RUNCTL_RESUME_FROM. Where there is one, COUNT
# resume arguments follow the command's own, with its path in place of {checkpoint}.
set -u
mkdir -p "$RUNCTL_CHECKPOINT_DIR" "$RUNCTL_OUTPUT_DIR"

# The newest file below a path is the one that "latest" names then, if none was newer before. A folder's own time is no
# help: who copies it makes it anew.
latest=
look_at() {
    if [ -d "$1" ]; then
        for below in "$1"/*; do
            look_at "$below"
        done
    elif [ -f "$1" ] && { [ -z "$latest" ] || [ "$1" -nt "$latest" ]; }; then
        latest=$1
    fi
}

# A name that begins with a dot, or ends so, is being written; notes beside checkpoints are not checkpoints.
newest=
newest_file=
for path in "$RUNCTL_CHECKPOINT_DIR"/*; do
    case "$path" in
        *.tmp | *.temp | *.part | *.partial) continue ;;
        *.json | *.jsonl | *.txt | *.csv | *.log | *.yaml | *.yml | *.md) continue ;;
    esac
    [ -d "$path" ] || [ -s "$path" ] || continue
    latest=
    look_at "$path"
    [ -n "$latest" ] || continue
    if [ -z "$newest" ] || [ "$latest" -nt "$newest_file" ]; then
        newest=$path newest_file=$latest
    fi
done
export RUNCTL_RESUME_FROM="$newest"

count=$1
shift
while [ "$count" -gt 0 ]; do
    argument=$1
    shift
    if [ -n "$newest" ]; then
        whole=
        while :; do
            case "$argument" in
                *'{checkpoint}'*)
                    whole=$whole${argument%%'{checkpoint}'*}$newest
                    argument=${argument#*'{checkpoint}'}
                    ;;
                *) break ;;
            esac
        done
        set -- "$@" "$whole$argument"
    fi
    count=$((count - 1))
done

# SIGTERM goes on to the command, which may save. If it then ends with 0, the run is not complete all the same.
stopped=0 child=
trap 'stopped=$((stopped + 1)); [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM
"$@" &
child=$!
[ "$stopped" -eq 0 ] || kill -TERM "$child" 2>/dev/null
code=
while :; do
    seen=$stopped
    wait "$child"
    last=$?
    # Of a command whose end has been told, there is nothing more to wait for: 127.
    if [ "$last" -ne 127 ] || [ -z "$code" ]; then
        code=$last
    fi
    # A signal ends the wait, not the command.
    [ "$stopped" -ne "$seen" ] || break
done
if [ "$stopped" -gt 0 ] && [ "$code" -eq 0 ]; then
    code=143
fi
exit "$code"
