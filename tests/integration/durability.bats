#!/usr/bin/env bats
# What the disk does to it: a failing fdatasync is never acknowledged, a full disk gives 507 and search goes on; and the campaigns, in short.

bats_require_minimum_version 1.5.0
load common

teardown() { remove_instance; }

@test "a failing fdatasync is never acknowledged; the supervisor ends, and the next start has all that was" {
    fault=$(mktemp)
    rm "$fault"
    QUIRE_IO_FAULT="fdatasync:errno=EIO,path=wal_,file=$fault" start_instance --set workers=2
    make_library
    api POST "/v1/libraries/$library/documents" '{"id":"before","title":"t","texts":["kept words"]}'
    expect 201
    : >"$fault"
    pid=$(supervisor)
    api POST "/v1/libraries/$library/documents" '{"id":"during","title":"t","texts":["not promised"]}'
    [ "$code" = 503 ] || [ "$code" = 500 ]
    gone() { [ ! -e "/proc/$pid/exe" ]; }
    until_true 20 gone
    rm "$fault"
    start_instance
    api GET "/v1/libraries/$library/documents/before"
    expect 200
    api POST "/v1/libraries/$library/documents" '{"id":"after","title":"t","texts":["goes on"]}'
    expect 201
}

@test "a full disk: 507, nothing half-done, search goes on, and it heals" {
    fault=$(mktemp)
    rm "$fault"
    QUIRE_IO_FAULT="fallocate:errno=ENOSPC,file=$fault;write:errno=ENOSPC,path=wal_,file=$fault" start_instance --set workers=2
    make_library
    api POST "/v1/libraries/$library/documents" '{"id":"before","title":"t","texts":["a heron at dawn"]}'
    expect 201
    : >"$fault"
    local refused=0
    for i in $(seq 1 40); do
        # Room that is there already may be used up first.
        api POST "/v1/libraries/$library/documents" "{\"id\":\"d$i\",\"title\":\"t\",\"texts\":[\"$(head -c 60000 /dev/zero | tr '\0' x)\"]}"
        if [ "$code" = 201 ]; then continue; fi
        expect 507 InsufficientStorageError
        refused=$i
        break
    done
    [ "$refused" -gt 0 ]
    api GET "/v1/libraries/$library/documents/d$refused"
    expect 404 DocumentNotFoundError
    api POST "/v1/libraries/$library/search" '{"query":"heron","k":1}'
    expect 200
    [ "$(field '.results[0].document_id')" = before ]
    api POST /v1/libraries '{"name":"no room"}'
    expect 507 InsufficientStorageError
    rm "$fault"
    api POST "/v1/libraries/$library/documents" "{\"id\":\"d$refused\",\"title\":\"t\",\"texts\":[\"room again\"]}"
    expect 201
    api POST /v1/libraries '{"name":"room"}'
    expect 201
}

@test "a really full file system: 507, no SIGBUS, search goes on" {
    [ "$(id -u)" = 0 ] || skip "mounting a small tmpfs needs root"
    instance=$(mktemp -d "${TMPDIR:-/tmp}/quire-test.XXXXXX")
    mkdir "$instance/data"
    mount -t tmpfs -o size=24m tmpfs "$instance/data" || skip "no tmpfs can be mounted here"
    start_instance --set workers=2 --set wal_segment_bytes=1M
    make_library
    api POST "/v1/libraries/$library/documents" '{"id":"before","title":"t","texts":["a heron at dawn"]}'
    expect 201
    local full=0 text
    text=$(head -c 60000 /dev/urandom | base64 -w 0 | head -c 60000)
    for i in $(seq 1 600); do
        api POST "/v1/libraries/$library/documents" "{\"id\":\"d$i\",\"title\":\"t\",\"texts\":[\"$text\"]}"
        [ "$code" = 201 ] && continue
        expect 507 InsufficientStorageError
        full=$((full + 1))
        [ $full -lt 5 ] || break
    done
    [ $full -ge 5 ]
    api POST "/v1/libraries/$library/search" '{"query":"heron","k":1}'
    expect 200
    [ "$(field '.results[0].document_id')" = before ]
    run ! grep -q SIGBUS "$instance/logs/quired.log"
    mount -o remount,size=200m "$instance/data"
    api POST "/v1/libraries/$library/documents" '{"id":"last","title":"t","texts":["room again"]}'
    expect 201
    stop_instance
    start_instance
    api GET "/v1/libraries/$library/documents/last"
    expect 200
    stop_instance
    umount "$instance/data"
}

all_linked() { api GET /metrics && [ "$(awk '$1 == "quire_index_tail_chunks" { print $2 }' <<<"$body")" = 0 ]; }

@test "changed pages are written back, and links are made all the same" {
    start_instance --set write_back_interval=1 --set log_level=debug
    make_library '"index_type":"hnsw","index_config":{"M":64}'
    local texts part
    for part in $(seq 60); do
        texts=$(jq -cn --arg part "$part" '[range(100) | "heron \(.) of part \($part)"]')
        api POST "/v1/libraries/$library/documents" "{\"title\":\"$part\",\"texts\":$texts}"
        expect 201
    done
    [ "$(stat -c %s "$instance/data/vectors/$library/graph.1.mmap")" -gt $((5 << 20)) ] # a quarter of which may not be in use
    until_true 30 grep -q 'bytes of arenas were written back' "$instance/logs/quired.log"
    until_true 30 all_linked
}
