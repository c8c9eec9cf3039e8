#!/usr/bin/env bash
# Drives JetStream with the nats command-line tool, whose path is in NATS_CLI.
# Each check prints `ok NAME` or `not ok NAME: why`.
set -u

FAILED=0
OUT=$(mktemp -d)
trap 'rm -rf "$OUT"' EXIT
nats() { timeout 30 "$NATS_CLI" --server "$NATS_URL" "$@" </dev/null; }

bad() {
    FAILED=$((FAILED + 1))
    echo "not ok $1: $2"
    cat "$OUT/$1" >&2
}

# says NAME WANTED: the command said the wanted text, which may be empty.
says() {
    [ -z "$2" ] || grep -qF -- "$2" "$OUT/$1"
}

# check NAME WANTED COMMAND...: the command must succeed and say the wanted text.
check() {
    local name=$1 wanted=$2
    shift 2
    if ! "$@" >"$OUT/$name" 2>&1; then
        bad "$name" "it failed"
    elif ! says "$name" "$wanted"; then
        bad "$name" "no \"$wanted\""
    else
        echo "ok $name"
    fi
}

# refuse NAME WANTED COMMAND...: the command must fail and say the wanted text.
refuse() {
    local name=$1 wanted=$2
    shift 2
    if "$@" >"$OUT/$name" 2>&1; then
        bad "$name" "it did not fail"
    elif ! says "$name" "$wanted"; then
        bad "$name" "no \"$wanted\""
    else
        echo "ok $name"
    fi
}

# The number of messages in a stream.
messages() {
    nats stream info "$1" --json | sed -n 's/^ *"messages": \([0-9]*\),$/\1/p'
}

# count NAME STREAM WANTED: the stream must hold so many messages, at once or soon.
count() {
    local tries=0 found
    until found=$(messages "$2") && [ "$found" = "$3" ]; do
        tries=$((tries + 1))
        if [ $tries -ge 50 ]; then
            echo "$found messages" >"$OUT/$1"
            bad "$1" "not $3 messages"
            return
        fi
        sleep 0.1
    done
    echo "ok $1"
}

# Streams.
check account_info 'Streams:' nats account info
check stream_add 'ORDERS' nats stream add ORDERS --subjects 'orders.>' --defaults
check stream_add_limits '"max_msgs_per_subject": 5' nats stream add LIMITED --defaults --json \
    --subjects 'limited.*' --storage memory --max-msgs 100 --max-msgs-per-subject 5 \
    --max-age 1h --discard new --dupe-window 30s --allow-direct
refuse stream_add_overlap '10065' nats stream add OVER --subjects 'orders.x' --defaults
check publish 'Published' nats pub orders.new 'order {{Count}}' --count 20 --jetstream
count stream_holds ORDERS 20
check stream_info 'Messages: 20' nats stream info ORDERS
check stream_state 'Messages: 20' nats stream state ORDERS
check stream_ls 'ORDERS' nats stream ls
check stream_report 'ORDERS' nats stream report
check stream_subjects 'orders.new' nats stream subjects ORDERS
check stream_find 'ORDERS' nats stream find --subject 'orders.>'
check stream_get 'order 7' nats stream get ORDERS 7
check stream_get_last 'order 20' nats stream get ORDERS --last-for orders.new
check stream_edit 'Maximum Messages' nats stream edit ORDERS --max-msgs 50 --force
check stream_rmm '' nats stream rmm ORDERS 7 --force
refuse stream_get_removed 'no message found' nats stream get ORDERS 7
check stream_gaps '7' nats stream gaps ORDERS --force
check stream_copy 'COPY' nats stream copy ORDERS COPY --subjects 'copy.>'
check stream_purge_some 'Messages: 5' nats stream purge ORDERS --keep 5 --force
check mirror_add 'MIRROR' nats stream add MIRROR --mirror ORDERS --defaults
count mirror_follows MIRROR 5
check stream_seal 'Sealed: true' nats stream seal COPY --force
check stream_rm '' nats stream rm COPY --force
refuse stream_info_gone 'cannot pick a Stream' nats stream info COPY

# Consumers.
check consumer_add 'Explicit' nats consumer add ORDERS PULL --pull --defaults --ack explicit
check consumer_add_push 'push.orders' nats consumer add ORDERS PUSH --target push.orders \
    --defaults --ack explicit --deliver all --heartbeat 5s --flow-control
