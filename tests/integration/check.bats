#!/usr/bin/env bats
# quire check: a real server is filled and stopped; its directory is sound; damage is found; the advice helps.

bats_require_minimum_version 1.5.0
load common

setup() { start_instance --set workers=2; }
teardown() { remove_instance; }

quire() { "${QUIRE_BUILD_DIR:-$root/.build}/src/quire" "$@"; }

fill() {
    make_library '"index_type":"hnsw"'
    local n
    for n in 1 2 3 4 5 6; do
        api POST "/v1/libraries/$library/documents" "{\"id\":\"d$n\",\"title\":\"Three things\",\"texts\":[
            \"The heron of page $n stands in the shallow water at dawn.\",\"A bicycle chain wants oil after rain.\",
            \"Bread rises slowly in a cold kitchen.\"],\"tags\":[\"a\",\"b\"],\"metadata\":{\"shelf\":$n}}"
        expect 201
    done
    api DELETE "/v1/libraries/$library/documents/d3"
    expect 204
    until_true 30 settled
}

# Five documents of three chunks, all of them embedded and found in every way.
settled() { api GET "/v1/libraries/$library" && [ "$(field '.metadata.embedding.done')" = 15 ]; }
all_there() {
    until_true 30 settled
    api POST "/v1/libraries/$library/search" '{"query":"bicycle chain oil","k":5}'
    expect 200
    [ "$(field '[.results[].chunk.text] | unique | join("|")')" = "A bicycle chain wants oil after rain." ]
    api POST "/v1/libraries/$library/search" '{"query":"heron","k":5,"mode":"lexical","filter":{"field":"shelf","operator":"eq","value":4}}'
    expect 200
    [ "$(field '.results[0].chunk.text')" = "The heron of page 4 stands in the shallow water at dawn." ]
    api GET "/v1/libraries/$library/documents/d3"
    expect 404
}

# Turns one bit of the byte at $2 of the file $1.
damage() {
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
    # shellcheck disable=SC2059 # the byte is the format
    printf "\\x$(printf %x $((byte ^ 16)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

@test "sound; one byte of a vector damaged; the advice followed; all there again, and sound" {
    fill
    run quire check "$instance/data"
    [ "$status" = 2 ]
    [[ $output == *"in use by another server"* ]]

    stop_instance
    run quire check "$instance/data"
    [ "$status" = 0 ]
    [[ $output == *"no faults"* ]]
    run --separate-stderr quire check --json "$instance/data"
    [ "$status" = 0 ]
    jq -e '.sound and .arenas_checked and .libraries[0].parts.rows.rows == 24 and .libraries[0].parts.postings.texts == 15' <<<"$output"

    damage "$instance/data/vectors/$library/vectors.mmap" 5000
    run quire check "$instance/data"
    [ "$status" = 1 ]
    [[ $output == *"vectors.mmap is not as it was saved"* ]]
    run --separate-stderr quire check --json "$instance/data"
    [ "$status" = 1 ]
    jq -e '[.first_faults[] | select(.part == "vectors" and .slot == 0)] | length == 1' <<<"$output"
    advice=$(jq -r '[.first_faults[] | select(.part == "vectors")][0].advice' <<<"$output")
    [ "$advice" = "delete $instance/data/vectors/$library while the server is stopped: it is made again from the log and the snapshots" ]

    rm -r "${instance:?}/data/vectors/$library"
    start_instance
    all_there
    stop_instance
    run quire check "$instance/data"
    [ "$status" = 0 ]
}

@test "a damaged index: the sums say that it is, the part says what it is" {
    fill
    stop_instance
    damage "$instance/data/vectors/$library/terms.mmap" 24
    run quire check "$instance/data"
    [ "$status" = 1 ]
    [[ $output == *"files       1 FAULT "* ]]
    [[ $output == *"postings    2 FAULTS"* ]]
    [[ $output == *"others than counted"* ]]
}

@test "a killed server: log and snapshots are checked, and it says what becomes of the arenas" {
    fill
    kill -9 "$(supervisor)"
    no_process() { [ -z "$(processes_of "$instance")" ]; }
    until_true 10 no_process
    run quire check "$instance/data"
    [ "$status" = 0 ]
    [[ $output == *"checkpoint  not checked"* ]]
    [[ $output == *"made again at the next start"* ]]
    start_instance
    all_there
}

@test "a damaged log" {
    fill
    stop_instance
    for segment in "$instance"/data/wal/wal_*.log; do damage "$segment" 4200; done
    run quire check "$instance/data"
    [ "$status" = 1 ]
    [[ $output == *"quired --repair"* ]]
}

@test "what is no data directory" {
    run quire check "$instance/tmp"
    [ "$status" = 2 ]
    run quire check "$instance/nowhere"
    [ "$status" = 2 ]
    run quire check
    [ "$status" = 64 ]
}
