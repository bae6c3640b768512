#!/usr/bin/env bats
# Everything is there again: after an orderly stop, after kill -9, and when the arenas are gone.

bats_require_minimum_version 1.5.0
load common

setup() { start_instance --set workers=2; }
teardown() { remove_instance; }

fill() {
    make_library '"index_type":"hnsw"'
    api POST "/v1/libraries/$library/documents" '{"title":"Three things","texts":["The heron stands in the shallow water at dawn.",
        "A bicycle chain wants oil after rain.","Bread rises slowly in a cold kitchen."],"tags":["a","b"],"metadata":{"shelf":7}}'
    expect 201
    document=$(field .id)
    [ "$(field '.chunks | length')" = 3 ]
}

found_again() {
    api GET /v1/libraries
    expect 200
    [ "$(field "[.[] | select(.id == \"$library\")] | length")" = 1 ]
    [ "$(field "[.[] | select(.id == \"$library\")][0].num_documents")" = 1 ]
    api GET "/v1/libraries/$library"
    expect 200
    [ "$(field '.documents[0].id')" = "$document" ]
    api GET "/v1/libraries/$library/documents/$document"
    expect 200
    [ "$(field '.chunks | length')" = 3 ]
    [ "$(field '.chunks[1].text')" = "A bicycle chain wants oil after rain." ]
    [ "$(field '.metadata.shelf')" = 7 ]
    [ "$(field '.metadata.tags | join(",")')" = a,b ]
    until_true 30 fully_embedded
    api POST "/v1/libraries/$library/search" '{"query":"bicycle chain oil","k":10}'
    expect 200
    [ "$(field '.results | length')" = 3 ]
    [ "$(field '.results[0].chunk.text')" = "A bicycle chain wants oil after rain." ]
    [ "$(field '.results[0].document_id')" = "$document" ]
    [ "$(field '.results[0].document_title')" = "Three things" ]
}

fully_embedded() {
    api GET "/v1/libraries/$library" && [ "$(field '.metadata.embedding.done')" = 3 ] && [ "$(field '.metadata.embedding.total')" = 3 ]
}

clean_up() {
    api DELETE "/v1/libraries/$library"
    expect 204
    api GET "/v1/libraries/$library"
    expect 404 LibraryNotFoundError
}

@test "stop, start: the library, its document and three results are there" {
    fill
    stop_instance
    [ -z "$(processes_of "$instance")" ]
    ls "$instance"/data/snapshots/snapshot_*.tar.zst
    start_instance
    found_again
    grep -q "$library" "$instance/logs/quired.log"
    clean_up
}

@test "kill -9 of the supervisor, start: the same" {
    fill
    pid=$(supervisor)
    kill -9 "$pid"
    until_true 10 test ! -e "/proc/$pid/exe"
    # No orphan: the workers die with their supervisor.
    no_process() { [ -z "$(processes_of "$instance")" ]; }
    until_true 10 no_process
    start_instance
    found_again
    clean_up
}

@test "arenas removed after a stop, start: all embedded again" {
    fill
    stop_instance
    rm -rf "$instance/data/vectors"
    start_instance
    found_again
    api GET /metrics
    expect 200
    grep -qE '^quire_recovery_vectors_pending 3$|^quire_[a-z_]*reembedded[a-z_]* 3$' <<<"$body"
    clean_up
}

@test "arenas removed after kill -9, start: from snapshot and log, embedded again" {
    fill
    kill -9 "$(supervisor)"
    no_process() { [ -z "$(processes_of "$instance")" ]; }
    until_true 10 no_process
    rm -rf "$instance/data/vectors"
    start_instance
    found_again
    clean_up
}

@test "a snapshot can be read with tar, jq and sha256sum" {
    fill
    stop_instance
    mkdir "$instance/tmp/out"
    tar --zstd -xf "$(ls "$instance"/data/snapshots/snapshot_*.tar.zst | tail -n 1)" -C "$instance/tmp/out"
    cd "$instance/tmp/out"
    sha256sum -c SHA256SUMS
    jq -e '.lsn > 0 and (.format_version // .format) >= 1' manifest.json
    [ "$(jq -r .name "$(find . -name library.json)")" = test ]
    [ "$(find . -name 'documents-*.jsonl' -exec cat {} + | jq -rs '.[0].chunks[2].text')" = "Bread rises slowly in a cold kitchen." ]
}

@test "only the log is there: everything is replayed" {
    fill
    kill -9 "$(supervisor)"
    no_process() { [ -z "$(processes_of "$instance")" ]; }
    until_true 10 no_process
    rm -rf "$instance/data/vectors" "$instance"/data/snapshots/*
    start_instance
    found_again
}

@test "two supervisors on one directory: the second is refused and the first goes on" {
    fill
    cp "$instance/quire.conf" "$instance/tmp/second.conf"
    sed -i "s|^pid_file.*|pid_file = $instance/tmp/second.pid|; s|^run_dir.*|run_dir = $instance/tmp|" "$instance/tmp/second.conf"
    run "${QUIRE_BUILD_DIR:-$root/.build}/src/quired" -c "$instance/tmp/second.conf"
    [ "$status" = 75 ]
    api GET "/v1/libraries/$library"
    expect 200
}
