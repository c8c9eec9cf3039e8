# Starts and stops servers for the client programs. Sourced by run.
#
#   start NAME CONFIG_TEXT [FLAGS...]   sets PID, PORT and MONITOR (0 when monitoring is off)
#   stop PID

SERVER=${SHEARWATER_BIN:-}
ORACLE=${SHEARWATER_ORACLE:-}
SHARDS=${SHARDS:-2}

# The number after the last colon of the log line that has $2.
port_in_log() {
    sed -n "s/.*$2.*:\([0-9]*\)\$/\1/p" "$1" | head -n 1
}

start() {
    local name=$1 text=$2 port=${FIXED_PORT:--1}
    shift 2
    local dir=$WORK/$name
    mkdir -p "$dir"
    printf '%s\n' "$text" >"$dir/server.conf"
    [ -n "$ORACLE" ] || printf 'shards { count: %s }\n' "$SHARDS" >>"$dir/server.conf"
    local log=$dir/server.log
    : >"$log"
    "$SERVER" -a 127.0.0.1 -p "$port" -c "$dir/server.conf" "$@" >"$log" 2>&1 &
    PID=$!
    disown "$PID"
    STARTED+=("$PID")
    local tries=0
    until grep -q 'Server is ready' "$log"; do
        tries=$((tries + 1))
        if [ $tries -gt 200 ] || ! kill -0 "$PID" 2>/dev/null; then
            echo "the server for $name did not become ready:" >&2
            cat "$log" >&2
            return 1
        fi
        sleep 0.05
    done
    PORT=$(port_in_log "$log" 'Listening for client connections on')
    MONITOR=$(port_in_log "$log" 'Starting http monitor on')
    MONITOR=${MONITOR:-0}
}

stop() {
    kill -KILL "$1" 2>/dev/null || true
}

stop_all() {
    local pid
    for pid in "${STARTED[@]:-}"; do
        [ -z "$pid" ] || stop "$pid"
    done
}
