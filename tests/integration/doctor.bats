#!/usr/bin/env bats
# quire doctor: a healthy server has nothing; each of many planted troubles is found by its name, with its place and what to do, and is gone again when it is mended.

bats_require_minimum_version 1.5.0
load common

setup_file() {
    export instance
    start_instance --set workers=2 --set snapshot_interval=3600 || return 1
    local library
    make_library
    api POST "/v1/libraries/$library/documents" '{"title":"Heron","texts":["A heron stands in the shallow water."]}'
    "$quire" snapshot create --wait --url "$url" --cacert "$instance/tls/cert.pem"
}
teardown_file() { remove_instance; }

quire=${QUIRE_BUILD_DIR:-$root/.build}/src/quire
unset QUIRE_URL QUIRE_KEY QUIRE_CACERT

# doctor [arguments...]: of the instance, or with $conf of another; sets report, code.
doctor() {
    code=0
    report=$("$quire" doctor --json -c "${conf:-$instance/quire.conf}" "$@") || code=$?
    [ "$code" -le 2 ] && [[ $report == '{"format":1,'*']}' ]]
}

# found TROUBLE [arguments...]: it is, with all that a person needs, and the exit code says how bad it is.
found() {
    local name=$1 level
    shift
    doctor "$@"
    level=$(jq -r --arg t "$name" 'first(.findings[] | select(.trouble == $t and (.what | length > 0) and (.where | length > 0) and ((.do + .command) | length > 0))).level' <<<"$report")
    case $level in
    error) [ "$code" = 2 ] ;;
    warning) [ "$code" -ge 1 ] ;;
    note) ;;
    *)
        printf 'not found: %s in %s\n' "$name" "$report" >&2
        return 1
        ;;
    esac
}

absent() {
    doctor
    [[ $report != *"\"trouble\":\"$1\""* ]]
}

as_root() { [ "$(id -u)" = 0 ] || skip "needs root"; }

# A configuration of its own for a test: with_conf 's/…/…/' or with_conf 'key = value'.
with_conf() {
    conf=$BATS_TEST_TMPDIR/quire.conf
    if [ ! -f "$conf" ]; then
        cp "$instance/quire.conf" "$conf"
        cp "$instance/nginx.conf" "$BATS_TEST_TMPDIR/nginx.conf" # it includes the instance's own site
    fi
    local line key
    for line in "$@"; do
        key=${line%% =*}
        sed -i "/^$key *=/d" "$conf"
        printf '%s\n' "$line" >>"$conf"
    done
}

# A site of its own: with_site SED.
with_site() {
    sed "$1" "$instance/nginx/quire.conf" >"$BATS_TEST_TMPDIR/site.conf"
    sed "s|include .*/nginx/quire.conf|include $BATS_TEST_TMPDIR/site.conf|" "$instance/nginx.conf" >"$BATS_TEST_TMPDIR/nginx.conf"
}

# A stopped copy of the data: the server's files as they lie there, which is a backup.
with_copy() {
    copy=$BATS_TEST_TMPDIR/data
    cp -a "$instance/data" "$copy"
    rm -f "$copy/LOCK"
    with_conf "data_dir = $copy" "run_dir = $BATS_TEST_TMPDIR" "pid_file = $BATS_TEST_TMPDIR/quired.pid"
}

@test "a healthy server has nothing, for people and for programs" {
    doctor
    # What this machine is like is not the instance's fault.
    jq -e '[.findings[] | select(.trouble as $t | ["clock-unsynchronised", "disk-low", "data-volatile", "data-network", "memory-low", "memory-overcommit", "upload-room"] | index($t) | not)]
        == []' <<<"$report"
    jq -e '.not_seen == [] and .format == 1' <<<"$report"
    run "$quire" doctor -c "$instance/quire.conf"
    [[ ${lines[-1]} == *" errors, "* && ${lines[-2]} == "looked at $instance/quire.conf and what it names, data, nginx"* ]]
    # Without any configuration: what a server says.
    run env QUIRE_URL="$url" QUIRE_CACERT="$instance/tls/cert.pem" "$quire" doctor --json
    [ "$status" = 0 ] || [ -e /etc/quire/quire.conf ]
    run env QUIRE_URL="$url" QUIRE_CACERT="$instance/tls/cert.pem" "$quire" doctor
    [[ ${lines[-2]} == "looked at what the server says alone; "* ]] || [ -e /etc/quire/quire.conf ]
    # The directory of an instance is not its data.
    run "$quire" doctor --data "$instance"
    [ "$status" = 64 ]
    [[ $output == *"its data is in $instance/data"* ]]
    run "$quire" doctor too many words
    [ "$status" = 64 ]
    diff "$root/docs/troubles.md" <("$root/scripts/doc-tables" troubles)
}

