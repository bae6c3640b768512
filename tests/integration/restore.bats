#!/usr/bin/env bats
# quire restore: a whole server from an archive, a directory of them or a data directory; a point in time; one library; archives edited by hand; and back.

bats_require_minimum_version 1.5.0
load common

teardown() { remove_instance; }

quire() { "${QUIRE_BUILD_DIR:-$root/.build}/src/quire" "$@"; }
restore() { quire restore "$@"; }

put() { # put DOCUMENT TEXT...: makes or replaces it in $library; sets lsn
    local id=$1 texts
    shift
    texts=$(printf '%s\n' "$@" | jq -R . | jq -s -c .)
    api PUT "/v1/libraries/$library/documents/$id" "{\"title\":\"of $id\",\"texts\":$texts,\"tags\":[\"a\"],\"metadata\":{\"n\":\"$id\"}}"
    [ "$code" = 200 ] || [ "$code" = 201 ] || return 1
    lsn=$(sed -nE 's/^Quire-LSN: ([0-9]+).*/\1/Ip' "$headers")
}

remove() {
    api DELETE "/v1/libraries/$library/documents/$1"
    expect 204
}

# All that is there, in a form to compare: names of libraries, then documents with texts and fields.
content() {
    local libraries ids
    api GET '/v1/libraries?limit=1000'
    libraries=$(jq -r 'sort_by(.name)[].id' <<<"$body")
    for library in $libraries; do
        api GET "/v1/libraries/$library"
        jq -c '["library", .name, .metadata.index_type]' <<<"$body"
        api GET "/v1/libraries/$library/documents?limit=1000"
        ids=$(jq -r '.[].id' <<<"$body" | sort)
        for id in $ids; do
            api GET "/v1/libraries/$library/documents/$id"
            jq -c '[.id, .metadata, [.chunks[] | [.id, .text, .metadata]]] | del(.. | .created_at?)' <<<"$body"
        done
    done
}

kill_server() {
    kill -9 "$(supervisor)"
    no_process() { [ -z "$(processes_of "$instance")" ]; }
    until_true 10 no_process
}

# Two libraries and some history; sets test and second, their ids; library is that of test.
fill() {
    api POST /v1/libraries '{"name":"notes","index_type":"flat"}'
    expect 201
    second=$(field .id)
    library=$second
    put n1 "The kettle sings."
    make_library
    test=$library
    put d1 "The heron stands in the shallow water at dawn." "Bread rises slowly."
    put d2 "A bicycle chain wants oil after rain."
    put d3 "Snow fell on the orchard."
}

# In an instance of its own: what is in that data directory, as the server has it.
content_of() {
    rm -rf "$instance/data"
    mv "$1" "$instance/data"
    start_instance
    content
    stop_instance
}

@test "from an archive, from a directory of snapshots and from a data directory: the same libraries, in a new directory" {
    start_instance --set workers=2
    fill
    remove d3
    content >"$BATS_TEST_TMPDIR/before"
    stop_instance
    archive=$(ls "$instance"/data/snapshots/*.tar.*)
    for source in "$archive" "$instance/data/snapshots" "$instance/data"; do
        run --separate-stderr restore "$source" --into "$instance/made.${source##*/}" --json
        echo "$output $stderr"
        [ "$status" = 0 ]
        [ "$(jq -r '"\(.libraries) \(.documents) \(.chunks)"' <<<"$output")" = "2 3 4" ]
        quire check "$instance/made.${source##*/}"
    done
    cp -r "$instance/data/snapshots" "$instance/copies"
    for made in "$instance"/made.*; do
        content_of "$made" | diff "$BATS_TEST_TMPDIR/before" -
    done
    # An archive of any name, in any place.
    mv "$instance/copies/${archive##*/}" "$instance/somewhere"
    restore "$instance/somewhere" --into "$instance/other"
    content_of "$instance/other" | diff "$BATS_TEST_TMPDIR/before" -
    # And it is called by that name.
    head -c 300 "$instance/somewhere" >"$instance/a half"
    run restore "$instance/a half" --into "$instance/none"
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *"a half"* && $output != *snapshot_00000000* ]]
}

