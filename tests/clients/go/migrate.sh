#!/usr/bin/env bash
# Moves streams between two servers by backup and restore with the nats command-line tool, from
# NATS_URL to PEER_URL and back. Each check prints `ok NAME` or `not ok NAME: why`.
set -u

FAILED=0
OUT=$(mktemp -d)
trap 'rm -rf "$OUT"' EXIT
on() {
    local url=$1
    shift
    timeout 30 "$NATS_CLI" --server "$url" "$@" </dev/null
}

check() {
    local name=$1
    shift
    if "$@" >"$OUT/log" 2>&1; then
        echo "ok $name"
    else
        FAILED=$((FAILED + 1))
        echo "not ok $name: it failed"
        cat "$OUT/log" >&2
    fi
}

same() {
    diff "$1" "$2" && [ -s "$1" ]
}

# What a stream and its consumers hold, without the times and the name of the server.
state() {
    on "$1" stream info "$2" --json |
        sed -n '/"state"/,/}/p' | grep -v '_ts"'
    on "$1" consumer info "$2" worker --json | grep -A 3 '"delivered"\|"ack_floor"' |
        grep '_seq"' | tr -d ,
    local seq
    for seq in 1 2 77 150 200; do
        on "$1" stream get "$2" "$seq" 2>&1 | grep -v 'Time:\|received'
    done
}

# fill URL STREAM STORAGE: 200 messages on three subjects, two deleted, a consumer half way.
fill() {
    on "$1" stream add "$2" --subjects "$2.>" --storage "$3" --compression s2 --defaults
    on "$1" pub "$2.a" 'message {{Count}} {{Random 10 100}}' --count 100 --jetstream -H X:y
    on "$1" pub "$2.b" 'message {{Count}}' --count 99 --jetstream
    on "$1" pub "$2.c" '' --jetstream
    on "$1" stream rmm "$2" 2 --force
    on "$1" stream rmm "$2" 150 --force
    on "$1" consumer add "$2" worker --pull --ack explicit --defaults
    on "$1" consumer next "$2" worker --count 40 --ack
}

# move NAME FROM TO STREAM STORAGE
move() {
    local name=$1 from=$2 to=$3 stream=$4
    check "${name}_fill" fill "$from" "$stream" "$5"
    state "$from" "$stream" >"$OUT/before"
    check "${name}_backup" on "$from" backup stream "$stream" "$OUT/$name" --no-progress
    check "${name}_restore" on "$to" backup restore stream "$OUT/$name" --no-progress
    state "$to" "$stream" >"$OUT/after"
    check "${name}_same" same "$OUT/before" "$OUT/after"
    check "${name}_goes_on" on "$to" consumer next "$stream" worker --count 20 --ack
}

move file_there "$NATS_URL" "$PEER_URL" THERE file
move file_back "$PEER_URL" "$NATS_URL" BACK file
move memory_there "$NATS_URL" "$PEER_URL" MTHERE memory
move memory_back "$PEER_URL" "$NATS_URL" MBACK memory

[ "$FAILED" -eq 0 ]