check consumer_ls 'PULL' nats consumer ls ORDERS
check consumer_next 'order 16' nats consumer next ORDERS PULL --ack
check consumer_next_three 'order 19' nats consumer next ORDERS PULL --count 3 --ack
check consumer_info 'Acknowledgment Floor' nats consumer info ORDERS PULL
check consumer_state 'Outstanding Acks' nats consumer state ORDERS PULL
check consumer_report 'PULL' nats consumer report ORDERS
check consumer_edit 'Maximum Deliveries: 9' nats consumer edit ORDERS PULL --max-deliver 9 --force
check consumer_copy 'SECOND' nats consumer copy ORDERS PULL SECOND
check consumer_pause 'Paused' nats consumer pause ORDERS PULL 1h --force
check consumer_info_paused 'Paused Until' nats consumer info ORDERS PULL
check consumer_resume '' nats consumer resume ORDERS PULL --force
check consumer_next_resumed 'order 20' nats consumer next ORDERS PULL --ack
check consumer_reset '' nats consumer reset ORDERS SECOND --force
check consumer_rm '' nats consumer rm ORDERS SECOND --force
refuse consumer_info_gone 'cannot pick a Consumer' nats consumer info ORDERS SECOND

# Backup and restore.
nats pub orders.backup 'kept {{Count}}' --count 30 --jetstream >/dev/null 2>&1
nats stream info ORDERS --json >"$OUT/before"
check backup 'Received' nats backup stream ORDERS "$OUT/archive" --no-progress
check backup_rm '' nats stream rm ORDERS --force
check restore 'ORDERS' nats backup restore stream "$OUT/archive" --no-progress
count restored ORDERS 35
check restored_message 'kept 30' nats stream get ORDERS --last-for orders.backup
check restored_consumer 'Maximum Deliveries: 9' nats consumer info ORDERS PULL
refuse restore_again 'already' nats backup restore stream "$OUT/archive" --no-progress

# Key-value.
check kv_add 'CONFIG' nats kv add CONFIG --history 5
check kv_put 'one' nats kv put CONFIG key one
check kv_put_again 'two' nats kv put CONFIG key two
check kv_get 'two' nats kv get CONFIG key --raw
check kv_get_revision 'one' nats kv get CONFIG key --revision 1 --raw
check kv_create 'x' nats kv create CONFIG fresh x
refuse kv_create_again 'exists' nats kv create CONFIG fresh y
check kv_update 'three' nats kv update CONFIG key three 2
refuse kv_update_old 'wrong last sequence' nats kv update CONFIG key four 2
check kv_history 'three' nats kv history CONFIG key
check kv_ls 'CONFIG' nats kv ls
check kv_ls_keys 'fresh' nats kv ls CONFIG
check kv_info 'History Kept: 5' nats kv info CONFIG
check kv_revert 'one' nats kv revert CONFIG key 1 --force
timeout 30 "$NATS_CLI" --server "$NATS_URL" kv watch CONFIG watched >"$OUT/watched" 2>&1 &
watcher=$!
tries=0
until grep -q 'seen' "$OUT/watched" || [ $tries -ge 50 ]; do
    nats kv put CONFIG watched seen >/dev/null 2>&1
    tries=$((tries + 1))
done
kill $watcher 2>/dev/null
wait $watcher 2>/dev/null
check kv_watch 'seen' cat "$OUT/watched"
check kv_del '' nats kv del CONFIG fresh --force
refuse kv_get_deleted 'not found' nats kv get CONFIG fresh
check kv_purge '' nats kv purge CONFIG key --force
check kv_compact '' nats kv compact CONFIG --force
check kv_rm '' nats kv del CONFIG --force
refuse kv_gone 'not found' nats kv get CONFIG key

# Objects.
head -c 1500000 /dev/urandom >"$OUT/file.bin"
check object_add 'FILES' nats object add FILES
check object_put 'file.bin' nats object put FILES "$OUT/file.bin" --name file.bin --no-progress
check object_ls 'file.bin' nats object ls FILES
check object_info 'Chunks: 12' nats object info FILES file.bin
check object_get 'Wrote' nats object get FILES file.bin --output "$OUT/again.bin" --no-progress
check object_same '' cmp "$OUT/file.bin" "$OUT/again.bin"
check object_del '' nats object del FILES file.bin --force
check object_seal 'FILES' nats object seal FILES --force
refuse object_put_sealed '' nats object put FILES "$OUT/file.bin" --name more --no-progress
check object_rm '' nats object del FILES --force

# Benchmarks, which check what they count.
check bench_pub_sync 'msgs/sec' nats bench js pub sync js.bench --create --msgs 2000 --no-progress
check bench_pub_async 'msgs/sec' nats bench js pub async js.bench --msgs 20000 --no-progress
check bench_pub_batch 'msgs/sec' nats bench js pub batch js.bench --msgs 2000 --batch 100 \
    --no-progress
check bench_ordered 'msgs/sec' nats bench js ordered --msgs 10000 --no-progress
check bench_consume 'msgs/sec' nats bench js consume --msgs 10000 --no-progress
check bench_fetch 'msgs/sec' nats bench js fetch --msgs 10000 --no-progress
check bench_kv_put 'msgs/sec' nats bench kv put --msgs 2000 --no-progress
check bench_kv_get 'msgs/sec' nats bench kv get --msgs 2000 --no-progress

[ "$FAILED" -eq 0 ]
