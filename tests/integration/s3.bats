#!/usr/bin/env bats
# s3.bats - backups in a storage that speaks S3: versitygw (tests/lib/s3_server builds it), behind a proxy that does what networks do (tests/lib/s3_proxy.py).
#
# The oracle of each: from the storage alone, in an empty directory, what was written up to the last archived segment is there again, and nothing else.

bats_require_minimum_version 1.5.0
load common

setup_file() {
    load common
    local program port tries
    program=$("$root/tests/lib/s3_server")
    export there=$BATS_FILE_TMPDIR/there # the storage's directory: a bucket is a directory in it, an object a file
    mkdir -p "$there/bucket"
    for tries in 1 2 3; do
        port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
        ROOT_ACCESS_KEY=test-access ROOT_SECRET_KEY=test-secret/of+it "$program" --quiet --port "127.0.0.1:$port" posix "$there" >"$BATS_FILE_TMPDIR/storage.log" 2>&1 3>&- &
        echo $! >"$BATS_FILE_TMPDIR/storage.pid"
        answers() { curl -s -o /dev/null "http://127.0.0.1:$port/"; }
        until_true 10 answers && break
    done
    python3 "$root/tests/lib/s3_proxy.py" --upstream "127.0.0.1:$port" --rules "$BATS_FILE_TMPDIR/rules" --log "$BATS_FILE_TMPDIR/requests" \
        >"$BATS_FILE_TMPDIR/proxy" 2>"$BATS_FILE_TMPDIR/proxy.log" 3>&- &
    echo $! >"$BATS_FILE_TMPDIR/proxy.pid"
    until_true 10 test -s "$BATS_FILE_TMPDIR/proxy"
    printf 'aws_access_key_id = test-access\naws_secret_access_key = test-secret/of+it\n' >"$BATS_FILE_TMPDIR/s3.credentials"
    chmod 600 "$BATS_FILE_TMPDIR/s3.credentials"
    openssl rand -hex 32 >"$BATS_FILE_TMPDIR/backup.key"
    chmod 600 "$BATS_FILE_TMPDIR/backup.key"
}

teardown_file() {
    local pid
    for pid in "$BATS_FILE_TMPDIR"/*.pid; do kill "$(cat "$pid")" 2>/dev/null || true; done
}

setup() {
    export PATH="${QUIRE_BUILD_DIR:-$root/.build}/src:$PATH"
    : >"$BATS_FILE_TMPDIR/requests"
    rm -f "$BATS_FILE_TMPDIR/rules"
    prefix=t$BATS_TEST_NUMBER
    conf=$BATS_TEST_TMPDIR/backup.conf
}

teardown() { remove_instance; }

# start [--set ...]: a server with an archive of its log, in small segments, and backup.conf for it.
start() {
    instance=${instance:-$(mktemp -d "${TMPDIR:-/tmp}/quire-test.XXXXXX")}
    mkdir -p "$instance/archive"
    start_instance --set workers=2 --set wal_segment_bytes=65536 --set snapshot_interval=0 --set snapshot_every_ops=0 --set "archive_dir=$instance/archive" "$@"
    configure
}

# configure [LINE...]: backup.conf, with these lines besides.
configure() {
    {
        printf '%s\n' "to = s3://bucket/$prefix" "data_dir = $instance/data" "archive_dir = $instance/archive" "endpoint = http://127.0.0.1:$(cat "$BATS_FILE_TMPDIR/proxy")" \
            "credentials = $BATS_FILE_TMPDIR/s3.credentials" "retry_wait_ms = 20" "retry_wait_max_ms = 200" "stall_timeout_ms = 1s" "part_bytes = 5M" "$@"
    } >"$conf"
}

backup() { quire backup --config "$conf" "$@"; }
restore() { quire restore "s3://bucket/$prefix" --config "$conf" "$@"; }
fault() { printf '%s\n' "$@" >"$BATS_FILE_TMPDIR/rules"; }
faults() { grep -c " $1\$" "$BATS_FILE_TMPDIR/requests"; }
objects() { (cd "$there/bucket" && find "$prefix" -type f ! -path '*/.sgwtmp/*' | sort); }
uploads() { find "$there/bucket/.sgwtmp" -type f 2>/dev/null | wc -l; }

put() { # put DOCUMENT TEXT
    api PUT "/v1/libraries/$library/documents/$1" "{\"title\":\"of $1\",\"texts\":[$(printf %s "$2" | jq -Rs .)]}"
    [ "$code" = 200 ] || [ "$code" = 201 ]
    lsn=$(sed -nE 's/^Quire-LSN: ([0-9]+).*/\1/Ip' "$headers")
}