@test "a point in time: written, noted, written on, deleted, killed; back to each note exactly" {
    start_instance --set workers=2 --set wal_segment_bytes=65536 --set snapshot_interval=0 --set snapshot_every_ops=0
    fill
    content >"$BATS_TEST_TMPDIR/first"
    library=$test
    put d4 "The last one of the first part."
    first=$((lsn - 1))
    sleep 0.02
    moment=$(date -u +%Y-%m-%dT%H:%M:%S.%6NZ)
    content >"$BATS_TEST_TMPDIR/second"
    library=$test
    sleep 0.02
    put d1 "Something else stands here now."
    remove d2
    api POST "/v1/libraries/$library/documents/batch" '{"documents":[{"id":"b1","title":"t","texts":["one"]},{"id":"b2","title":"t","texts":["two"]}]}'
    [ "$code" = 200 ] || expect 201
    for n in $(seq 1 12); do put "filler$n" "$(head -c 12000 /dev/urandom | base64 -w 0)"; done
    api DELETE "/v1/libraries/$second"
    expect 204
    content >"$BATS_TEST_TMPDIR/last"
    kill_server
    [ "$(find "$instance/data/wal" -name 'wal_*' | wc -l)" -gt 2 ]
    cp -r "$instance/data" "$instance/copy"

    restore "$instance/copy" --into "$instance/at-lsn" --to-lsn "$first"
    restore "$instance/copy" --into "$instance/at-time" --to-time "$moment"
    restore "$instance/copy/snapshots" --into "$instance/at-end" --log "$instance/copy/wal" || restore "$instance/copy" --into "$instance/at-end"
    content_of "$instance/at-lsn" | diff "$BATS_TEST_TMPDIR/first" -
    content_of "$instance/at-time" | diff "$BATS_TEST_TMPDIR/second" -
    content_of "$instance/at-end" | diff "$BATS_TEST_TMPDIR/last" -

    # Targets that cannot be.
    run restore "$instance/copy" --into "$instance/no" --to-lsn 100000
    [ "$status" = 65 ]
    [[ $output == *"LSN 100000 is not there"* ]]
    [ -z "$(ls -A "$instance/no" | grep -v '^LOCK$')" ]
    # The state of a stopped server goes back in its place.
    rm -rf "$instance/data"
    mv "$instance/copy" "$instance/data"
    restore "$instance/data" --into "$instance/data" --to-time "$moment"
    start_instance
    content | diff "$BATS_TEST_TMPDIR/second" -
    # What was embedded before and is there again is not embedded again. (The library notes was deleted since, with its vectors.)
    grep 'library "test"' "$instance/logs/quired.log" | tail -n 1 | grep -q '5 chunks, 5 embeddings kept'
}

