# carry_checkpoints.sh fetch|publish STORE FOLDER SECONDS
# Copies a run's checkpoints between a folder of the pod and a store. What begins with a dot, or has another name of
# what is still being written, is not copied, nor what is in such a folder: a script writes its checkpoint under such a
# name and renames it when it is whole. Only ".metadata" is: PyTorch's distributed checkpoints have their index in it.
# The store also gets ".times-RANK" of each node after each copy: which files the node had, and when each was written,
# for a copy is as old as its upload, and several are uploaded at once. A folder with a file that no node has told of was
# uploaded in part, and is not given to the script.
# Several nodes start from the same checkpoint only if all had published when the first of them fetched.
set -u
. "${0%/*}/checkpoints.sh"
what=$1 store=$2 folder=$3 seconds=$4 rank=${RUNCTL_NODE_RANK:-0}
export HOME=/tmp
times=/tmp/checkpoint-times-$$
all_times=$times-of-all
# Beside the folder, which is the script's own.
fetched=${folder%/*}/.fetched-checkpoints

# FROM TO LIST: all but the listed files.
copy() {
    from=$1 to=$2 list=$3
    set --
    while IFS= read -r path; do
        [ -z "$path" ] || set -- "$@" --exclude "$path"
    done <<END
$(sed 's/[][*?]/[&]/g' "$list")
END
    # As is_temporary has it; of the options the last that fits a path is the one that counts.
    for kind in '[Tt][Mm][Pp]' '[Tt][Ee][Mm][Pp]' '[Pp][Aa][Rr][Tt]' '[Pp][Aa][Rr][Tt][Ii][Aa][Ll]' \
        '[Ii][Nn][Cc][Oo][Mm][Pp][Ll][Ee][Tt][Ee]' '[Ll][Oo][Cc][Kk]' '[Ss][Ww][Pp]'; do
        set -- "$@" --exclude "*.$kind" --exclude "*.$kind/*" --exclude "*.$kind[._-]*"
    done
    for name in '[Tt][Mm][Pp]*' '*/[Tt][Mm][Pp]*' '*_[Tt][Mm][Pp]' '*_[Tt][Mm][Pp]/*' '*~' '*~/*'; do
        set -- "$@" --exclude "$name"
    done
    aws s3 sync "$from" "$to" --only-show-errors --exclude '.*' --exclude '*/.*' --include .metadata \
        --include '*/.metadata' --exclude '.*/*' --exclude '*/.*/*' "$@"
}

times_of() {
    for path in "$1"/* "$1"/.metadata; do
        [ -e "$path" ] || continue
        if [ -d "$path" ]; then
            times_of "$path"
        else
            printf '%s %s\n' "$(stat -c %.9Y "$path")" "${path#"$folder"/}"
        fi
    done
}

# Of lines as times_of has them.
paths() {
    sed 's/^[^ ]* //'
}

publish() {
    # As they were before they are copied: one that is written meanwhile is newer than what is said of it.
    times_of "$folder" >"$times"
    : >"$times-of-others"
    if [ -s "$fetched" ]; then
        # Another node may have written it anew since.
        grep -Fxf "$fetched" "$times" | paths >"$times-of-others"
    fi
    # A file that the script has just removed fails a copy: the next does not see it. 2: what is no file was left out.
    copy "$folder" "$store" "$times-of-others" || [ "$?" -eq 2 ] ||
        copy "$folder" "$store" "$times-of-others" || [ "$?" -eq 2 ] || return
    publish_times
}

publish_times() {
    aws s3 cp "$times" "$store/.times-$rank" --only-show-errors
}

# What the nodes say of files that are as they were when they said it. Of several that tell of one the last to write it
# comes last.
told_times() {
    for each in "$all_times"/.times-*; do
        [ -f "$each" ] || continue
        while IFS= read -r line; do
            path=${line#* }
            case "/$path/" in */../*) continue ;; esac
            # One that was uploaded after the times were is newer than they say.
            if [ -f "$folder/$path" ] && [ ! "$folder/$path" -nt "$each" ]; then
                printf '%s\n' "$line"
            fi
        done <"$each"
    done | LC_ALL=C sort -n
}

# FOLDER LIST: prints the first of the listed files that lies in the folder.
first_in() {
    while IFS= read -r path; do
        case "$folder/$path" in
            "$1"/*)
                [ -f "$folder/$path" ] || continue
                printf '%s\n' "$path"
                return
                ;;
        esac
    done <"$2"
}

# Takes away a checkpoint that was fetched and is not whole. A file by itself is, and what was here before is the script's.
offer() {
    [ -d "$1" ] && [ "$1" != "$folder" ] || return 0
    untold=$(first_in "$1" "$times-untold")
    if [ -n "$untold" ] && [ -z "$(first_in "$1" "$times-own")" ]; then
        echo "${1#"$folder"/} is left out, as it is not whole in the store: no node has told of $untold" >&2
        rm -rf "$1"
    fi
}

fetch() {
    times_of "$folder" | paths >"$times-own"
    # What is on a volume is the script's own, and newer.
    copy "$store" "$folder" "$times-own" || return
    mkdir -p "$all_times"
    aws s3 sync "$store" "$all_times" --only-show-errors --exclude '*' --include '.times-*' || return
    # Each is compared with the upload before any is changed.
    told_times >"$times-told"
    # Of a store that no pod has begun with nobody has told anything.
    for each in "$all_times"/.times-*; do
        [ -f "$each" ] || continue
        # No file is called "/": of an empty list some grep makes one that fits all.
        { paths <"$times-told" && cat "$times-own" && echo /; } >"$times-whole"
        times_of "$folder" | paths | LC_ALL=C grep -Fxvf "$times-whole" >"$times-untold"
        offer_folder "$folder" 7
        break
    done
    while IFS= read -r line; do
        path=${line#* }
        [ ! -f "$folder/$path" ] || touch -d "@${line%% *}" "$folder/$path"
    done <"$times-told"
    times_of "$folder" >"$times"
    # Several nodes have no volume: what is there now is in the store.
    [ -z "${RUNCTL_NODE_RANK:-}" ] || [ -s "$times-own" ] || cp "$times" "$fetched"
    # From now on what this node sends counts when it has told of it. What is on a volume may be in no store.
    [ -f "$all_times/.times-$rank" ] || {
        [ ! -s "$times-own" ] || : >"$times"
        publish_times
    }
}

# The script may run as another user.
mkdir -p "$folder" && chmod a+rwx "$folder" 2>/dev/null
if [ "$what" = fetch ]; then
    fetch
    exit
fi

stopped= pause=
trap 'stopped=1' TERM
while [ -z "$stopped" ]; do
    sleep "$seconds" &
    pause=$!
    wait "$pause"
    [ -n "$stopped" ] || publish
done
kill "$pause" 2>/dev/null
# The script has ended: what it saved last.
publish