# Writes until the log has gone over to another segment, so that all before that is archived.
fill_segment() {
    local n
    for n in 1 2 3 4; do put "filler$n" "$(head -c 12000 /dev/urandom | base64 -w 0)"; done
}
archived() { [ "$(find "$instance/archive" -name 'wal_*' | wc -l)" -ge "$1" ]; }

snapshot() {
    local task
    api POST /v1/snapshots '{}'
    task=$(field .id)
    taken() { api GET "/v1/tasks/$task" && [ "$(field .state)" = succeeded ]; }
    until_true 30 taken
}

# All documents but the fillers, in a form to compare; there is at least one.
content() {
    curl -sS --fail --cacert "$instance/tls/cert.pem" "$url/v1/libraries/$library/export" >"$BATS_TEST_TMPDIR/export" || return 1
    jq -cS 'select(.id | startswith("filler") | not) | del(.. | .created_at?, .updated_at?)' "$BATS_TEST_TMPDIR/export" >"$BATS_TEST_TMPDIR/lines" || return 1
    [ -s "$BATS_TEST_TMPDIR/lines" ] || return 1
    sort "$BATS_TEST_TMPDIR/lines"
}

# same_content FILE: what the server has is what stands in FILE.
same_content() { content >"$BATS_TEST_TMPDIR/has" && diff "$1" "$BATS_TEST_TMPDIR/has"; }

# In place of the instance's data: what a restore made.
content_of() {
    rm -rf "$instance/data" "$instance/archive"
    mkdir "$instance/archive"
    mv "$1" "$instance/data"
    start_instance
    content || return 1
    stop_instance
}

kill_server() {
    kill -9 "$(supervisor)"
    no_process() { [ -z "$(processes_of "$instance")" ]; }
    until_true 10 no_process
}

# big MEGABYTES: documents that make a snapshot which goes up in several parts. Their texts are near one another, so they are embedded fast.
big() {
    python3 -c '
import json, sys
for i in range(int(sys.argv[1]) * 10):
    print(json.dumps({"id": "big%d" % i, "title": "t", "texts": ["The heron stands in shallow water. " * 140] * 20}))' "$1" >"$BATS_TEST_TMPDIR/big.ndjson"
    # shellcheck disable=SC1091 # made by scripts/serve
    (. "$instance/env" && quire import "$library" "$BATS_TEST_TMPDIR/big.ndjson" >/dev/null)
}

