#!/bin/sh
# `make run`: starts Headway, runs the main job against it, prints where to look, and serves until Ctrl-C.
# Arguments go to `headway up` (for example: sh tools/run.sh --port 9000).
set -eu

headway=${HEADWAY_BIN:-.venv/bin/headway}
# Not a setting of Headway, which refuses unknown ones.
unset HEADWAY_BIN
# The demo looks for the server where its data is.
data_dir=
previous=
for word in "$@"; do
    case "$previous" in --data-dir) data_dir=$word ;; esac
    case "$word" in --data-dir=*) data_dir=${word#--data-dir=} ;; esac
    previous=$word
done
log=$(mktemp "${TMPDIR:-/tmp}/headway-up.XXXXXX")
pipe="$log.pipe"
mkfifo "$pipe"

server=
show=
finish() {
    trap - EXIT INT TERM
    # By its own id: the supervisor ends its children. Ctrl-C has reached it already, a second signal does no harm.
    if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then
        kill -TERM "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    [ -z "$show" ] || wait "$show" 2>/dev/null || true
    rm -f "$log" "$pipe"
}
trap 'finish' EXIT
trap 'finish; exit 0' INT TERM

# The output is shown as it comes and kept, because the ready line says which port was free.
tee "$log" <"$pipe" &
show=$!
"$headway" up "$@" >"$pipe" 2>&1 &
server=$!

url=
waited=0
while [ -z "$url" ]; do
    url=$(sed -n 's|.*Headway is ready at \(http[^[:space:]]*\).*|\1|p' "$log" | head -n 1)
    if [ -z "$url" ] && ! kill -0 "$server" 2>/dev/null; then
        wait "$server" && code=0 || code=$?
        echo "headway up ended (exit $code) before it was ready; its last lines are above." >&2
        exit 1
    fi
    if [ "$waited" -ge 600 ]; then
        echo "headway up was not ready within 60 seconds; try '$headway doctor'." >&2
        exit 1
    fi
    [ -n "$url" ] || { sleep 0.1; waited=$((waited + 1)); }
done

status=0
"$headway" demo --exit ${data_dir:+--data-dir "$data_dir"} || status=$?
if [ "$status" -ne 0 ]; then
    echo "The demo did not finish (exit $status); the server is still up for a look." >&2
fi

echo
echo "Serving at $url  (Ctrl-C ends it; another terminal: $headway jobs list)"
wait "$server"