@test "segments that are missing, doubled, renamed, of another server: restored or refused by name" {
    start_instance --set workers=2 --set wal_segment_bytes=65536 --set snapshot_interval=0 --set snapshot_every_ops=0
    fill
    for n in $(seq 1 14); do put "filler$n" "$(head -c 12000 /dev/urandom | base64 -w 0)"; done
    content >"$BATS_TEST_TMPDIR/before"
    kill_server
    mv "$instance/data" "$instance/old"
    readarray -t segments < <(cd "$instance/old/wal" && ls wal_*)
    [ ${#segments[@]} -ge 3 ]
    # Doubled: in two directories; and under names that are exchanged.
    mkdir "$instance/log"
    cp "$instance/old/wal/${segments[1]}" "$instance/log/"
    restore "$instance/old" --into "$instance/doubled" --log "$instance/log"
    # Missing: named, with the LSN up to which it would go; found again with --log.
    rm "$instance/old/wal/${segments[1]}"
    run restore "$instance/old" --into "$instance/missing"
    [ "$status" = 65 ]
    [[ $output =~ "LSN "([0-9]+)" to "[0-9]+" are in no segment: ${segments[2]} begins behind them" ]]
    restore "$instance/old" --into "$instance/part" --to-lsn $((BASH_REMATCH[1] - 1))
    restore "$instance/old" --into "$instance/found" --log "$instance/log"
    # Exchanged: it is the header that counts, not the name.
    mkdir "$instance/exchanged"
    cp "$instance/log/${segments[1]}" "$instance/exchanged/${segments[2]}"
    cp "$instance/old/wal/${segments[2]}" "$instance/exchanged/${segments[1]}"
    cp "$instance/old/wal/${segments[0]}" "$instance/old/wal/${segments[-1]}" "$instance/exchanged/"
    [ ${#segments[@]} -gt 3 ] && cp "$instance"/old/wal/wal_* "$instance/exchanged" -n
    restore "$instance/exchanged" --into "$instance/swapped" --log "$instance/exchanged"
    # Of another server.
    start_instance
    make_library
    put other "Not of this log."
    kill_server
    mkdir "$instance/other"
    for s in "$instance"/data/wal/wal_*; do cp "$s" "$instance/other/"; done
    run restore "$instance/old" --into "$instance/mixed" --log "$instance/log" --log "$instance/other"
    [ "$status" = 65 ]
    [[ $output == *"belongs to another log than"* ]]
    # The archive of one server and the log of another, where the LSNs would fit.
    mkdir "$instance/archive"
    start_instance
    api POST /v1/snapshots '{}'
    taken() { cp "$instance"/data/snapshots/snapshot_* "$instance/archive/"; }
    until_true 20 taken
    kill_server
    run restore "$instance/archive" --into "$instance/mixed" --log "$instance/old/wal" --log "$instance/log"
    [ "$status" = 65 ]
    [[ $output == *"does not continue snapshot_"* ]]
    content_of "$instance/doubled" | diff "$BATS_TEST_TMPDIR/before" -
    content_of "$instance/found" | diff "$BATS_TEST_TMPDIR/before" -
    content_of "$instance/swapped" | diff "$BATS_TEST_TMPDIR/before" -
}

@test "one library: under its name where it is free, under another beside the first, and what was there stays" {
    start_instance --set workers=2
    fill
    lost=$second
    stop_instance
    mv "$instance/data" "$instance/old"
    cp -r "$instance/old" "$instance/data"
    start_instance
    put d5 "Written since."
    content >"$BATS_TEST_TMPDIR/before"
    api DELETE "/v1/libraries/$lost"
    expect 204
    # While the server runs, nothing is done.
    run restore "$instance/old" --into "$instance/data" --library notes
    [ "$status" = 75 ]
    [[ $output == *"in use by another server"* ]]
    stop_instance
    restore "$instance/old" --into "$instance/data" --library notes
    start_instance
    content | diff "$BATS_TEST_TMPDIR/before" -
    api GET "/v1/libraries/$lost"
    expect 200
    stop_instance
    run restore "$instance/old" --into "$instance/data" --library notes
    [ "$status" = 65 ]
    [[ $output == *"give the restored one another name with --as"* ]]
    run restore "$instance/old" --into "$instance/data" --library nothing
    [ "$status" = 66 ]
    restore "$instance/old" --into "$instance/data" --library "$lost" --as "notes of monday"
    start_instance
    api GET '/v1/libraries?limit=10'
    [ "$(jq -r '[.[].name] | sort | join(",")' <<<"$body")" = "notes,notes of monday,test" ]
    copy=$(jq -r '.[] | select(.name == "notes of monday").id' <<<"$body")
    [ "$copy" != "$lost" ]
    api GET "/v1/libraries/$copy/documents/n1"
    expect 200
    # Out of the past of the directory itself.
    library=$copy
    remove n1
    stop_instance
    restore "$instance/data" --into "$instance/data" --library "notes of monday" --as again
    start_instance
    api GET '/v1/libraries?limit=10'
    [ "$(jq -r 'length' <<<"$body")" = 4 ]
}

@test "what a restore replaces stays until the server has served and put the new state into a snapshot; --undo puts it back" {
    start_instance --set workers=2 --set snapshot_interval=0 --set snapshot_every_ops=0
    fill
    stop_instance
    cp -r "$instance/data" "$instance/old"
    start_instance
    put d9 "Only in the newer state."
    content >"$BATS_TEST_TMPDIR/newer"
    stop_instance
    : >"$instance/data/replaced.by-me"
    restore "$instance/old" --into "$instance/data"
    [ -d "$(echo "$instance"/data/replaced.2*)" ]
    run restore --undo --into "$instance/data"
    [ "$status" = 0 ]
    [[ $output == *"is back as it was"* ]]
    run restore --undo --into "$instance/data"
    [ "$status" = 66 ]
    start_instance
    content | diff "$BATS_TEST_TMPDIR/newer" -
    stop_instance
    restore "$instance/old" --into "$instance/data"
    start_instance
    # It serves, but nothing of it is in a snapshot yet.
    [ -d "$(echo "$instance"/data/replaced.2*)" ]
    kill_server
    [ -d "$(echo "$instance"/data/replaced.2*)" ]
    # The snapshot of a stop counts at the next start only.
    start_instance
    stop_instance
    restore --undo --into "$instance/data"
    start_instance
    content | diff "$BATS_TEST_TMPDIR/newer" -
    stop_instance
    restore "$instance/old" --into "$instance/data"
    start_instance
    stop_instance
    [ -d "$(echo "$instance"/data/replaced.2*)" ]
    start_instance
    gone() { [ -z "$(find "$instance/data" -maxdepth 1 -name 'replaced.2*')" ]; }
    until_true 20 gone
    until_true 10 grep -q 'the restored state has started well' "$instance/logs/quired.log"
    [ -e "$instance/data/replaced.by-me" ]
    stop_instance
    restore "$instance/old" --into "$instance/data"
    start_instance
    api POST /v1/snapshots '{}'
    until_true 20 gone
    api GET "/v1/libraries/$library/documents/d9"
    expect 404
}

@test "an archive edited by hand restores, from each compression that tar makes" {
    start_instance --set workers=2
    fill
    stop_instance
    archive=$(ls "$instance"/data/snapshots/*.tar.*)
    mkdir "$instance/unpacked"
    tar -C "$instance/unpacked" -xf "$archive"
    cd "$instance/unpacked"
    documents=$(grep -l '"d1"' libraries/*/documents-*.jsonl)
    jq -c 'if .id == "d1" then .chunks[0].text = "A crane, by hand." | .metadata.title = "edited" else . end' "$documents" >../edited
    cp ../edited "$documents"
    # The sums are still those of before.
    tar -cf ../wrong.tar ./*
    run restore "$instance/wrong.tar" --into "$instance/wrong"
    [ "$status" = 65 ]
    [[ $output == *"fails its checksum"* ]]
    sha256sum manifest.json libraries/*/* >SHA256SUMS
    tar -cf "$instance/plain.tar" manifest.json SHA256SUMS libraries
    tar -czf "$instance/by.tar.gz" .
    tar -cJf "$instance/by.tar.xz" ./*
    tar --format=gnu --zstd -cf "$instance/by.tar.zst" libraries manifest.json SHA256SUMS
    tar --format=pax --zstd -cf "$instance/pax.tar.zst" libraries manifest.json SHA256SUMS
    tar --format=ustar --owner=7 --mtime=2001-01-01 --zstd -cf "$instance/ustar.tar.zst" libraries manifest.json SHA256SUMS
    cd "$instance"
    for file in plain.tar by.tar.gz by.tar.xz by.tar.zst pax.tar.zst ustar.tar.zst; do
        restore "$file" --into "made.$file"
        content_of "$instance/made.$file" >"$BATS_TEST_TMPDIR/content"
        grep -q '"A crane, by hand."' "$BATS_TEST_TMPDIR/content"
        grep -q '"edited"' "$BATS_TEST_TMPDIR/content"
        [ "$(wc -l <"$BATS_TEST_TMPDIR/content")" = 6 ]
    done
}

@test "root restores for the owner of the directory, also where an interrupted restore is completed" {
    [ "$(id -u)" = 0 ] || skip "needs root"
    start_instance --set workers=2
    fill
    stop_instance
    chmod 700 "$instance/data/snapshots"
    mkdir "$instance/theirs"
    chown 65534:65534 "$instance/theirs"
    restore "$instance/data" --into "$instance/theirs"
    [ -z "$(find "$instance/theirs" ! -user 65534)" ]
    # Killed behind the decision; the next one completes it first.
    run env QUIRE_IO_FAULT=rename:kill,path=snapshots "${QUIRE_BUILD_DIR:-$root/.build}/src/quire" restore "$instance/data" --into "$instance/theirs"
    [ "$status" = 137 ]
    [ -d "$instance/theirs/restore.ready" ]
    run quire check "$instance/theirs"
    [ "$status" = 2 ]
    [[ $output == *"a restore was interrupted half-way"* ]]
    restore "$instance/data" --into "$instance/theirs" --library test --as again
    [ -z "$(find "$instance/theirs" ! -user 65534)" ]
    quire check "$instance/theirs"
}

# configured N: the configuration was read again so many times.
configured() { [ "$(grep -c 'configuration reloaded' "$instance/logs/quired.log")" -ge "$1" ]; }

# The next snapshot, by hand.
snapshot() {
    local task
    api POST /v1/snapshots '{}'
    task=$(field .id)
    done_with() { api GET "/v1/tasks/$task" && [ "$(field .state)" = succeeded ]; }
    until_true 30 done_with
}

@test "chains of archives, of all compressions, to any point; a link that is missing is named" {
    start_instance --set workers=2 --set snapshot_interval=0 --set snapshot_every_ops=0 --set snapshot_keep=20 --set snapshot_compression=none
    fill
    library=$second
    for n in $(seq 1 6); do put "big$n" "$(head -c 20000 /dev/urandom | base64 -w 0)"; done
    snapshot
    library=$test
    # Each link is packed in another way.
    at=()
    for compression in gzip xz zstd; do
        sed -i "s/^snapshot_compression.*/snapshot_compression = $compression/" "$instance/quire.conf"
        kill -HUP "$(supervisor)"
        n=${#at[@]}
        until_true 10 configured $((n + 1))
        put "link$n" "Written between the archives."
        snapshot
        at+=("$lsn")
        content >"$BATS_TEST_TMPDIR/content$n"
    done
    put last "Only in the log."
    content >"$BATS_TEST_TMPDIR/content3"
    kill_server
    readarray -t archives < <(cd "$instance/data/snapshots" && ls snapshot_*)
    [ ${#archives[@]} = 4 ]
    [ "$(printf '%s\n' "${archives[@]}" | sed 's/.*\.tar//' | tr '\n' ' ')" = " .gz .xz .zst " ]
    tar -xOf "$instance/data/snapshots/${archives[3]}" manifest.json | jq -e ".base.archive == \"${archives[2]}\" and .depth == 3"
    mv "$instance/data" "$instance/old"
    restore "$instance/old" --into "$instance/made.0" --to-lsn "${at[0]}"
    restore "$instance/old/snapshots/${archives[2]}" --into "$instance/made.1"
    restore "$instance/old/snapshots" --into "$instance/made.2"
    restore "$instance/old" --into "$instance/made.3"
    for n in 0 1 2 3; do content_of "$instance/made.$n" | diff "$BATS_TEST_TMPDIR/content$n" -; done
    # One in the middle is gone: named, where only the last was given; else an older one is taken, with the log behind it.
    rm "$instance/old/snapshots/${archives[1]}"
    run restore "$instance/old/snapshots/${archives[3]}" --into "$instance/broken"
    [ "$status" = 65 ]
    [[ $output == *"${archives[3]} rests on others, and there is no snapshot ${archives[1]}"* ]]
    run restore "$instance/old" --into "$instance/made.4"
    [ "$status" = 0 ]
    [[ $output == *"cannot be used, an older one is tried"* ]]
    content_of "$instance/made.4" | diff "$BATS_TEST_TMPDIR/content3" -
}

@test "the log of archive_dir, with an archive: to any point behind it" {
    instance=$(mktemp -d "${TMPDIR:-/tmp}/quire-test.XXXXXX")
    mkdir "$instance/log"
    start_instance --set workers=2 --set wal_segment_bytes=65536 --set snapshot_interval=0 --set snapshot_every_ops=0 --set "archive_dir=$instance/log"
    fill
    snapshot
    cp -r "$instance/data/snapshots" "$instance/backup"
    for n in $(seq 1 14); do put "filler$n" "$(head -c 12000 /dev/urandom | base64 -w 0)"; done
    put late "The last before the mistake."
    content >"$BATS_TEST_TMPDIR/content"
    target=$lsn
    api DELETE "/v1/libraries/$test"
    expect 204
    # A stop archives what the last segment has.
    stop_instance
    [ "$(find "$instance/log" -name 'wal_*' | wc -l)" -gt 2 ]
    # The machine is gone; what is left lies elsewhere.
    rm -r "$instance/data"
    restore "$instance/backup" --into "$instance/data" --log "$instance/log" --to-lsn "$target"
    # The log of the restored server is another one.
    mv "$instance/log" "$instance/log.before"
    mkdir "$instance/log"
    start_instance
    content | diff "$BATS_TEST_TMPDIR/content" -
}

@test "what helps: words that are missing, a source that is not there, a directory that is something else, too little room" {
    start_instance --set workers=2
    fill
    stop_instance
    run restore "$instance/data"
    [ "$status" = 64 ]
    [[ $output == *"--into DIRECTORY"* ]]
    run restore "$instance/data" --into "$instance/x" --to-lsn 1 --to-time 2026-01-01T00:00:00Z
    [ "$status" = 64 ]
    run restore "$instance/data" --into "$instance/x" --as other
    [ "$status" = 64 ]
    local name
    for name in '' "$(printf 'x%.0s' {1..256})" $'two\nlines' $'\xff'; do # what no library can be called
        run restore "$instance/data" --into "$instance/x" --library test --as "$name"
        [ "$status" = 65 ]
        [[ $output == *"--as takes a name of 1 to 255 bytes"* ]]
    done
    run restore "$instance/data" --into "$instance/x" --to-time yesterday
    [ "$status" = 64 ]
    run restore "$instance/nowhere" --into "$instance/x"
    [ "$status" = 66 ]
    run restore "$instance/tls" --into "$instance/x"
    [ "$status" = 66 ]
    [[ $output == *"neither a snapshot nor a log"* ]]
    run restore "$instance/data" --into "$instance/tls"
    [ "$status" = 65 ]
    [[ $output == *"no data directory of quire"* ]]
    [ "$(ls "$instance/tls" | wc -l)" -gt 0 ]
    run restore "$instance/data" --into "$instance/small" --max-bytes 100
    [ "$status" = 65 ]
    [[ $output == *"more than 100 bytes"* ]]
    [ "$(ls "$instance/small")" = LOCK ]
    run restore "$instance/data" --into "$instance/x" --to-time 2001-01-01T00:00:00Z
    [ "$status" = 65 ]
    [[ $output == *"nothing was there yet"* ]]
    run restore "$instance/data/snapshots" --into "$instance/y" --to-time 2001-01-01T00:00:00Z
    [ "$status" = 66 ]
}