@test "docs/operations.md: a machine lost; from the storage alone all comes back, to now and to a point in time, encrypted" {
    start
    make_library
    put d1 "The heron stands in the shallow water at dawn."
    # The recipe, with this instance's places in it.
    section() { # section TITLE: its blocks
        awk -v title="$1" '/^##/ {inside = ($0 == title)} inside && /^```sh$/ {block = 1; next} /^```/ {block = 0} inside && block' "$root/docs/operations.md" |
            sed -e "s|/etc/quire|$instance/etc|g" -e "s|/var/lib/quire-archive|$instance/archive|g" -e "s|/var/lib/quire|$instance/data|g" -e "s|s3://backups/search|s3://bucket/$prefix|g" \
                -e "s|https://storage.example.org|http://127.0.0.1:$(cat "$BATS_FILE_TMPDIR/proxy")|" -e "s|YOUR_ACCESS_KEY|test-access|" -e "s|YOUR_SECRET_KEY|test-secret/of+it|" \
                -e "s|quire backup|quire backup --config $instance/etc/backup.conf|" -e "s|quire restore|quire restore --config $instance/etc/backup.conf|" \
                -e "s|2026-11-24T05:00:00Z|${moment:-}|" -e "s|elsewhere|$instance/elsewhere|"
    }
    # shellcheck disable=SC2016 # for the bash that runs it
    printf 'systemctl() { if [ "${*: -1}" = quired ]; then %q %q "$1"; fi; }\nsudo() { "$@"; }\n' "$root/scripts/serve" "$instance" >"$BATS_TEST_TMPDIR/machine"
    run_section() { (cat "$BATS_TEST_TMPDIR/machine" && section "$1") >"$BATS_TEST_TMPDIR/run" && [ "$(wc -l <"$BATS_TEST_TMPDIR/run")" -gt 3 ] && bash -euo pipefail "$BATS_TEST_TMPDIR/run"; }
    mkdir "$instance/etc"
    run_section "## Backups off the machine"
    snapshot
    put d2 "A bicycle chain wants oil after rain."
    sleep 0.01
    moment=$(date -u +%Y-%m-%dT%H:%M:%S.%6NZ)
    content >"$BATS_TEST_TMPDIR/then"
    put d3 "Snow fell on the orchard."
    put d1 "Something else stands here now."
    content >"$BATS_TEST_TMPDIR/now"
    fill_segment
    until_true 10 archived 1
    quire backup --config "$instance/etc/backup.conf"
    [ "$(objects | grep -c '/snapshot/.*~enc$')" -ge 1 ]
    [ "$(objects | grep -c '/wal/.*~enc$')" -ge 1 ]
    # In clear nothing of it is there.
    run ! grep -rqa -e heron -e orchard -e manifest.json "$there/bucket/$prefix"
    # The machine is lost.
    kill_server
    rm -rf "$instance/data" "$instance/archive"
    mkdir "$instance/archive"
    run_section "### A machine lost"
    same_content "$BATS_TEST_TMPDIR/now"
    stop_instance
    content_of "$instance/elsewhere" >"$BATS_TEST_TMPDIR/restored"
    diff "$BATS_TEST_TMPDIR/then" "$BATS_TEST_TMPDIR/restored"
    # With another key nothing comes.
    openssl rand -hex 32 >"$instance/etc/backup.key"
    run quire restore "s3://bucket/$prefix" --config "$instance/etc/backup.conf" --into "$instance/none"
    [ "$status" != 0 ]
    [[ $output == *"encrypted with another key"* ]]
}

@test "a backup is taken while the server writes; what is there is not sent twice; the state tells how far it goes" {
    start
    make_library
    put d1 "One."
    snapshot
    fill_segment
    until_true 10 archived 1
    run --separate-stderr backup --json
    [ "$status" = 0 ]
    [ "$(jq -r '.uploaded >= 2 and .removed == 0 and .lsn >= .snapshot_lsn' <<<"$output")" = true ]
    run --separate-stderr backup --json
    [ "$(jq -r .uploaded <<<"$output")" = 0 ]
    grep -qx "lsn $(jq -r .lsn <<<"$output")" "$instance/data/backup/state"
    # Once more: one listing and one look for interrupted uploads, and nothing else.
    : >"$BATS_FILE_TMPDIR/requests"
    backup
    [ "$(cut -d' ' -f1 "$BATS_FILE_TMPDIR/requests" | tr '\n' ' ')" = "GET GET " ]
    grep -qx "failures 0" "$instance/data/backup/state"
    # The server shows it.
    shown() { curl -sS --cacert "$instance/tls/cert.pem" "$url/metrics" | grep -qx "quire_backup_lsn $1"; }
    until_true 15 shown "$(jq -r .lsn <<<"$output")"
    # Incremental: what it rests on is there, too.
    put d2 "Two."
    snapshot
    backup
    content >"$BATS_TEST_TMPDIR/now"
    # The last segment is archived at an orderly stop as far as it goes, and goes up as it is.
    put d3 "Three."
    content >"$BATS_TEST_TMPDIR/stopped"
    stop_instance
    backup
    restore --into "$instance/made"
    content_of "$instance/made" >"$BATS_TEST_TMPDIR/restored"
    diff "$BATS_TEST_TMPDIR/stopped" "$BATS_TEST_TMPDIR/restored"
}

