# start.sh COUNT [RESUME-ARG ...] COMMAND [ARG ...]
# Runs the command with its folders there and the newest checkpoint in RUNCTL_RESUME_FROM. Where there is one, COUNT
# resume arguments follow the command's own, with its path in place of {checkpoint}.
set -u
mkdir -p "$RUNCTL_CHECKPOINT_DIR" "$RUNCTL_OUTPUT_DIR"
. "${0%/*}/checkpoints.sh"

# Whether the names and sizes in a folder say that it is not complete, as runctl.agent.checkpoints.folders has it. What
# is in its files is not read, but for two indexes, where the image has grep, sed and tr.
is_incomplete() {
    has_unfinished "$1" && return 0
    case "${1##*/}" in
        *.ckpt) [ ! -e "$1/.metadata" ] || [ -e "$1/meta.pt" ] || return 0 ;;
        checkpoint- | checkpoint-*[!0-9]*) ;;
        checkpoint-*) [ ! -e "$1/training_args.bin" ] || [ -e "$1/trainer_state.json" ] || return 0 ;;
    esac
    lacks_distributed "$1" || lacks_shard "$1"
}

# Whether a file below is still being written.
has_unfinished() {
    for file in "$1"/* "$1"/.[!.]*; do
        if [ -h "$file" ]; then
            continue
        elif [ -d "$file" ]; then
            has_unfinished "$file" && return 0
        elif [ -f "$file" ]; then
            [ "${file##*/}" = .metadata ] || ! is_temporary "${file##*/}" || return 0
            case "${file##*/}" in
                *.txt | *.py) ;;
                .metadata | ?*.?*) [ -s "$file" ] || return 0 ;;
            esac
        fi
    done
    return 1
}

# PyTorch's distributed checkpoints: each node writes its own files, one the index of all.
lacks_distributed() {
    if [ ! -e "$1/.metadata" ]; then
        for file in "$1"/__*.distcp; do
            [ ! -e "$file" ] || return 0
        done
        return 1
    fi
    for file in $(LC_ALL=C tr -cs '0-9A-Za-z_.' '\n' <"$1/.metadata" 2>/dev/null |
        grep -o '__[0-9][0-9]*_[0-9][0-9]*\.distcp' 2>/dev/null); do
        [ -f "$1/$file" ] || return 0
    done
    return 1
}

# An index as model.safetensors.index.json names the files that a model is in.
lacks_shard() {
    for file in "$1"/*.index.json; do
        [ -f "$file" ] || continue
        tr -d '\n' <"$file" 2>/dev/null | sed -n 's/.*"weight_map"[^{]*{\([^}]*\).*/\1/p' 2>/dev/null |
            grep -o ':[[:space:]]*"[^"\]*"' 2>/dev/null | {
            while IFS= read -r file; do
                file=${file#*'"'}
                [ -f "$1/${file%'"'}" ] || exit 1
            done
        } || return 0
    done
    return 1
}

# The newest file below a path is the one that "latest" names then, if none was newer before. A folder's own time is no
# help: who copies it makes it anew.
look_at() {
    if [ -d "$1" ]; then
        for below in "$1"/* "$1"/.[!.]*; do
            [ -h "$below" ] || look_at "$below"
        done
    elif [ -f "$1" ] && { [ -z "$latest" ] || [ "$1" -nt "$latest" ]; }; then
        latest=$1
    fi
}

part_of() {
    case "$1" in
        [0-9]*) part=${1%%[!0-9]*} ;;
        *) part=${1%%[0-9]*} ;;
    esac
}

# Whether the first name has the higher numbers: step-10 is after step-9.
is_higher() {
    one=$1 other=$2
    while [ -n "$one" ] && [ -n "$other" ]; do
        part_of "$one"
        first=$part one=${one#"$part"}
        part_of "$other"
        second=$part other=${other#"$part"}
        case "$first/$second" in
            [0-9]*/[0-9]*)
                first=${first#"${first%%[!0]*}"} second=${second#"${second%%[!0]*}"}
                [ "${#first}" -eq "${#second}" ] || {
                    [ "${#first}" -gt "${#second}" ]
                    return
                }
                ;;
            [0-9]*) return 0 ;;
            */[0-9]*) return 1 ;;
        esac
        [ "$first" = "$second" ] || {
            [ "$first" \> "$second" ]
            return
        }
    done
    [ -n "$one" ]
}

# Of two of one moment the higher is the newer; to some shells a moment is a second.
offer() {
    if is_note "${1##*/}"; then
        [ -n "$notes" ] || return 0
    else
        others=yes
    fi
    if [ -d "$1" ]; then
        ! is_incomplete "$1" || return 0
    else
        [ -s "$1" ] || return 0
    fi
    latest=
    look_at "$1"
    [ -n "$latest" ] || return 0
    if [ -z "$newest" ] || [ "$latest" -nt "$newest_file" ] ||
        { [ ! "$newest_file" -nt "$latest" ] && is_higher "${1##*/}" "${newest##*/}"; }; then
        newest=$1 newest_file=$latest
    fi
}

newest='' newest_file='' others='' notes=''
offer_folder "$RUNCTL_CHECKPOINT_DIR" 7
if [ -z "$others" ]; then
    notes=yes
    offer_folder "$RUNCTL_CHECKPOINT_DIR" 7
fi
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
