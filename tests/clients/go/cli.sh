#!/usr/bin/env bash
# Drives the server with the nats command-line tool, whose path is in NATS_CLI.
# Each check prints `ok NAME` or `not ok NAME: why`.
set -u

FAILED=0
OUT=$(mktemp -d)
trap 'rm -rf "$OUT"' EXIT
nats() { timeout 20 "$NATS_CLI" --server "$NATS_URL" "$@"; }

# ok NAME WANTED FILE: the file must hold the wanted text.
ok() {
    if grep -qF -- "$2" "$3"; then
        echo "ok $1"
    else
        FAILED=$((FAILED + 1))
        echo "not ok $1: no \"$2\""
        cat "$3" >&2
    fi
}

# Waits until /connz shows a subscription to this subject.
subscribed() {
    local tries=0
    until curl -fs "$NATS_MONITOR/subsz?subs=1&test=$1&acc=\$G" | grep -q '"sid"'; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || return 1
        sleep 0.05
    done
}

nats sub cli.news --count 3 >"$OUT/sub" 2>&1 &
receiver=$!
subscribed cli.news
nats pub cli.news 'hello {{Count}}' --count 3 >"$OUT/pub" 2>&1
wait $receiver
ok pub_and_sub 'hello 3' "$OUT/sub"

nats pub cli.news x -H 'X-One: 1' >"$OUT/headers" 2>&1
ok pub_with_headers 'Published' "$OUT/headers"

nats reply cli.echo --echo --count 2 >"$OUT/reply" 2>&1 &
responder=$!
subscribed cli.echo
nats request cli.echo 'are you there' >"$OUT/request" 2>&1
ok request_and_reply 'are you there' "$OUT/request"
kill $responder 2>/dev/null
wait $responder 2>/dev/null

nats request cli.nobody x --timeout 2s >"$OUT/nobody" 2>&1
ok no_responders "No responders" "$OUT/nobody"

nats bench sub cli.bench --clients 2 --msgs 20000 --no-progress >"$OUT/bench-sub" 2>&1 &
bench=$!
subscribed cli.bench
nats bench pub cli.bench --clients 2 --msgs 20000 --size 128 --no-progress >"$OUT/bench-pub" 2>&1
wait $bench
ok bench_pub 'msgs/sec' "$OUT/bench-pub"
ok bench_sub 'msgs/sec' "$OUT/bench-sub"

nats bench service serve cli.svc --clients 2 --no-progress >"$OUT/serve" 2>&1 &
serve=$!
subscribed cli.svc
nats bench service request cli.svc --clients 2 --msgs 2000 --no-progress >"$OUT/svc" 2>&1
ok bench_request 'msgs/sec' "$OUT/svc"
kill $serve 2>/dev/null
wait $serve 2>/dev/null

nats server check connection >"$OUT/check" 2>&1
ok server_check_connection 'OK' "$OUT/check"

nats rtt >"$OUT/rtt" 2>&1
ok rtt 'nats://' "$OUT/rtt"

[ "$FAILED" -eq 0 ]