@test "on a bad network: resets, refusals, drips, half answers, wrong ETags, a clock that is wrong; each backup is whole, each restore exact" {
    start --set snapshot_compression=none
    make_library
    put d1 "One."
    big 12
    snapshot
    fill_segment
    until_true 10 archived 1
    content >"$BATS_TEST_TMPDIR/now"
    stop_instance
    [ "$(stat -c %s "$instance"/data/snapshots/snapshot_* | sort -n | tail -n 1)" -gt 11000000 ]
    cp -r "$instance/data" "$BATS_TEST_TMPDIR/kept"
    local n=0 rule
    while read -r rule; do
        n=$((n + 1))
        prefix=t$BATS_TEST_NUMBER-$n
        configure
        fault "$rule"
        run backup
        echo "$rule: $output"
        [ "$status" = 0 ]
        [ "$(faults "$(cut -d' ' -f2 <<<"$rule")")" -ge 1 ]
        [ "$(find "$there/bucket/$prefix" -type f | wc -l)" -ge 2 ]
        : >"$BATS_FILE_TMPDIR/requests"
    done <<'END'
2 reset PUT partNumber=2
1 reset PUT /wal/
2 status:503:SlowDown PUT partNumber
1 early:500:InternalError PUT partNumber=1&
1 stall PUT partNumber=3
1 lost PUT partNumber=1&
1 lost POST uploadId=
1 error200 POST uploadId=
1 status:400:InvalidPart POST uploadId=
1 etag PUT partNumber=2
1 noetag PUT partNumber=2
1 garble POST uploads=
1 status:404:NoSuchUpload PUT partNumber=2
1 truncate GET list-type
2 garble GET list-type
1 drip GET list-type
1 status:429:TooManyRequests HEAD snapshot
END
    [ "$(uploads)" = 0 ]
    # Reading: from what the last one put there.
    while read -r rule; do
        fault "$rule"
        : >"$BATS_FILE_TMPDIR/requests"
        run restore --into "$instance/made"
        echo "$rule: $output"
        [ "$status" = 0 ]
        [ "$(faults "$(cut -d' ' -f2 <<<"$rule")")" -ge 1 ]
        [ ! -e "$instance/made/restore.fetched" ]
        rm -rf "$instance/last"
        mv "$instance/made" "$instance/last"
    done <<'END'
3 truncate GET /snapshot/
1 garble GET /snapshot/
1 flip GET /snapshot/
1 flip GET /wal/
2 status:503:SlowDown GET /
1 drip GET /wal/
1 reset GET /snapshot/
END
    rm -f "$BATS_FILE_TMPDIR/rules"
    content_of "$instance/last" >"$BATS_TEST_TMPDIR/restored"
    diff "$BATS_TEST_TMPDIR/now" "$BATS_TEST_TMPDIR/restored"
    # Two hours ahead: the storage says so, and is believed.
    rm -rf "$instance/data"
    cp -r "$BATS_TEST_TMPDIR/kept" "$instance/data"
    prefix=t$BATS_TEST_NUMBER-clock
    configure
    python3 -c 'import struct, sys; open(sys.argv[1], "wb").write(struct.pack("q", 7200 * 10**6))' "$BATS_TEST_TMPDIR/shift"
    QUIRE_CLOCK_SHIFT=$BATS_TEST_TMPDIR/shift backup
    grep -q ' 403 ' "$BATS_FILE_TMPDIR/requests"
    # A storage that is down for good: said, counted, and mended by the next run.
    prefix=t$BATS_TEST_NUMBER-down
    configure "retries = 2"
    fault "1000 status:503:SlowDown * ."
    run backup
    [ "$status" = 75 ]
    [[ $output == *"503 (SlowDown)"* ]]
    grep -qx "failures 1" "$instance/data/backup/state"
    rm -f "$BATS_FILE_TMPDIR/rules"
    backup
    grep -qx "failures 0" "$instance/data/backup/state"
}

