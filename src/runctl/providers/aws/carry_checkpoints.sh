# carry_checkpoints.sh fetch|publish STORE FOLDER SECONDS
# Copies a run's checkpoints between a folder of the pod and a store. Names that begin with a dot are not copied: a
# script writes its checkpoint under such a name and renames it when it is whole.
set -u
what=$1 store=$2 folder=$3 seconds=$4
export HOME=/tmp

copy() {
    aws s3 sync "$1" "$2" --only-show-errors --exclude '.*' --exclude '*/.*'
}

# The script may run as another user.
mkdir -p "$folder" && chmod a+rwx "$folder" 2>/dev/null
if [ "$what" = fetch ]; then
    copy "$store" "$folder"
    exit
fi

stopped= pause=
trap 'stopped=1' TERM
while [ -z "$stopped" ]; do
    sleep "$seconds" &
    pause=$!
    wait "$pause"
    [ -n "$stopped" ] || copy "$folder" "$store"
done
kill "$pause" 2>/dev/null
# The script has ended: what it saved last.
copy "$folder" "$store"
