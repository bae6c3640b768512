#!/usr/bin/env bats
# snapshots.bats - snapshots that hold what changed, and the archive of the log, through a running server.

bats_require_minimum_version 1.5.0
load common

setup() {
    start_instance --set snapshot_interval=0 --set snapshot_every_ops=0 --set wal_segment_bytes=64K
}
teardown() { remove_instance; }

# Takes one and waits for it; sets name.
snapshot() {
    api POST /v1/snapshots
    expect 202
    local task
    task=$(field .id)
    finished() { api GET "/v1/tasks/$task" && [ "$(field .state)" != running ] && [ "$(field .state)" != pending ]; }
    until_true 30 finished
    [ "$(field .state)" = succeeded ]
    api GET /v1/snapshots
    expect 200
    name=$(field '.[0].name')
}

verify() { # NAME STATE
    api POST "/v1/snapshots/$1/verify"
    expect 202
    [ "$(field .kind)" = verify ]
    local task state=$2
    task=$(field .id)
    ended() { api GET "/v1/tasks/$task" && [ "$(field .state)" = "$state" ]; }
    until_true 30 ended
}

put() { # LIBRARY DOCUMENT TEXT
    api PUT "/v1/libraries/$1/documents/$2" "{\"title\":\"t\",\"texts\":[\"$3\"]}"
    [ "$code" = 200 ] || [ "$code" = 201 ]
}

texts() { # LIBRARY DOCUMENT
    api GET "/v1/libraries/$1/documents/$2" && expect 200 && field '.chunks[0].text'
}

metric() { api GET /metrics && awk -v name="$1" '$1 == name {print $2}' <<<"$body"; }

three_libraries() {
    local i
    libraries=()
    for i in 1 2 3; do
        make_library
        libraries+=("$library")
        put "$library" first "a text of library $i that is long enough to weigh something"
    done
}

kill_server() {
    kill -9 "$(supervisor)"
    no_process() { [ -z "$(processes_of "$instance")" ]; }
    until_true 10 no_process
}

quire() { QUIRE_URL=$url QUIRE_CACERT=$instance/tls/cert.pem "${QUIRE_BUILD_DIR:-$root/.build}/src/quire" "$@"; }

@test "quire snapshot create --wait: it is there, or says why not" {
    run quire snapshot create --wait
    echo "$output"
    [ "$status" = 0 ]
    [ "$(quire snapshot list --json | jq length)" = 1 ]
    run quire snapshot list too much
    [ "$status" = 64 ]
    stop_instance
    fault=$BATS_TEST_TMPDIR/fault
    QUIRE_IO_FAULT="write:errno=EIO,path=/snapshots/,file=$fault" start_instance
    : >"$fault"
    run quire snapshot create --wait
    rm "$fault"
    echo "$output"
    [ "$status" = 69 ]
    [[ $output == *"snapshot: failed: "* ]]
    [ "$(quire snapshot list --json | jq length)" = 1 ]
}

@test "what changed is in the archive, all of it comes back, and chains go on after a restart" {
    three_libraries
    snapshot
    first=$name
    put "${libraries[1]}" first "changed"
    snapshot
    second=$name
    [ "$(field '.[0].base')" = "$first" ]
    [ "$(tar -tf "$instance/data/snapshots/$second" | grep -c library.json)" = 1 ]
    [ "$(tar -xOf "$instance/data/snapshots/$second" manifest.json | jq '.libraries | length')" = 3 ]

    # The next server goes on with the chain.
    stop_instance
    start_instance
    put "${libraries[2]}" second "new"
    snapshot
    third=$name
    [ "$(field '.[0].base')" = "$second" ]
    [ "$(metric quire_snapshots_incremental_total)" = 1 ]

    # From the chain alone: no arenas, and a log that begins behind it.
    kill_server
    rm -rf "$instance/data/vectors"
    start_instance
    grep -q "$third" "$instance/logs/quired.log"
    [ "$(texts "${libraries[0]}" first)" = "a text of library 1 that is long enough to weigh something" ]
    [ "$(texts "${libraries[1]}" first)" = changed ]
    [ "$(texts "${libraries[2]}" second)" = new ]

    # And goes on from what it came from.
    put "${libraries[0]}" second "newer"
    snapshot
    [ "$(field '.[0].base')" = "$third" ]
}

@test "a library that is deleted, and one whose definition changed" {
    three_libraries
    snapshot
    api DELETE "/v1/libraries/${libraries[0]}"
    expect 204
    api PATCH "/v1/libraries/${libraries[1]}" '{"description":"another"}'
    expect 200
    snapshot
    [ "$(field '.[0].base')" != null ]
    kill_server
    rm -rf "$instance/data/vectors"
    start_instance
    api GET "/v1/libraries/${libraries[0]}"
    expect 404 LibraryNotFoundError
    api GET "/v1/libraries/${libraries[1]}"
    [ "$(field .metadata.description)" = another ]
    [ "$(texts "${libraries[2]}" first)" = "a text of library 3 that is long enough to weigh something" ]
}