@test "killed at any moment, as the server may be: the next run completes it, nothing half is there, and all comes back" {
    start --set snapshot_compression=none
    make_library
    put d1 "One."
    big 12
    snapshot
    local n pid
    fault "1000000 reset PUT nothing-like-that"
    for n in $(seq 1 12); do
        put "n$n" "Number $n, written between two deaths."
        quire backup --config "$conf" >/dev/null 2>&1 3>&- &
        pid=$!
        sleep "0.$((RANDOM % 5))$((RANDOM % 10))"
        kill -9 $pid 2>/dev/null || true
        wait $pid 2>/dev/null || true
        if [ $((n % 6)) = 0 ]; then
            kill_server
            start_instance
            snapshot
        fi
    done
    put last "The last one before the log goes over."
    fill_segment
    content >"$BATS_TEST_TMPDIR/now"
    stop_instance
    backup
    [ "$(uploads)" = 0 ]
    # All objects are as long as their names say.
    while read -r object; do
        [ "$(stat -c %s "$there/bucket/$object")" = "$(sed -E 's/.*~([0-9]+)~[0-9a-f]{64}$/\1/' <<<"$object")" ]
    done < <(objects)
    # A restore that is killed goes on with what it has.
    for n in 1 2 3; do
        quire restore "s3://bucket/$prefix" --config "$conf" --into "$instance/made" >/dev/null 2>&1 3>&- &
        pid=$!
        sleep "0.0$((RANDOM % 9))"
        kill -9 $pid 2>/dev/null || true
        wait $pid 2>/dev/null || true
        rm -rf "$instance/made/restore.ready"
    done
    rm -rf "$instance/made"
    restore --into "$instance/made"
    content_of "$instance/made" >"$BATS_TEST_TMPDIR/restored"
    diff "$BATS_TEST_TMPDIR/now" "$BATS_TEST_TMPDIR/restored"
}

@test "what is damaged or gone in the storage is noticed before it is used, and an older snapshot with the log does as well" {
    start
    make_library
    put d1 "One."
    snapshot
    backup
    put d2 "Two."
    sleep 1.1 # archives have seconds in their names
    snapshot
    fill_segment
    until_true 10 archived 1
    content >"$BATS_TEST_TMPDIR/now"
    stop_instance
    backup
    local newest
    newest=$(objects | grep /snapshot/ | tail -n 1)
    [ "$(objects | grep -c /snapshot/)" -ge 2 ]
    # Another byte: fetched three times, never used.
    cp -a "$there/bucket/$newest" "$BATS_TEST_TMPDIR/object"
    printf 'X' | dd of="$there/bucket/$newest" bs=1 seek=100 conv=notrunc 2>/dev/null
    run restore --into "$instance/made"
    [ "$status" = 0 ]
    [[ $output == *"its hash differs"* && $output == *"an older one is tried"* ]]
    # Shorter than its name says: the listing tells, it counts as not there, and the next backup mends it.
    truncate -s 50 "$there/bucket/$newest"
    run restore --into "$instance/made2"
    [ "$status" = 0 ]
    [[ $output == *"1 objects are not as long as their names say"* ]]
    backup
    [ "$(stat -c %s "$there/bucket/$newest")" -gt 50 ]
    cmp "$there/bucket/$newest" "$BATS_TEST_TMPDIR/object"
    # Names that lead elsewhere, and strangers, are nobody's.
    local log
    log=$(cut -d/ -f2 <<<"$newest")
    mkdir -p "$there/bucket/$prefix/$log/snapshot"
    echo evil >"$there/bucket/$prefix/$log/snapshot/..~00000000000000000099~whole~5~$(printf evil | sha256sum | cut -d' ' -f1)"
    echo evil >"$there/bucket/$prefix/README"
    restore --into "$instance/made3"
    content_of "$instance/made" >"$BATS_TEST_TMPDIR/restored"
    diff "$BATS_TEST_TMPDIR/now" "$BATS_TEST_TMPDIR/restored"
    content_of "$instance/made2" >"$BATS_TEST_TMPDIR/restored"
    diff "$BATS_TEST_TMPDIR/now" "$BATS_TEST_TMPDIR/restored"
    content_of "$instance/made3" >"$BATS_TEST_TMPDIR/restored"
    diff "$BATS_TEST_TMPDIR/now" "$BATS_TEST_TMPDIR/restored"
    # Root restores for the owner of the directory.
    if [ "$(id -u)" = 0 ]; then
        mkdir "$instance/theirs"
        chown 65534:65534 "$instance/theirs"
        restore --into "$instance/theirs"
        [ -z "$(find "$instance/theirs" ! -user 65534)" ]
        [ ! -e "$instance/theirs/restore.fetched" ]
    fi
    # A quota, and a directory that is somebody's.
    run restore --into "$instance/made4" --max-bytes 100
    [ "$status" != 0 ]
    [[ $output == *"may be fetched"* ]]
    mkdir "$instance/photos"
    : >"$instance/photos/one.jpg"
    run restore --into "$instance/photos"
    [ "$status" != 0 ]
    [[ $output == *"not empty"* ]]
    [ "$(ls "$instance/photos")" = one.jpg ]
}

