#!/usr/bin/env bats
# Requests with an Idempotency-Key through nginx: the first reply again, whatever is killed, restarted or restored in between; and min_lsn.
# shellcheck disable=SC2154,SC2031 # common.bash sets code, body, headers, library

bats_require_minimum_version 1.5.0
load common

setup() { start_instance --set workers=4; }
teardown() { remove_instance; }

# post KEY PATH BODY: as api, and sets reply: all of it that must be the same each time.
post() {
    api POST "$2" "$3" -H "Idempotency-Key: $1"
    reply="$code $(grep -iE '^(location|quire-lsn):' "$headers" | tr -d '\r' | sort) $(jq -cS 'del(.processing_time_ms)' <<<"$body")"
}
replayed() { grep -qi '^idempotency-replayed: true' "$headers"; }
succeeded() { api GET "/v1/tasks/$1" && [ "$(field .state)" = succeeded ]; }
documents() { api GET "/v1/libraries/$library" && field .num_documents; }
kill_server() {
    local pid
    pid=$(supervisor)
    kill -9 "$pid"
    gone() { [ ! -e "/proc/$pid/exe" ]; }
    until_true 20 gone
}

# Once, to go on without the log.
repair_and_stop() {
    "${QUIRE_BUILD_DIR:-$root/.build}/src/quired" -c "$instance/quire.conf" --repair >/dev/null 2>&1 &
    local pid=$!
    serves() { [ -S "$instance/run/quired.sock" ] && [ "$(pgrep -P "$pid" -x quired | wc -l)" -gt 0 ]; }
    until_true 20 serves
    kill "$pid"
    wait "$pid"
}

one='{"title":"t","texts":["the one and only"]}'

@test "the same key twice, another body, another path; after kill -9, after a stop, and from a snapshot alone" {
    make_library
    path=/v1/libraries/$library/documents
    post k "$path" "$one"
    expect 201
    run ! replayed
    first=$reply
    post b "$path/batch" '{"documents":[{"title":"1","texts":["a"]},{"title":"2"},{"id":"x","title":"3","texts":["b","c"]}]}'
    expect 200
    batch=$reply
    post k /v1/libraries '{"name":"another"}'
    expect 201
    created=$reply

    the_same() {
        post k "$path" "$one"
        replayed
        [ "$reply" = "$first" ]
        post b "$path/batch" '{"documents":[{"title":"1","texts":["a"]},{"title":"2"},{"id":"x","title":"3","texts":["b","c"]}]}'
        replayed
        [ "$reply" = "$batch" ]
        post k /v1/libraries '{"name":"another"}'
        replayed
        [ "$reply" = "$created" ]
        post k "$path" '{"title":"t","texts":["another"]}'
        expect 422 ValidationError
        [ "$(documents)" = 3 ]
    }
    the_same
    kill_server
    start_instance --set workers=4
    the_same
    stop_instance
    start_instance --set workers=4
    the_same
    # A snapshot, and nothing but that: log and arenas are gone.
    api POST /v1/snapshots
    expect 202
    task=$(field .id)
    until_true 30 succeeded "$task"
    kill_server
    rm -rf "$instance"/data/wal "$instance"/data/vectors
    repair_and_stop
    start_instance --set workers=4
    the_same
    [ "$(curl -sS --cacert "$instance/tls/cert.pem" "$url/metrics" | grep -c '^quire_idempotency_keys 3$')" = 1 ]
}