@test "configuration: missing, an unknown key, a bad value, writable for others" {
    conf=$BATS_TEST_TMPDIR/none.conf found config-unreadable
    with_conf "wrokers = 3"
    found config-invalid
    [[ $report == *"did you mean 'workers'"* ]]
    rm "$conf"
    with_conf "workers = many"
    found config-invalid
    rm "$conf"
    with_conf
    chmod o+w "$conf"
    found config-writable
    chmod o-w "$conf"
    absent config-writable
    with_conf "log_file = $BATS_TEST_TMPDIR/none/quired.log"
    found log-unwritable
    with_conf "snapshot_interval = 0" "snapshot_every_ops = 0"
    found snapshot-off
    with_conf "socket_group = no-such-group" "socket_peers = no-such-user"
    found socket-group-unknown
    found socket-peers-unknown
}

@test "models and secrets: model file gone, damaged, unknown; keys missing or open to all" {
    mkdir "$BATS_TEST_TMPDIR/models"
    with_conf "model_dir = $BATS_TEST_TMPDIR/models"
    found model-missing
    cp "$root/data/models/static-en.quire" "$BATS_TEST_TMPDIR/models/"
    absent model-missing
    printf 'x' | dd of="$BATS_TEST_TMPDIR/models/static-en.quire" bs=1 seek=500000 conv=notrunc status=none
    found model-damaged
    with_conf "model_dir = $root/data/models" "default_model = no-such-model"
    found default-model-unknown

    with_conf "default_model = static-en" "admin_key_file = $BATS_TEST_TMPDIR/admin.sha256"
    found admin-key-unreadable
    printf 'a%.0s' {1..64} >"$BATS_TEST_TMPDIR/admin.sha256"
    chmod 644 "$BATS_TEST_TMPDIR/admin.sha256"
    found admin-hash-exposed
    chmod 600 "$BATS_TEST_TMPDIR/admin.sha256"
    absent admin-hash-exposed
    absent admin-key-unreadable
    printf '[model far]\nurl = http://127.0.0.1:1/v1\nmodel = m\nkey_file = %s\n' "$BATS_TEST_TMPDIR/provider.key" >>"$conf"
    found provider-key
    printf 'sk-1\n' >"$BATS_TEST_TMPDIR/provider.key"
    chmod 644 "$BATS_TEST_TMPDIR/provider.key"
    found secret-exposed
    chmod 600 "$BATS_TEST_TMPDIR/provider.key"
    absent provider-key
}

@test "data directory: gone, modes, names that are none of ours, a restore that was cut off, times from the future" {
    with_copy
    found not-running
    absent data-exposed
    chmod 755 "$copy" "$copy/wal"
    found data-exposed
    chmod 750 "$copy/wal"
    chmod 500 "$copy"
    found data-mode
    chmod 755 "$copy"
    : >"$copy/wal/notes.txt"
    found file-unknown
    : >"$copy/snapshots/.snapshot_20260101_000000.tar.zst.tmp"
    found file-left
    mkdir "$copy/restore.new"
    found restore-unfinished
    touch -d '+2 days' "$copy"/wal/wal_*.log
    found clock-jumped
    run "$quire" doctor --data "$copy" --json
    jq -e 'any(.findings[]; .trouble == "clock-jumped") and all(.findings[]; .trouble != "not-running")' <<<"$output"
    with_conf "data_dir = $BATS_TEST_TMPDIR/nowhere"
    found data-missing
}

