# start.sh COUNT [RESUME-ARG ...] COMMAND [ARG ...]
# Runs the command with its folders there and the newest checkpoint in RUNCTL_RESUME_FROM. Where there is one, COUNT
# resume arguments follow the command's own, with its path in place of {checkpoint}.
set -u
mkdir -p "$RUNCTL_CHECKPOINT_DIR" "$RUNCTL_OUTPUT_DIR"

# What may be a checkpoint, and which is the newest, is as runctl.agent.checkpoints.choosing has it on a machine. Only
# whether it is complete is seen by its name alone.
is_temporary() {
    case "$1" in
        .* | *'~' | [Tt][Mm][Pp]* | *_[Tt][Mm][Pp]) ;;
        *.[Tt][Mm][Pp] | *.[Tt][Mm][Pp][._-]*) ;;
        *.[Tt][Ee][Mm][Pp] | *.[Tt][Ee][Mm][Pp][._-]*) ;;
        *.[Pp][Aa][Rr][Tt] | *.[Pp][Aa][Rr][Tt][._-]*) ;;
        *.[Pp][Aa][Rr][Tt][Ii][Aa][Ll] | *.[Pp][Aa][Rr][Tt][Ii][Aa][Ll][._-]*) ;;
        *.[Ii][Nn][Cc][Oo][Mm][Pp][Ll][Ee][Tt][Ee] | *.[Ii][Nn][Cc][Oo][Mm][Pp][Ll][Ee][Tt][Ee][._-]*) ;;
        *.[Ll][Oo][Cc][Kk] | *.[Ll][Oo][Cc][Kk][._-]*) ;;
        *.[Ss][Ww][Pp] | *.[Ss][Ww][Pp][._-]*) ;;
        *) return 1 ;;
    esac
}

# What says something of a training, and holds none of its weights.
is_note() {
    case "$1" in
        events.out.tfevents*) ;;
        *.[Jj][Ss][Oo][Nn]) ;;
        *.[Jj][Ss][Oo][Nn][Ll]) ;;
        *.[Tt][Xx][Tt]) ;;
        *.[Cc][Ss][Vv]) ;;
        *.[Tt][Ss][Vv]) ;;
        *.[Ll][Oo][Gg]) ;;
        *.[Yy][Aa][Mm][Ll]) ;;
        *.[Yy][Mm][Ll]) ;;
        *.[Tt][Oo][Mm][Ll]) ;;
        *.[Mm][Dd]) ;;
        *.[Hh][Tt][Mm][Ll]) ;;
        *.[Pp][Nn][Gg]) ;;
        *.[Ss][Vv][Gg]) ;;
        *.[Pp][Dd][Ff]) ;;
        *) return 1 ;;
    esac
}

is_of_a_step() {
    case "-$1" in
        *[-_.=][Cc][Hh][Ee][Cc][Kk][Pp][Oo][Ii][Nn][Tt][0-9]* | *[-_.=][Cc][Hh][Ee][Cc][Kk][Pp][Oo][Ii][Nn][Tt][-_.=][0-9]*) ;;
        *[-_.=][Cc][Kk][Pp][Tt][0-9]* | *[-_.=][Cc][Kk][Pp][Tt][-_.=][0-9]*) ;;
        *[-_.=][Ss][Tt][Ee][Pp][0-9]* | *[-_.=][Ss][Tt][Ee][Pp][-_.=][0-9]*) ;;
        *[-_.=][Gg][Ll][Oo][Bb][Aa][Ll][Ss][Tt][Ee][Pp][0-9]* | *[-_.=][Gg][Ll][Oo][Bb][Aa][Ll][Ss][Tt][Ee][Pp][-_.=][0-9]*) ;;
        *[-_.=][Gg][Ll][Oo][Bb][Aa][Ll]_[Ss][Tt][Ee][Pp][0-9]* | *[-_.=][Gg][Ll][Oo][Bb][Aa][Ll]_[Ss][Tt][Ee][Pp][-_.=][0-9]*) ;;
        *[-_.=][Ee][Pp][Oo][Cc][Hh][0-9]* | *[-_.=][Ee][Pp][Oo][Cc][Hh][-_.=][0-9]*) ;;
        *[-_.=][Ii][Tt][Ee][Rr][0-9]* | *[-_.=][Ii][Tt][Ee][Rr][-_.=][0-9]*) ;;
        *) return 1 ;;
    esac
}

# Whether the files of a folder belong together.
is_checkpoint() {
    for file in trainer_state.json .metadata _CHECKPOINT_METADATA _METADATA model.safetensors pytorch_model.bin \
        adapter_model.safetensors optimizer.pt saved_model.pb manifest.json checksums.json SHA256SUMS; do
        [ ! -e "$1/$file" ] || return 0
    done
    for file in "$1"/*.distcp; do
        [ ! -e "$file" ] || return 0
    done
    is_of_a_step "${1##*/}" || return 1
    for file in "$1"/* "$1"/.[!.]*; do
        [ ! -f "$file" ] || return 0
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
    [ -d "$1" ] || [ -s "$1" ] || return 0
    latest=
    look_at "$1"
    [ -n "$latest" ] || return 0
    if [ -z "$newest" ] || [ "$latest" -nt "$newest_file" ] ||
        { [ ! "$newest_file" -nt "$latest" ] && is_higher "${1##*/}" "${newest##*/}"; }; then
        newest=$1 newest_file=$latest
    fi
}

# Where Hugging Face's Trainer has put its final model, what it goes on from are the checkpoints beside that.
offer_of_trainer() {
    [ -e "$1/training_args.bin" ] && [ ! -e "$1/trainer_state.json" ] || return 1
    any=1
    for saved in "$1"/checkpoint-*; do
        case "${saved##*/checkpoint-}" in
            '' | *[!0-9]*) continue ;;
        esac
        if [ -d "$saved" ] && is_checkpoint "$saved"; then
            offer "$saved"
            any=0
        fi
    done
    return "$any"
}

offer_folder() {
    if offer_of_trainer "$1"; then
        :
    elif is_checkpoint "$1"; then
        offer "$1"
    elif [ "$2" -gt 0 ]; then
        offer_below "$1" $(($2 - 1))
    fi
}

offer_below() {
    for entry in "$1"/*; do
        if [ -h "$entry" ] || is_temporary "${entry##*/}"; then
            continue
        elif [ -f "$entry" ]; then
            offer "$entry"
        elif [ -d "$entry" ]; then
            offer_folder "$entry" "$2"
        fi
    done
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
