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

# A worker made the first, the supervisor the second, another worker the third.
@test "the same text has the same vector, bit for bit, whichever process embeds it" {
    local model text='The heron stands in the shallow water, \u00e9t\u00e9 \u6771\u4eac 42 times.' made=()
    for model in static-en hash-384; do
        make_library "\"embedding_model\":\"$model\""
        api POST "/v1/libraries/$library/documents?include_embeddings=true&encoding=base64" "{\"id\":\"$model\",\"title\":\"T\",\"texts\":[\"$text\"]}"
        expect 201
        made+=("$library $(field '.chunks[0].embedding')")
    done
    stop_instance
    rm -rf "$instance/data/vectors"
    start_instance
    for model in static-en hash-384; do
        library=${made[0]%% *}
        embedded() { api GET "/v1/libraries/$library" && [ "$(field '.metadata.embedding.done')" = 1 ]; }
        until_true 30 embedded
        api GET "/v1/libraries/$library/documents/$model?include_embeddings=true&encoding=base64"
        expect 200
        [ "$(field '.chunks[0].embedding')" = "${made[0]#* }" ]
        api POST /v1/embeddings "{\"model\":\"$model\",\"input\":\"$text\",\"encoding_format\":\"base64\"}"
        expect 200
        [ "$(field '.data[0].embedding')" = "${made[0]#* }" ]
        made=("${made[@]:1}")
    done
}

@test "a model file that tools/distill writes is what the server embeds with" {
    local python=/usr/bin/python3 expected status=0
    mkdir "$instance/tmp/models"
    expected=$("$python" "$root/tests/lib/toy_model.py" "$instance/tmp/models/static-en.quire") || status=$?
    [ "$status" != 77 ] || skip "$python has no numpy (Debian: python3-numpy)"
    [ "$status" = 0 ]
    stop_instance
    sed -i '/^model_dir/d' "$instance/quire.conf"
    printf 'model_dir = %s\n' "$instance/tmp/models" >>"$instance/quire.conf"
    start_instance
    api POST /v1/embeddings '{"model":"static-en","input":"cat a cats b"}'
    expect 200
    jq -e --arg expected "$expected" '[.data[0].embedding, ($expected | split(" ") | map(tonumber))] | transpose
        | length == 32 and all(.[]; .[0] - .[1] | fabs < 1e-6)' <<<"$body"
}
