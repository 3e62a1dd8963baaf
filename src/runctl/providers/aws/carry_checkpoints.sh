# carry_checkpoints.sh fetch|publish STORE FOLDER SECONDS
# Copies a run's checkpoints between a folder of the pod and a store. Names that begin with a dot are not copied: a
# script writes its checkpoint under such a name and renames it when it is whole. Only ".metadata" is: PyTorch's
# distributed checkpoints have their index in it. The store also gets ".times-RANK" of each node: when each file was
# written, for a copy is as old as its upload, and several are uploaded at once.
# Several nodes start from the same checkpoint only if all had published when the first of them fetched.
set -u
what=$1 store=$2 folder=$3 seconds=$4 rank=${RUNCTL_NODE_RANK:-0}
export HOME=/tmp
times=/tmp/checkpoint-times-$$
all_times=$times-of-all
fetched=$folder/.fetched

# FROM TO [OPTION ...]
copy() {
    from=$1 to=$2
    shift 2
    aws s3 sync "$from" "$to" --only-show-errors --exclude '.*' --exclude '*/.*' --include .metadata \
        --include '*/.metadata' "$@"
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

publish() {
    # As they were before they are copied: one that is written meanwhile is newer than what is said of it.
    times_of "$folder" >"$times"
    set --
    if [ -s "$fetched" ]; then
        # Another node may have written it anew since.
        grep -Fxf "$fetched" "$times" | sed 's/^[^ ]* //; s/[][*?]/[&]/g' >"$times-of-others"
        while IFS= read -r path; do
            set -- "$@" --exclude "$path"
        done <"$times-of-others"
    fi
    copy "$folder" "$store" "$@" && aws s3 cp "$times" "$store/.times-$rank" --only-show-errors
}

# The script may run as another user.
mkdir -p "$folder" && chmod a+rwx "$folder" 2>/dev/null
if [ "$what" = fetch ]; then
    copy "$store" "$folder" || exit
    # A store that this has never published to has none.
    mkdir -p "$all_times"
    aws s3 sync "$store" "$all_times" --only-show-errors --exclude '*' --include '.times-*' || exit
    # Each is compared with the upload before any is changed; of two nodes that tell of a file, the last to write it.
    for times in "$all_times"/.times-*; do
        [ -f "$times" ] || continue
        while read -r at path; do
            case "/$path/" in */../*) continue ;; esac
            # One that was uploaded after the times were is newer than they say.
            if [ -f "$folder/$path" ] && [ ! "$folder/$path" -nt "$times" ]; then
                printf '%s %s\n' "$at" "$path"
            fi
        done <"$times"
    done | LC_ALL=C sort -n | while read -r at path; do
        touch -d "@$at" "$folder/$path"
    done
    # Several nodes have no folder that outlives them: what is there now is in the store.
    [ -z "${RUNCTL_NODE_RANK:-}" ] || times_of "$folder" >"$fetched"
    exit 0
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
