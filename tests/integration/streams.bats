#!/usr/bin/env bats
# Documents in and out as streams, through nginx and TLS: both ways at once, broken, slow, rude, killed.
# shellcheck disable=SC2154 # common.bash sets instance, url, library

bats_require_minimum_version 1.5.0
load common

setup_file() {
    start_instance --set workers=8 --set max_streams=2 --set stream_idle_ms=1500 --set snapshot_interval=0
}
teardown_file() { remove_instance; }
setup() { make_library; }

streaming() { python3 "$root/tests/lib/streaming.py" "$instance" "$url" "$library" "$1"; }

@test "results come while more is sent" { streaming talks_both_ways; }
@test "lines come in pieces" { streaming piece_by_piece; }
@test "a connection that breaks within a line" { streaming cut_in_a_line; }
@test "a worker that is killed, and the stream sent again: nothing lost, nothing doubled" { streaming worker_killed; }
@test "a client that is silent, and one that is slow" { streaming silent; }
@test "a client that takes no results" { streaming deaf; }
@test "100,000 bad lines" { streaming bad_lines; }
@test "a line that is too long for anything" { streaming long_line; }
@test "as many as may be, and one more" { streaming places; }
@test "an export while documents are written and replaced" { streaming export_while_writing; }

@test "HTTP/1.1 and HTTP/2, Expect, gzip: what went in comes out" {
    local in=$BATS_TEST_TMPDIR/in out=$BATS_TEST_TMPDIR/out
    for i in $(seq 2000); do printf '{"id":"d%d","title":"t %d","texts":["words of %d"]}\n' "$i" "$i" "$i"; done >"$in"
    for version in --http1.1 --http2; do
        make_library
        curl -sS --cacert "$instance/tls/cert.pem" "$version" -X POST -T "$in" -H 'Expect: 100-continue' -H 'Content-Type: application/x-ndjson' \
            "$url/v1/libraries/$library/documents/stream" >"$out"
        [ "$(tail -n 1 "$out" | jq -c '[.summary.complete, .summary.successful]')" = '[true,2000]' ]
        [ "$(wc -l <"$out")" = 2001 ]
        curl -sS --cacert "$instance/tls/cert.pem" "$version" --compressed -D "$out.head" "$url/v1/libraries/$library/export" >"$out"
        grep -qi '^content-encoding: gzip' "$out.head"
        grep -qi '^quire-lsn: ' "$out.head"
        [ "$(jq -c '{id, title, texts}' "$out" | sort | sha256sum)" = "$(sort "$in" | sha256sum)" ]
        [ "$(curl -sS --cacert "$instance/tls/cert.pem" "$version" "$url/v1/libraries/$library/export?after=d1990" | wc -l)" = 10 ]
        [ "$(curl -sS --cacert "$instance/tls/cert.pem" "$version" -I "$url/v1/libraries/$library/export" | head -c 12)" != 'HTTP/1.1 500' ]
    done
}

@test "what is no stream on its path is answered as ever" {
    api POST "/v1/libraries/$library/documents/stream" '{"title":"t"}'
    expect 415 UnsupportedMediaTypeError
    api PUT "/v1/libraries/$library/documents/stream" '{"title":"t","texts":["a document that is called stream"]}'
    expect 201
    api GET "/v1/libraries/$library/documents/stream"
    expect 200
    api POST "/v1/libraries/$library/export" '{}'
    expect 405 MethodNotAllowedError
    api GET "/v1/libraries/00000000-0000-7000-8000-000000000000/export"
    expect 404 LibraryNotFoundError
    api DELETE "/v1/libraries/$library/documents/stream"
    expect 204
}

@test "quire import --stream and quire export, whose workers are killed" {
    # shellcheck disable=SC1091
    . "$instance/env"
    local in=$BATS_TEST_TMPDIR/in.ndjson
    for i in $(seq 6000); do printf '{"id":"d%d","title":"t %d","texts":["words of %d"]}\n' "$i" "$i" "$i"; done >"$in"
    quire import many - --stream <"$in" >"$BATS_TEST_TMPDIR/out" 2>&1 &
    local importer=$!
    for _ in 1 2 3; do
        sleep 0.3
        workers | xargs kill -9 || true
    done
    wait "$importer"
    grep -q ' 0 failed' "$BATS_TEST_TMPDIR/out"
    quire export many | jq -c '{id, title, texts}' | sort | cmp - <(sort "$in")
    (
        sleep 0.1
        workers | xargs kill -9 || true
    ) &
    quire export many | jq -c '{id, title, texts}' | sort | cmp - <(sort "$in")
    wait $!
    [ "$(quire import many "$in" --stream --json | jq .already_there)" = 6000 ]
    quire import other "$root/README.md" --stream | grep -q '^1 added'
    run quire export nothing-of-this-name
    [ "$status" != 0 ]
}

@test "the server is killed, and the stream sent again: nothing lost, nothing doubled" { streaming server_killed; }

@test "replacing workers and a stop end a stream with a clear last line" {
    stop_instance
    start_instance --set stream_idle_ms=30000 --set workers=2
    make_library
    streaming stopped
    until_true 20 test ! -e "$instance/quired.pid"
    start_instance
    [ "$(curl -sS --cacert "$instance/tls/cert.pem" "$url/v1/libraries/$library/export" | jq -r .id)" = d1 ]
}