@test "a chain with a bad link: the last good one and the log, and it is said" {
    three_libraries
    snapshot
    first=$name
    put "${libraries[1]}" first "changed"
    kill_server
    # The log still holds everything: nothing was let go since the segment is the first.
    start_instance
    snapshot
    second=$name
    kill_server
    rm -rf "$instance/data/vectors"
    mv "$instance/data/snapshots/$second" "$instance/tmp/"
    printf 'garbage' | dd of="$instance/tmp/$second" bs=1 seek=300 conv=notrunc status=none
    mv "$instance/tmp/$second" "$instance/data/snapshots/"
    start_instance
    grep -q "a snapshot does not verify\|cannot be read and is passed over" "$instance/logs/quired.log"
    grep -q "$first" "$instance/logs/quired.log"
    [ "$(texts "${libraries[1]}" first)" = changed ]
}

@test "restored on trial: on demand, remembered over a restart, and an alarm where it fails" {
    three_libraries
    snapshot
    first=$name
    [ "$(field '.[0].verified')" = null ]
    verify "$first" succeeded
    [ "$(field .done)" = 3 ]
    api GET /v1/snapshots
    [ "$(field '.[0].verified.good')" = true ]
    [ "$(metric quire_snapshot_verified_good)" = 1 ]
    lsn=$(metric quire_snapshot_verified_lsn)
    [ "$lsn" -gt 0 ]
    stop_instance
    start_instance
    [ "$(metric quire_snapshot_verified_lsn)" = "$lsn" ]

    put "${libraries[0]}" first "changed"
    snapshot
    second=$name
    [ "$(field '.[0].base')" = "$first" ]
    printf 'garbage' | dd of="$instance/data/snapshots/$second" bs=1 seek=200 conv=notrunc status=none
    verify "$second" failed
    [ "$(metric quire_snapshot_verified_good)" = 0 ]
    [ "$(metric quire_snapshot_verification_failures_total)" = 1 ]
    [ "$(metric quire_snapshot_verified_lsn)" = "$lsn" ]
    grep -q "a snapshot does not verify" "$instance/logs/quired.log"

    # The next one rests on nothing that is doubted.
    put "${libraries[0]}" first "changed again"
    snapshot
    [ "$(field '.[0].base')" = null ]
    verify "$name" succeeded

    api POST /v1/snapshots/snapshot_20200101_000000.tar.zst/verify
    expect 404 SnapshotNotFoundError
    api POST /v1/snapshots/..%2Fwal/verify
    expect 404 SnapshotNotFoundError
}

@test "an archive can be had over HTTP, and nothing else" {
    three_libraries
    snapshot
    file=$instance/data/snapshots/$name
    curl -sS --cacert "$instance/tls/cert.pem" -D "$instance/tmp/headers" -o "$instance/tmp/got" "$url/v1/snapshots/$name"
    cmp "$instance/tmp/got" "$file"
    grep -qi '^content-type: application/zstd' "$instance/tmp/headers"
    grep -qi '^x-request-id: ' "$instance/tmp/headers"
    grep -qi "^content-length: $(stat -c %s "$file")" "$instance/tmp/headers"
    grep -qi "^content-disposition: attachment; filename=\"$name\"" "$instance/tmp/headers"
    api HEAD "/v1/snapshots/$name"
    expect 200
    for path in record ..%2Fquire.conf snapshot_20200101_000000.tar.zst '' .; do
        api GET "/v1/snapshots/$path"
        [ "$code" = 404 ] || [ -z "$path" ] || [ "$path" = . ]
    done
    ln -s ../../quire.conf "$instance/data/snapshots/snapshot_20200101_000000.tar"
    api GET /v1/snapshots/snapshot_20200101_000000.tar
    expect 404 SnapshotNotFoundError
    rm "$instance/data/snapshots/snapshot_20200101_000000.tar"

    # A large one, to clients that take their time: constant memory, no more than a part of the workers, and searches go on.
    head -c 200000000 /dev/zero >"$instance/data/snapshots/snapshot_20200101_000000.tar"
    curl -sS --cacert "$instance/tls/cert.pem" "$url/v1/snapshots/snapshot_20200101_000000.tar" | cmp - "$instance/data/snapshots/snapshot_20200101_000000.tar"
    most=0
    for pid in $(workers); do
        peak=$(awk '/VmHWM/ {print $2}' "/proc/$pid/status")
        [ "$peak" -le "$most" ] || most=$peak
    done
    [ "$most" -lt 150000 ]
}