@test "what is old goes by the storage's clock, never what a kept snapshot needs; the log of a restored server stays apart" {
    start --set snapshot_keep=2
    make_library
    local n
    for n in 1 2 3; do
        put "d$n" "Number $n."
        snapshot
        fill_segment
        until_true 10 archived "$n"
        backup
        sleep 1.1 # archives have seconds in their names
    done
    content >"$BATS_TEST_TMPDIR/now"
    [ "$(objects | grep -c /snapshot/)" = 3 ]
    before=$(objects | grep -c /wal/)
    # Nine days later, the newest aside.
    objects | grep /snapshot/ | head -n 2 | while read -r object; do touch -d '9 days ago' "$there/bucket/$object"; done
    configure "keep = 1"
    backup
    # The newest, and the newest of those that are older than the days, with what they rest on.
    [ "$(objects | grep -c /snapshot/)" -ge 2 ]
    objects | grep /snapshot/ | while read -r object; do touch -d '9 days ago' "$there/bucket/$object"; done
    configure "keep = 1" "keep_days = 1"
    backup
    [ "$(objects | grep -c /snapshot/)" -ge 1 ]
    [ "$(objects | grep -c /wal/)" -le "$before" ]
    stop_instance
    backup
    restore --into "$instance/made"
    old=$(objects | cut -d/ -f2 | sort -u)
    content_of "$instance/made" >"$BATS_TEST_TMPDIR/restored"
    diff "$BATS_TEST_TMPDIR/now" "$BATS_TEST_TMPDIR/restored"
    # It is another log now, in the same place; the last one is taken, the other one can be had.
    start_instance
    put later "Written since."
    snapshot
    backup
    [ "$(objects | cut -d/ -f2 | sort -u | wc -l)" = 2 ]
    content >"$BATS_TEST_TMPDIR/later"
    stop_instance
    run restore --into "$instance/last"
    [ "$status" = 0 ]
    [[ $output == *"there are backups of several logs"* ]]
    quire restore "s3://bucket/$prefix/$old" --config "$conf" --into "$instance/first"
    content_of "$instance/last" >"$BATS_TEST_TMPDIR/restored"
    diff "$BATS_TEST_TMPDIR/later" "$BATS_TEST_TMPDIR/restored"
    content_of "$instance/first" >"$BATS_TEST_TMPDIR/restored"
    diff "$BATS_TEST_TMPDIR/now" "$BATS_TEST_TMPDIR/restored"
}

