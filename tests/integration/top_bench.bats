#!/usr/bin/env bats
# quire top and quire bench against a running server with keys.

bats_require_minimum_version 1.5.0
load common

setup_file() {
    start_instance --set workers=4 --set auth=on || return 1
    # shellcheck disable=SC1091 # made by scripts/serve
    . "$instance/env"
    quire import birds "$root/data/samples" >/dev/null
}
teardown_file() { remove_instance; }

libraries() { quire library list --names; }

@test "top: one reading, for people and for programs; it needs a key, and a terminal" {
    quire search birds heron >/dev/null
    run quire top --once --interval 1
    [ "$status" = 0 ]
    [[ $output == quire\ *"healthy: ready"* ]]
    [[ $output == *"4 of 4 ready"* && $output == *"search "* && $output == *"sync "* && $output == *birds* ]]
    [[ $output != *$'\033'* && $output != *$'\001'* ]]
    quire top --json --interval 1 | jq -e '.format == 1 and .seconds >= 1 and .workers_ready == 4 and .classes.search.rate >= 0 and .libraries[0].name == "birds"'
    run quire top </dev/null
    [ "$status" != 0 ]
    [[ $output == *"--once"* ]]
    QUIRE_KEY='' run quire top --once
    [ "$status" != 0 ]
}

@test "top: in a terminal it fits the window, ends by q, Ctrl-D and signals, and leaves the terminal as it was" {
    local how
    for how in q $'\004' SIGINT SIGTERM; do
        python3 "$root/tests/lib/terminal.py" "$how" quire top --interval 1
    done
}

@test "bench: rates and times of three phases; the library is gone afterwards, also when it is interrupted; a named one is only searched" {
    run quire bench --seconds 2 --documents 200 --connections 2
    [ "$status" = 0 ]
    [[ $output == *"load "* && $output == *"search "* && $output == *"write "*"each durable"* ]]
    [ "$(libraries)" = birds ]
    quire bench --seconds 2 --documents 200 --json | jq -e '[.load, .search, .write] | all(.requests > 0 and .errors == 0 and .rate > 0 and .p50_ms > 0 and .p50_ms <= .p90_ms and
        .p90_ms <= .p99_ms and .p99_ms <= .most_ms)'

    local before
    before=$(quire library show birds --json | jq '.num_documents, .metadata')
    quire bench birds --seconds 1 --mode lexical --json | jq -e '.search.requests > 0 and (has("load") or has("write") | not)'
    [ "$(quire library show birds --json | jq '.num_documents, .metadata')" = "$before" ]

    quire bench --seconds 60 --documents 200 --json >"$BATS_TEST_TMPDIR/out" &
    local pid=$! code=0
    made() { libraries | grep -q '^quire-bench-'; }
    until_true 20 made
    kill -INT "$pid"
    wait "$pid" || code=$?
    [ "$code" = 130 ]
    jq -e .interrupted "$BATS_TEST_TMPDIR/out"
    [ "$(libraries)" = birds ]

    run quire bench nowhere
    [ "$status" = 66 ]
    [[ $output == *"no library 'nowhere'"* ]]
    run quire bench --connections 5000
    [ "$status" = 64 ]
}