@test "quire restore takes along what is remembered: from an archive, and from archive and log" {
    make_library
    path=/v1/libraries/$library/documents
    post archived "$path" "$one"
    archived=$reply
    api POST /v1/snapshots
    task=$(field .id)
    until_true 30 succeeded "$task"
    post logged "$path" '{"title":"t","texts":["behind the archive"]}'
    logged=$reply
    kill_server
    mv "$instance/data" "$instance/old"
    "${QUIRE_BUILD_DIR:-$root/.build}/src/quire" restore "$instance/old" --into "$instance/data"
    start_instance --set workers=4
    # The log that a restore makes has LSNs of its own.
    # shellcheck disable=SC2001
    without_lsn() { sed 's/quire-lsn: [0-9]*//I' <<<"$1"; }
    post archived "$path" "$one"
    replayed
    [ "$(without_lsn "$reply")" = "$(without_lsn "$archived")" ]
    post logged "$path" '{"title":"t","texts":["behind the archive"]}'
    replayed
    [ "$(without_lsn "$reply")" = "$(without_lsn "$logged")" ]
    [ "$(documents)" = 2 ]
}

@test "a hundred at once with one key: one document, and all get the same reply" {
    make_library
    path=/v1/libraries/$library/documents
    seq 100 | xargs -P 32 -I{} curl -sS --retry 20 --retry-delay 1 --cacert "$instance/tls/cert.pem" -H 'Content-Type: application/json' \
        -H 'Idempotency-Key: crowd' -d "$one" -w ' %{http_code}\n' -o "$BATS_TEST_TMPDIR/{}" "$url$path" >"$BATS_TEST_TMPDIR/codes"
    [ "$(sort -u "$BATS_TEST_TMPDIR/codes")" = ' 201' ]
    [ "$(cat "$BATS_TEST_TMPDIR"/[0-9]* | jq -c . | sort -u | wc -l)" = 1 ]
    [ "$(documents)" = 1 ]
}

@test "a worker is killed between submitting and replying; the client sends it again" {
    make_library
    path=/v1/libraries/$library/documents
    # Workers die while clients write: whatever reply a key got, it is the only one, and its document is there once.
    for i in $(seq 1 30); do
        kill -9 "$(workers | shuf -n 1)" 2>/dev/null || true
        for attempt in $(seq 1 40); do
            if post "key-$i" "$path" "{\"title\":\"t$i\",\"texts\":[\"text of $i\"]}" && [ "$code" = 201 ]; then break; fi
            [ "$attempt" -lt 40 ]
            sleep 0.05
        done
        kept=$reply
        post "key-$i" "$path" "{\"title\":\"t$i\",\"texts\":[\"text of $i\"]}" || post "key-$i" "$path" "{\"title\":\"t$i\",\"texts\":[\"text of $i\"]}"
        replayed
        [ "$reply" = "$kept" ]
    done
    [ "$(documents)" = 30 ]
}

@test "a full disk: what was refused may come again with its key" {
    remove_instance
    unset instance
    fault=$(mktemp)
    rm "$fault"
    QUIRE_IO_FAULT="fallocate:errno=ENOSPC,file=$fault;write:errno=ENOSPC,path=wal_,file=$fault" start_instance --set workers=2
    make_library
    path=/v1/libraries/$library/documents
    : >"$fault"
    local refused=0
    for i in $(seq 1 40); do
        post "k$i" "$path/batch" "{\"documents\":[{\"title\":\"a\",\"texts\":[\"$(head -c 60000 /dev/zero | tr '\0' x)\"]},{\"title\":\"b\",\"texts\":[\"y\"]}]}"
        [ "$code" = 507 ] || continue
        refused=$i
        break
    done
    [ "$refused" -gt 0 ]
    before=$(documents)
    [ "$before" = $((2 * (refused - 1))) ]
    rm "$fault"
    post "k$refused" "$path/batch" "{\"documents\":[{\"title\":\"a\",\"texts\":[\"$(head -c 60000 /dev/zero | tr '\0' x)\"]},{\"title\":\"b\",\"texts\":[\"y\"]}]}"
    expect 200
    run ! replayed
    [ "$(field .successful)" = 2 ]
    [ "$(documents)" = $((before + 2)) ]
}