@test "four packings, changed by a reload" {
    three_libraries
    for packing in none gzip xz zstd; do
        sed -i '/^snapshot_compression/d' "$instance/quire.conf"
        printf 'snapshot_compression = %s\n' "$packing" >>"$instance/quire.conf"
        kill -HUP "$(supervisor)"
        case $packing in none) suffix=tar ;; gzip) suffix=tar.gz ;; xz) suffix=tar.xz ;; zstd) suffix=tar.zst ;; esac
        took_it() {
            put "${libraries[0]}" first "$packing" && snapshot && [ "${name#*.}" = "$suffix" ]
        }
        until_true 20 took_it
    done
    kill_server
    rm -rf "$instance/data/vectors"
    start_instance
    [ "$(texts "${libraries[0]}" first)" = zstd ]
}

@test "the log is archived, waits for a directory that is gone, and is whole in the end" {
    mkdir "$instance/tmp/archive"
    stop_instance
    start_instance --set archive_dir="$instance/tmp/archive"
    make_library
    long=$(printf 'word %.0s' $(seq 1 3000))
    for i in 1 2 3 4 5 6 7 8; do put "$library" "d$i" "$i $long"; done
    archived() { [ "$(find "$instance/tmp/archive" -name 'wal_*' | wc -l)" -ge 1 ] && [ "$(metric quire_wal_archive_lag_segments)" = 0 ]; }
    until_true 20 archived

    # Gone: an alarm, writes go on, snapshots let nothing of the log go.
    mv "$instance/tmp/archive" "$instance/tmp/elsewhere"
    for i in 1 2 3 4 5 6 7 8; do put "$library" "e$i" "$i $long"; done
    snapshot
    failing() { [ "$(metric quire_wal_archive_failures_total)" -ge 1 ] && [ "$(metric quire_wal_archive_lag_segments)" -ge 1 ]; }
    until_true 20 failing
    grep -q "the log is not archived" "$instance/logs/quired.log"
    waiting=$(metric quire_wal_archive_lag_segments)
    [ "$(find "$instance/data/wal" -name 'wal_*' | wc -l)" -gt "$waiting" ]

    # Back: it catches up, and the stop brings the rest.
    mv "$instance/tmp/elsewhere" "$instance/tmp/archive"
    until_true 20 archived
    stop_instance
    mkdir "$instance/tmp/again" "$instance/tmp/again/wal"
    cp "$instance"/tmp/archive/wal_* "$instance/tmp/again/wal"
    # The archive alone, from the first record on, is the whole of it.
    rm -rf "$instance/data"
    mv "$instance/tmp/again" "$instance/data"
    start_instance
    for i in 1 8; do
        [ "$(texts "$library" "d$i" | cut -c1-6)" = "$i word" ]
        [ "$(texts "$library" "e$i" | cut -c1-6)" = "$i word" ]
    done
}

@test "an archive that hangs does not keep a stop, and gets at the next start what it lacks, also after a kill" {
    mkdir "$instance/tmp/archive"
    stop_instance
    fault=$BATS_TEST_TMPDIR/fault
    QUIRE_IO_FAULT="open:delay=600000,path=/tmp/archive,file=$fault" start_instance --set archive_dir="$instance/tmp/archive" --set stop_timeout_ms=300
    three_libraries
    put "${libraries[0]}" d1 "Herons stand in the reeds."
    : >"$fault"
    timeout 60 "$root/scripts/serve" "$instance" stop
    rm "$fault"
    grep -q "archive_dir does not answer, and the stop goes on without it: wal/wal_[0-9_]*.log and 0 segments behind it" "$instance/logs/quired.log"
    grep -q "vector stores saved" "$instance/logs/quired.log"
    archived() { cat "$instance"/tmp/archive/wal_* 2>/dev/null | grep -q "$1"; }
    run ! archived Herons
    start_instance --set archive_dir="$instance/tmp/archive"
    until_true 20 archived Herons
    put "${libraries[0]}" d2 "Kingfishers dive."
    kill_server
    run ! archived Kingfishers
    start_instance --set archive_dir="$instance/tmp/archive"
    until_true 20 archived Kingfishers
}