@test "log and snapshots: damaged, none, old, of a newer program" {
    with_copy
    absent log-damaged
    cp -a "$copy" "$copy.good"
    # The first record: what follows proves that it was there.
    printf '\377\377\377\377' | dd of="$(echo "$copy"/wal/wal_*.log)" bs=1 seek=4110 conv=notrunc status=none
    found log-damaged
    rm -r "$copy" && cp -a "$copy.good" "$copy"
    local archive
    archive=$(echo "$copy"/snapshots/snapshot_*)
    printf '\377\377\377\377' | dd of="$archive" bs=1 seek=600 conv=notrunc status=none
    found snapshot-damaged
    rm "$archive"
    found snapshot-none
    rm -r "$copy" && cp -a "$copy.good" "$copy"

    mkdir "$BATS_TEST_TMPDIR/unpacked"
    archive=$(echo "$copy"/snapshots/snapshot_*)
    tar -C "$BATS_TEST_TMPDIR/unpacked" --zstd -xf "$archive"
    (
        cd "$BATS_TEST_TMPDIR/unpacked"
        jq -c '.created_at = "2026-01-01T00:00:00.000000Z"' manifest.json >manifest.new && mv manifest.new manifest.json
        find . -type f ! -name 'SHA256SUMS*' -printf '%P\0' | sort -z | xargs -0 sha256sum >SHA256SUMS.new
        mv SHA256SUMS.new SHA256SUMS
        { printf 'manifest.json\n' && find . -type f ! -name manifest.json ! -name SHA256SUMS -printf '%P\n' && printf 'SHA256SUMS\n'; } |
            tar --zstd -cf "$archive" -T -
    )
    found snapshot-old
    rm -r "$copy" && cp -a "$copy.good" "$copy"

    python3 - "$root/tests/lib" "$copy"/wal/wal_*.log <<'PYTHON'
import struct, sys
sys.path.insert(0, sys.argv[1])
from successions import crc32c
with open(sys.argv[2], "r+b") as f:
    page = bytearray(f.read(4096))
    struct.pack_into("<I", page, 8, 99)
    struct.pack_into("<I", page, 4092, crc32c(bytes(page[:4092])))
    f.seek(0)
    f.write(page)
PYTHON
    found format-newer
}

@test "backups off the machine: a wrong line, keys that are gone or open to all, none made, an old one" {
    with_copy
    local backup=$BATS_TEST_TMPDIR/backup.conf keys=$BATS_TEST_TMPDIR/s3.keys
    printf 'tto = s3://bucket\n' >"$backup"
    found backup-invalid
    printf 'to = s3://bucket\nendpoint = https://storage.example.org\ncredentials = %s\n' "$keys" >"$backup"
    found backup-keys
    printf 'aws_access_key_id = a\naws_secret_access_key = b\n' >"$keys"
    chmod 644 "$keys"
    found secret-exposed
    chmod 600 "$keys"
    absent backup-keys
    found backup-none
    mkdir "$copy/backup"
    printf 'quire backup 1\nsucceeded_at 1767225600000000\nlsn 1\nsnapshot_lsn 1\nobjects 1\nbytes 1\nfailures 3\n' >"$copy/backup/state"
    found backup-old
    absent file-unknown
}

@test "who owns what: another user's file, another user's directory, an archive that cannot be written" {
    as_root
    with_copy
    chown nobody "$copy"/snapshots/snapshot_*
    found data-file-owner
    chown -R nobody "$copy"
    with_conf "archive_dir = $BATS_TEST_TMPDIR/archive"
    found archive-missing
    mkdir -m 700 "$BATS_TEST_TMPDIR/archive"
    found archive-unwritable
    chown nobody "$BATS_TEST_TMPDIR/archive"
    absent archive-unwritable
    # An ordinary user sees less, and says so.
    chmod 755 "$BATS_TEST_TMPDIR" "$instance"
    conf=$instance/quire.conf
    report=$(setpriv --reuid=65534 --regid=65534 --clear-groups "$quire" doctor --json -c "$conf" || true)
    jq -e '(.not_seen | length > 2) and .errors == 0' <<<"$report"
    [[ $report == *"may not read it"* ]]
}

@test "the disk: full, nearly full, few inodes, in memory" {
    as_root
    with_copy
    mkdir "$BATS_TEST_TMPDIR/small"
    mount -t tmpfs -o size=24m,nr_inodes=64 none "$BATS_TEST_TMPDIR/small" || skip "no mounts here"
    mv "$copy" "$BATS_TEST_TMPDIR/small/data"
    with_conf "data_dir = $BATS_TEST_TMPDIR/small/data"
    found disk-full && found inodes-low && found data-volatile || {
        umount "$BATS_TEST_TMPDIR/small"
        return 1
    }
    mount -o remount,size=80m "$BATS_TEST_TMPDIR/small"
    found disk-low || {
        umount "$BATS_TEST_TMPDIR/small"
        return 1
    }
    mount -o remount,ro "$BATS_TEST_TMPDIR/small"
    found data-read-only || {
        umount "$BATS_TEST_TMPDIR/small"
        return 1
    }
    mount -o remount,rw "$BATS_TEST_TMPDIR/small"
    sed -i "s|client_body_temp_path .*|client_body_temp_path $BATS_TEST_TMPDIR/small;|" "$BATS_TEST_TMPDIR/nginx.conf"
    found upload-room || {
        umount "$BATS_TEST_TMPDIR/small"
        return 1
    }
    umount "$BATS_TEST_TMPDIR/small"
}

