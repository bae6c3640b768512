#!/usr/bin/env bats
# limits.bats - limits of time and of queues (BOUND in src/proc/config.def), provoked through nginx, and what comes of each held against the error that its line names.
#
# query_deadline_ms is in tests/lib/providers.py, archive_max_lag_bytes in snapshots.bats; what a request can meet in tests/unit/test_api_limits.c.
# shellcheck disable=SC2154 # common.bash sets instance, url, library

bats_require_minimum_version 1.5.0
load common

setup_file() {
    load common
    slow=$BATS_FILE_TMPDIR/slow # the log's disk needs 2.5 s for a sync while it is there
    export slow
    QUIRE_IO_FAULT="fdatasync:delay=2500,path=wal,file=$slow" \
        start_instance --set workers=12 --set write_workers=8 --set snapshot_interval=0 --set snapshot_every_ops=0 --set max_op_bytes=1M --set queue_max_ops=2 --set queue_max_bytes=3M \
        --set max_streams=1 --set max_min_lsn_waits=1 --set min_lsn_wait_ms=700 --set write_deadline_ms=800 --set watchdog_request_ms=1500
    make_library
    export library
}
teardown_file() {
    load common
    remove_instance
}

# as_listed KEY: what came last is the error of that line.
as_listed() {
    local error
    error=$(limit_error "$1")
    [ -n "$error" ] && expect "${error% *}" "${error#* }"
}

put() { api PUT "/v1/libraries/$library/documents/$1" "{\"title\":\"t\",\"texts\":[\"${2-x}\"]}"; }

# The disk is as fast as ever, and what waited for it is done.
settled() { put settled && [ "$code" = 201 ] || [ "$code" = 200 ]; }

# in_background NAME COMMAND...: its status goes to the file NAME.
in_background() {
    local name=$1
    shift
    (
        BATS_TEST_TMPDIR=$(mktemp -d "$BATS_TEST_TMPDIR/XXXXXX")
        "$@"
        printf '%s %s\n' "$code" "$(field .error_type)" >"$name"
    ) 3>&- &
}

# listed_once KEY NAME...: one of those in the background came to that error.
listed_once() {
    local key=$1
    shift
    cat "$@" | grep -qx "$(limit_error "$key")"
}

metric() { api GET /metrics && [ "$(sed -n "s/^$1 //p" <<<"$body")" = "$2" ]; }

search_far() { api POST "/v1/libraries/$library/search" '{"query":"x","min_lsn":"1000000"}'; }

@test "min_lsn_wait_ms, and max_min_lsn_waits beside it" {
    local first=$BATS_TEST_TMPDIR/first
    in_background "$first" search_far
    until_true 10 metric quire_min_lsn_waits 1
    search_far
    as_listed max_min_lsn_waits
    wait
    listed_once min_lsn_wait_ms "$first"
}

@test "max_streams" {
    mkfifo "$BATS_TEST_TMPDIR/lines"
    curl -sSN --cacert "$instance/tls/cert.pem" -H 'Content-Type: application/x-ndjson' -X POST -T . -o "$BATS_TEST_TMPDIR/out" \
        "$url/v1/libraries/$library/documents/stream" <"$BATS_TEST_TMPDIR/lines" 3>&- &
    exec 4>"$BATS_TEST_TMPDIR/lines"
    printf '{"title":"t","texts":["x"]}\n' >&4
    until_true 10 test -s "$BATS_TEST_TMPDIR/out" # it is under way
    api GET "/v1/libraries/$library/export"
    as_listed max_streams
    exec 4>&-
    wait
    api GET "/v1/libraries/$library/export"
    expect 200
}

@test "write_deadline_ms, and queue_max_ops beside it" {
    local i names=()
    : >"$slow"
    for i in 1 2 3 4 5; do
        in_background "$BATS_TEST_TMPDIR/small$i" put "small$i"
        names+=("$BATS_TEST_TMPDIR/small$i")
    done
    wait
    listed_once write_deadline_ms "${names[@]}"
    listed_once queue_max_ops "${names[@]}"
    rm "$slow"
    until_true 30 settled
}

@test "queue_max_bytes" {
    local i names=() large
    large=$(head -c 900000 /dev/zero | tr '\0' x)
    : >"$slow"
    for i in 1 2 3 4 5; do
        in_background "$BATS_TEST_TMPDIR/large$i" put "large$i" "$large"
        names+=("$BATS_TEST_TMPDIR/large$i")
    done
    wait
    rm "$slow"
    listed_once queue_max_bytes "${names[@]}"
    until_true 30 settled
}

@test "watchdog_request_ms" {
    local writing=$BATS_TEST_TMPDIR/writing pids
    : >"$slow"
    in_background "$writing" put watched
    until_true 10 metric quire_workers_writing 1
    pids=$(workers)
    # shellcheck disable=SC2086 # several
    kill -STOP $pids
    rm "$slow"
    wait
    # shellcheck disable=SC2086
    kill -CONT $pids 2>/dev/null || true # the one that wrote is gone
    listed_once watchdog_request_ms "$writing"
    until_true 30 settled
    grep -q 'it worked on one request' "$instance/logs/quired.log"
}

@test "a limit of time or of queues that is added is provoked somewhere" {
    local key
    while read -r key; do
        grep -qE "(as_listed|listed_once|limit_error)[ (\"]+$key" "$root"/tests/integration/*.bats "$root"/tests/lib/*.py || {
            echo "nothing provokes $key" >&2
            return 1
        }
    done < <(sed -nE 's/^BOUND\(([a-z0-9_]+),.*/\1/p' "$root/src/proc/config.def")
}