@test "in the log: without a key a write is not a byte longer than its op and 18, with one some 100 more" {
    make_library
    appended() { curl -sS --cacert "$instance/tls/cert.pem" "$url/metrics" | awk '/^quire_wal_appended_bytes_total / {print $2}'; }
    path=/v1/libraries/$library/documents
    text=$(head -c 1000 /dev/zero | tr '\0' x)
    cost() { # cost KEY: bytes beyond the text
        local before
        before=$(appended)
        if [ -n "$1" ]; then
            api POST "$path" "{\"title\":\"t\",\"texts\":[\"$text\"]}" -H "Idempotency-Key: $1"
        else
            api POST "$path" "{\"title\":\"t\",\"texts\":[\"$text\"]}"
        fi
        expect 201
        echo $(($(appended) - before - 1000))
    }
    plain=$(cost "")
    keyed=$(cost k)
    echo "beyond the text: $plain bytes, with a key $keyed"
    [ "$plain" -le 96 ]
    [ $((keyed - plain)) -le 120 ]
}

@test "tasks: begun once, also when the worker dies that asked" {
    make_library
    for call in /v1/snapshots "/v1/libraries/$library/index/optimize" "/v1/libraries/$library/index/rebuild"; do
        post task "$call" ''
        expect 202
        first=$reply
        id=$(field .id)
        workers | xargs kill -9
        until_true 10 post task "$call" ''
        replayed
        [ "$reply" = "$first" ]
        until_true 20 succeeded "$id"
        post task "$call" ''
        [ "$reply" = "$first" ]
    done
    api GET /v1/tasks
    [ "$(jq '[.[] | select(.kind == "optimize" or .kind == "rebuild")] | length' <<<"$body")" = 2 ]
}

@test "tasks: a dozen at once with one key begin one, and all get the same reply" {
    remove_instance
    unset instance
    QUIRE_IO_FAULT="fdatasync:delay=100,path=wal_" start_instance --set workers=16 --set snapshot_interval=0
    make_library
    for call in /v1/snapshots "/v1/libraries/$library/index/optimize" "/v1/libraries/$library/index/rebuild"; do
        seq 12 | xargs -P 12 -I{} curl -sS --cacert "$instance/tls/cert.pem" -X POST -H 'Idempotency-Key: crowd' \
            -w ' %{http_code}\n' -o "$BATS_TEST_TMPDIR/{}" "$url$call" >"$BATS_TEST_TMPDIR/codes"
        [ "$(sort -u "$BATS_TEST_TMPDIR/codes")" = ' 202' ]
        [ "$(cat "$BATS_TEST_TMPDIR"/[0-9]* | jq -r .id | sort -u | wc -l)" = 1 ]
        until_true 20 succeeded "$(jq -r .id "$BATS_TEST_TMPDIR/1")"
    done
    api GET /v1/tasks
    [ "$(jq -c '[.[].kind] | sort' <<<"$body")" = '["optimize","rebuild","snapshot"]' ]
}

@test "a batch with an id twice, and one that is too large for one record" {
    remove_instance
    unset instance
    start_instance --set workers=2 --set max_op_bytes=1M
    make_library
    path=/v1/libraries/$library/documents
    post twice "$path/batch" '{"documents":[{"id":"a","title":"1","texts":["x"]},{"id":"a","title":"2","texts":["y"]},{"id":"b","title":"3","texts":["z"]}]}'
    expect 200
    [ "$(jq -c '[.results[] | .error.error_type // "none"]' <<<"$body")" = '["none","ConflictError","none"]' ]
    kept=$reply
    post twice "$path/batch" '{"documents":[{"id":"a","title":"1","texts":["x"]},{"id":"a","title":"2","texts":["y"]},{"id":"b","title":"3","texts":["z"]}]}'
    replayed
    [ "$reply" = "$kept" ]
    post delete "$path/batch-delete" '{"document_ids":["a","a","b"]}'
    [ "$(jq -c '[.results[].success]' <<<"$body")" = '[true,false,true]' ]
    long=$(head -c 600000 /dev/zero | tr '\0' x)
    post large "$path/batch" "{\"documents\":[{\"title\":\"1\",\"texts\":[\"$long\"]},{\"title\":\"2\",\"texts\":[\"$long\"]}]}"
    expect 413 PayloadTooLargeError
    [ "$(documents)" = 0 ]
    api POST "$path/batch" "{\"documents\":[{\"title\":\"1\",\"texts\":[\"$long\"]},{\"title\":\"2\",\"texts\":[\"$long\"]}]}"
    expect 200
    [ "$(documents)" = 2 ]
}