@test "processes: a stale pid file, another server's data directory, limits, systemd" {
    with_copy
    printf '%s\n' $$ >"$BATS_TEST_TMPDIR/quired.pid"
    found pid-file-stale
    rm "$conf"
    with_conf "pid_file = $BATS_TEST_TMPDIR/other.pid"
    found data-in-use
    conf=$instance/quire.conf
    local before
    before=$(prlimit --nofile --noheadings --output SOFT,HARD --pid "$(supervisor)" | tr -s ' ' : | sed 's/^://; s/:$//')
    prlimit --nofile=256: --pid "$(supervisor)"
    found files-limit
    prlimit --nofile="$before" --pid "$(supervisor)"
    absent files-limit

    mkdir "$BATS_TEST_TMPDIR/bin"
    local state
    for state in 'ActiveState=failed\nSubState=failed\nResult=exit-code\nNRestarts=0' 'ActiveState=activating\nSubState=auto-restart\nResult=exit-code\nNRestarts=7'; do
        printf '#!/bin/sh\nprintf "%s\\nExecStart={ path=/usr/sbin/quired ; argv[]=/usr/sbin/quired -c %s ; }\\n"\n' "$state" "$conf" >"$BATS_TEST_TMPDIR/bin/systemctl"
        chmod +x "$BATS_TEST_TMPDIR/bin/systemctl"
        case $state in *=failed*) PATH=$BATS_TEST_TMPDIR/bin:$PATH found unit-failed ;; *) PATH=$BATS_TEST_TMPDIR/bin:$PATH found unit-restarting ;; esac
    done
}

@test "sockets: gone, closed to nginx, open to all, of a wrong group, on a way that nginx cannot go" {
    local socket=$instance/run/quired.sock
    mv "$socket" "$socket.away"
    found socket-missing
    mv "$socket.away" "$socket"
    chmod 600 "$socket"
    found socket-mode
    chmod 666 "$socket"
    found socket-open
    chmod 660 "$socket"
    absent socket-open
    as_root
    with_conf "socket_group = daemon"
    found socket-group
    chgrp daemon "$socket" "$instance/run/quired-writes.sock"
    absent socket-group
    # nginx as another user than root, which this instance's has.
    sed -i 's/^user .*/user nobody nogroup;/' "$BATS_TEST_TMPDIR/nginx.conf"
    chmod 755 "$instance"
    found socket-nginx
    chmod 700 "$instance/run"
    found run-dir-closed
    chmod 755 "$instance/run"
    with_conf "socket_peers = root, daemon"
    found socket-peers-without-nginx
    chgrp root "$socket" "$instance/run/quired-writes.sock"
}

@test "nginx: does not run, leads elsewhere, other sizes, times and addresses, open to all" {
    with_conf
    sed "s|^pid .*|pid $BATS_TEST_TMPDIR/none.pid;|" "$instance/nginx.conf" >"$BATS_TEST_TMPDIR/nginx.conf"
    found nginx-not-running
    with_site "s|unix:[^ ;]*quired.sock|unix:/run/elsewhere/quired.sock|"
    found nginx-other-socket
    with_site "s|unix:[^ ;]*quired-writes.sock|unix:/run/elsewhere/quired-writes.sock|"
    found nginx-one-socket
    with_site "s|^ *fastcgi_pass .*||"
    found nginx-no-site
    with_site "s|client_max_body_size  *[0-9]*;|client_max_body_size 1m;|; s|fastcgi_read_timeout .*|fastcgi_read_timeout 5s;|"
    found nginx-body
    found nginx-timeout
    with_site "s|^    listen 127.0.0.1:|    listen 0.0.0.0:|"
    found open-server
    with_site "s|^    listen 127.0.0.1:[0-9]*|    listen 127.0.0.1:1|"
    found nginx-listen
    printf 'http {\n' >"$BATS_TEST_TMPDIR/nginx.conf"
    doctor
    [[ $(jq -r '.not_seen[].why' <<<"$report") == *"nginx.conf:2: a block is not closed"* ]]
}

