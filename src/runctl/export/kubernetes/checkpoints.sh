# Read by the programs beside it: what in a folder may be a checkpoint, as runctl.agent.checkpoints.choosing has it on a
# machine. They say what is done with each: `offer PATH`.

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