@test "a key of no use is refused, one for a search is passed over" {
    make_library
    api POST "/v1/libraries/$library/documents" "$one" -H 'Idempotency-Key: two words'
    expect 422 ValidationError
    api POST "/v1/libraries/$library/search" '{"query":"x"}' -H 'Idempotency-Key: two words'
    expect 200
    [ "$(documents)" = 0 ]
}

@test "min_lsn: what a write said is there at once; of the future: 503 with Retry-After" {
    make_library
    post k "/v1/libraries/$library/documents" "$one"
    expect 201
    lsn=$(grep -i '^quire-lsn:' "$headers" | tr -dc 0-9)
    api POST "/v1/libraries/$library/search" "{\"query\":\"only\",\"min_lsn\":\"$lsn\"}"
    expect 200
    [ "$(field '.results | length')" = 1 ]
    api POST "/v1/libraries/$library/search" '{"query":"only","min_lsn":"x"}'
    expect 422 ValidationError
    # It waits until the write comes, asleep.
    (sleep 0.3 && api POST "/v1/libraries/$library/documents" "$one") &
    writer=$!
    api POST "/v1/libraries/$library/search" "{\"query\":\"only\",\"min_lsn\":$((lsn + 1))}"
    expect 200
    [ "$(field '.results | length')" = 2 ]
    wait "$writer"
    # A waiter that is killed disturbs nobody.
    curl -sS -m 5 --cacert "$instance/tls/cert.pem" -H 'Content-Type: application/json' -d '{"query":"only","min_lsn":"999"}' \
        "$url/v1/libraries/$library/search" >/dev/null &
    sleep 0.2
    workers | xargs kill -9
    wait $! || true
    api POST "/v1/libraries/$library/documents" "$one" --retry 20 --retry-delay 1
    expect 201
    api POST "/v1/libraries/$library/search" '{"query":"only","min_lsn":"18446744073709551615"}'
    expect 503 NotReadyError
    grep -qi '^retry-after:' "$headers"
}

@test "searches that wait for their min_lsn leave workers to the others: over max_min_lsn_waits 503 at once" {
    make_library
    post k "/v1/libraries/$library/documents" "$one"
    lsn=$(grep -i '^quire-lsn:' "$headers" | tr -dc 0-9)
    stop_instance
    start_instance --set workers=3 --set read_workers=2 --set min_lsn_wait_ms=20000
    later="{\"query\":\"only\",\"min_lsn\":$((lsn + 3))}" # the restart has two of its own at most
    curl -sS --cacert "$instance/tls/cert.pem" -H 'Content-Type: application/json' -d "$later" -o "$BATS_TEST_TMPDIR/waited" \
        "$url/v1/libraries/$library/search" &
    waiter=$!
    waits() { curl -sS --cacert "$instance/tls/cert.pem" "$url/metrics" | grep -q '^quire_min_lsn_waits 1$'; }
    until_true 20 waits
    api POST "/v1/libraries/$library/search" "$later"
    expect 503 OverloadedError
    grep -qi '^retry-after:' "$headers"
    api POST "/v1/libraries/$library/search" '{"query":"only"}'
    expect 200
    for _ in 1 2 3; do
        api POST "/v1/libraries/$library/documents" "$one"
        expect 201
    done
    wait "$waiter"
    [ "$(jq '.results | length' "$BATS_TEST_TMPDIR/waited")" -ge 1 ]
    until_true 20 eval '! waits'
}