@test "an archive that is too far behind holds writes back, and lets them go on" {
    mkdir "$instance/tmp/archive"
    stop_instance
    start_instance --set archive_dir="$instance/tmp/archive" --set archive_max_lag_bytes=64K
    make_library
    mv "$instance/tmp/archive" "$instance/tmp/elsewhere"
    long=$(printf 'word %.0s' $(seq 1 3000))
    refused() { api PUT "/v1/libraries/$library/documents/x" "{\"title\":\"x\",\"texts\":[\"$long\"]}" && [ "$code" -ge 300 ]; }
    until_true 30 refused
    [ "$code $(field .error_type)" = "$(limit_error archive_max_lag_bytes)" ]
    api POST "/v1/libraries/$library/search" '{"query":"word","k":1}'
    expect 200
    mv "$instance/tmp/elsewhere" "$instance/tmp/archive"
    taken() { put "$library" y "after"; }
    until_true 30 taken
}

@test "back to a moment: a snapshot of a chain, and the archive of the log behind it" {
    mkdir "$instance/tmp/archive"
    stop_instance
    start_instance --set archive_dir="$instance/tmp/archive"
    three_libraries
    snapshot
    put "${libraries[1]}" first "changed"
    snapshot
    [ "$(field '.[0].base')" != null ]
    cp -r "$instance/data/snapshots" "$instance/tmp/backup"
    long=$(printf 'word %.0s' $(seq 1 3000))
    for i in 1 2 3 4 5 6; do put "${libraries[0]}" "d$i" "$i $long"; done
    put "${libraries[0]}" x "one"
    lsn=$(sed -nE 's/^Quire-LSN: ([0-9]+).*/\1/Ip' "$headers")
    for i in 1 2 3 4 5 6; do put "${libraries[0]}" "e$i" "$i $long"; done
    put "${libraries[0]}" x "two"
    # What is retired meanwhile is in the archive alone.
    snapshot
    stop_instance
    rm -rf "$instance/data"
    "${QUIRE_BUILD_DIR:-$root/.build}/src/quire" restore "$instance/tmp/backup" --log "$instance/tmp/archive" --into "$instance/data" --to-lsn "$lsn"
    start_instance
    [ "$(texts "${libraries[0]}" x)" = one ]
    [ "$(texts "${libraries[1]}" first)" = changed ]
    [ "$(texts "${libraries[0]}" d6 | cut -c1-6)" = "6 word" ]
    api GET "/v1/libraries/${libraries[0]}/documents/e1"
    expect 404 DocumentNotFoundError
}

# As if the server had been stopped for so many days: by the clock of snapshots/record.
days_pass() {
    python3 - "$instance/data/snapshots/record" "$1" <<'PYTHON'
import struct, sys
path, days = sys.argv[1], float(sys.argv[2])
data = bytearray(open(path, "rb").read())
struct.pack_into("<q", data, 12, struct.unpack_from("<q", data, 12)[0] + int(days * 86400e6))
crc = 0xFFFFFFFF
for byte in data[:-4]:
    crc ^= byte
    for _ in range(8):
        crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
struct.pack_into("<I", data, len(data) - 4, crc ^ 0xFFFFFFFF)
open(path, "wb").write(data)
PYTHON
}

@test "old copies of the log go, and none that a kept snapshot needs" {
    mkdir "$instance/tmp/archive"
    stop_instance
    start_instance --set archive_dir="$instance/tmp/archive" --set snapshot_keep=1 --set snapshot_chain_max=0
    make_library
    long=$(printf 'word %.0s' $(seq 1 3000))
    copies() { find "$instance/tmp/archive" -name 'wal_*' | sort; }
    fill() {
        local i
        for i in 1 2 3 4 5 6 7 8 9 10; do put "$library" "$1$i" "$i $long"; done
    }
    fill a
    snapshot
    stop_instance
    first=$(copies)
    [ "$(wc -l <<<"$first")" -ge 3 ]
    days_pass 8
    start_instance
    fill b
    stop_instance
    # Eight days later the copies of the first day are old enough, but the only snapshot is of that day: what follows it stays.
    days_pass 8
    start_instance
    fill c
    [ "$(copies | grep -cFf <(tail -n 1 <<<"$first"))" = 1 ]
    # With a newer snapshot in its place they go, and what the second day brought stays.
    snapshot
    fill d
    first_gone() { ! copies | grep -qFf <(head -n 1 <<<"$first"); }
    until_true 20 first_gone
    [ "$(copies | wc -l)" -ge 3 ]
    # From that snapshot on the archive is whole.
    cp -r "$instance/data/snapshots" "$instance/tmp/backup"
    stop_instance
    rm -rf "$instance/data"
    "${QUIRE_BUILD_DIR:-$root/.build}/src/quire" restore "$instance/tmp/backup" --log "$instance/tmp/archive" --into "$instance/data"
    start_instance
    [ "$(texts "$library" d10 | cut -c1-7)" = "10 word" ]
    [ "$(texts "$library" a1 | cut -c1-6)" = "1 word" ]
}