@test "keys: from a file or the environment, in no argument and no message; what is wrong is said with what to do" {
    start
    make_library
    put d1 "One."
    snapshot
    configure
    sed -i '/^credentials/d' "$conf"
    run backup
    [ "$status" = 78 ]
    [[ $output == *"AWS_ACCESS_KEY_ID"* ]]
    export AWS_ACCESS_KEY_ID=test-access AWS_SECRET_ACCESS_KEY=test-secret/of+it
    backup
    AWS_SECRET_ACCESS_KEY=hidden-word run backup
    [ "$status" != 0 ]
    [[ $output == *"403"* && $output == *"are credentials and region right?"* && $output != *hidden-word* ]]
    unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
    configure
    cp "$BATS_FILE_TMPDIR/s3.credentials" "$BATS_TEST_TMPDIR/open"
    chmod 644 "$BATS_TEST_TMPDIR/open"
    configure "max_bytes_per_second = 10M"
    sed -i "s|^credentials.*|credentials = $BATS_TEST_TMPDIR/open|" "$conf"
    run backup
    [ "$status" = 78 ]
    [[ $output == *"chmod 600"* ]]
    configure
    run backup --to s3://nowhere/x
    [ "$status" != 0 ]
    [[ $output == *"make the bucket first"* ]]
    run backup --to "s3://Bad Bucket"
    [ "$status" = 78 ]
    configure "endpoint2 = x"
    run backup
    [ "$status" = 78 ]
    [[ $output == *"unknown key 'endpoint2'"* ]]
    # The example has every key, at its preset.
    run backup --config "$root/conf/backup.conf.example"
    [ "$status" = 78 ]
    [[ $output == *"say where"* ]]
    diff <(sed -nE 's/^(TEXT|NUMBER|CHOICE)\(([a-z_]+),.*/\2/p' "$root/src/s3/s3.def" | sort) <(sed -nE 's/^# ([a-z_]+) = .*/\1/p' "$root/conf/backup.conf.example" | sort)
    # One at a time; --follow looks again and again.
    configure "interval = 1"
    rm "$instance/data/backup/state"
    quire backup --config "$conf" --follow >"$BATS_TEST_TMPDIR/follow" 2>&1 3>&- &
    local pid=$!
    went_up() { grep -q 'succeeded_at [1-9]' "$instance/data/backup/state"; }
    until_true 10 went_up
    run backup
    [ "$status" = 75 ]
    [[ $output == *"another backup"* ]]
    tr "\0" " " <"/proc/$pid/cmdline" >"$BATS_TEST_TMPDIR/arguments"
    grep -q follow "$BATS_TEST_TMPDIR/arguments"
    run ! grep -q test-secret "$BATS_TEST_TMPDIR/arguments"
    put d2 "Two."
    sleep 1.1 # archives have seconds in their names
    snapshot
    second() { [ "$(objects | grep -c /snapshot/)" = 2 ]; }
    until_true 15 second
    kill "$pid"
    wait "$pid" || true
    run ! grep -qa -e test-secret "$BATS_TEST_TMPDIR/follow"
}

@test "over TLS: a certificate that does not verify is refused, ca_file names the authority, and the bucket may stand in front of the host" {
    local program port tries
    program=$("$root/tests/lib/s3_server")
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=storage -addext 'subjectAltName=DNS:localhost,DNS:bucket.localhost' \
        -keyout "$BATS_TEST_TMPDIR/key.pem" -out "$BATS_TEST_TMPDIR/cert.pem" 2>/dev/null
    for tries in 1 2 3; do
        port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
        ROOT_ACCESS_KEY=test-access ROOT_SECRET_KEY=test-secret/of+it "$program" --quiet --port "127.0.0.1:$port" --virtual-domain "localhost:$port" \
            --cert "$BATS_TEST_TMPDIR/cert.pem" --key "$BATS_TEST_TMPDIR/key.pem" posix "$there" >"$BATS_TEST_TMPDIR/storage.log" 2>&1 3>&- &
        echo $! >"$BATS_FILE_TMPDIR/tls.pid"
        answers() { curl -s -o /dev/null --cacert "$BATS_TEST_TMPDIR/cert.pem" "https://localhost:$port/"; }
        until_true 10 answers && break
    done
    start
    make_library
    put d1 "One."
    snapshot
    sed -i "s|^endpoint.*|endpoint = https://localhost:$port|" "$conf"
    run backup
    [ "$status" = 78 ]
    [[ $output == *"certificate does not verify"* ]]
    echo "ca_file = $BATS_TEST_TMPDIR/cert.pem" >>"$conf"
    backup
    [ "$(objects | grep -c /snapshot/)" = 1 ]
    prefix=t$BATS_TEST_NUMBER-virtual
    sed -i -e "s|^to = .*|to = s3://bucket/$prefix|" "$conf"
    echo "path_style = off" >>"$conf"
    backup
    [ "$(objects | grep -c /snapshot/)" = 1 ]
    content >"$BATS_TEST_TMPDIR/now"
    stop_instance
    restore --into "$instance/made"
    content_of "$instance/made" >"$BATS_TEST_TMPDIR/restored"
    diff "$BATS_TEST_TMPDIR/now" "$BATS_TEST_TMPDIR/restored"
}