# certificate FROM UNTIL NAME: in cert.pem, its key in key.pem; times as YYYYMMDDHHMMSSZ.
certificate() {
    local ca=$BATS_TEST_TMPDIR/ca
    rm -rf "$ca" && mkdir "$ca" && : >"$ca/index" && printf '01\n' >"$ca/serial"
    printf '[ca]\ndefault_ca=d\n[d]\ndatabase=%s/index\nserial=%s/serial\nnew_certs_dir=%s\ndefault_md=sha256\npolicy=p\nx509_extensions=e\n[p]\ncommonName=supplied\n[e]\nsubjectAltName=DNS:%s\n' \
        "$ca" "$ca" "$ca" "$3" >"$ca/conf"
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$3" -keyout "$BATS_TEST_TMPDIR/key.pem" -out "$ca/request" 2>/dev/null
    openssl ca -batch -config "$ca/conf" -selfsign -keyfile "$BATS_TEST_TMPDIR/key.pem" -startdate "$1" -enddate "$2" -in "$ca/request" -out "$BATS_TEST_TMPDIR/cert.pem" -notext 2>/dev/null
    chmod 600 "$BATS_TEST_TMPDIR/key.pem"
}

@test "certificates: expired, not yet valid, soon to end, of another name, of another key, unreadable; an open key" {
    with_conf
    with_site "s|ssl_certificate .*|ssl_certificate $BATS_TEST_TMPDIR/cert.pem;|; s|ssl_certificate_key .*|ssl_certificate_key $BATS_TEST_TMPDIR/key.pem;|"
    local now=+%Y%m%d%H%M%SZ
    certificate 20200101000000Z 20210101000000Z localhost
    found certificate-expired
    certificate "$(date -u -d '+1 day' $now)" "$(date -u -d '+90 days' $now)" localhost
    found certificate-not-yet-valid
    certificate 20200101000000Z "$(date -u -d '+5 days' $now)" localhost
    found certificate-ends-soon
    certificate 20200101000000Z "$(date -u -d '+90 days' $now)" search.example.org
    found certificate-name
    certificate 20200101000000Z "$(date -u -d '+90 days' $now)" localhost
    absent certificate-name
    chmod 644 "$BATS_TEST_TMPDIR/key.pem"
    found secret-exposed
    chmod 600 "$BATS_TEST_TMPDIR/key.pem"
    openssl ecparam -genkey -name prime256v1 -noout -out "$BATS_TEST_TMPDIR/key.pem"
    found certificate-key-mismatch
    printf 'nothing\n' >"$BATS_TEST_TMPDIR/cert.pem"
    found certificate-unreadable
}

@test "what a server says: a provider that is down, a snapshot that does not hold, a task that failed; one that cannot be reached" {
    conf=$instance/quire.conf
    QUIRE_URL=https://127.0.0.1:1 found unreachable
    local first=$instance
    instance=$BATS_TEST_TMPDIR/second
    conf=$instance/quire.conf
    start_instance --set workers=2 --set model.far.url=http://127.0.0.1:1/v1 --set model.far.model=m --set model.far.retries=0 --set provider_probe_interval=1
    local failed=
    second_instance || failed=yes
    remove_instance
    instance=$first
    [ -z "$failed" ]
}

second_instance() {
    until_true 10 found provider-down || return 1
    "$quire" snapshot create --wait --url "$url" --cacert "$instance/tls/cert.pem" >/dev/null || return 1
    local archive
    archive=$(echo "$instance"/data/snapshots/snapshot_*)
    printf '\377\377\377\377' | dd of="$archive" bs=1 seek=200 conv=notrunc status=none
    api POST "/v1/snapshots/$(basename "$archive")/verify"
    until_true 10 found verify-failed || return 1
    found task-failed && found snapshot-damaged || return 1
    # Killed: all that a server leaves behind that nobody has ended in order.
    kill -9 "$(supervisor)"
    until_true 10 found not-running || return 1
    found socket-stale && found pid-file-stale
}

@test "doctor: pipes in place of files do not hold it up" {
    local data=$BATS_TEST_TMPDIR/data place
    mkdir -p "$data/wal" "$data/snapshots" "$data/backup"
    for place in LOCK snapshots/record snapshots/snapshot_20260101_000000.tar.zst backup/state "wal/$(cd "$instance/data/wal" && compgen -G 'wal_*' | head -n 1)"; do
        mkfifo "$data/$place"
    done
    run timeout 30 "$quire" doctor --json --data "$data"
    [ "$status" -le 2 ]
    [[ $output == '{"format":1,'* ]]
}
