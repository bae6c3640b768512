#!/usr/bin/env bats
# Bad input, through nginx: each with its status and error_type, and the server as well afterwards as before.

bats_require_minimum_version 1.5.0
load common

setup_file() {
    load common
    start_instance --set workers=2 --set max_body_bytes=2M --set max_text_bytes=64K --set worker_memory_bytes="${QUIRE_WORKER_MEMORY:-512M}" --set json_max_tokens=60000
    make_library
    export library
    api POST "/v1/libraries/$library/documents" '{"id":"known","title":"t","texts":["the quick brown fox"]}'
    expect 201
}
teardown_file() {
    load common
    remove_instance
}

documents() { printf '/v1/libraries/%s/documents' "$library"; }

# refused BODY: 400 with the form of an error, wherever JSON is taken.
refused() {
    api POST "$(documents)" "$1"
    expect 400 MalformedRequestError
    api POST "/v1/libraries/$library/search" "$1"
    expect 400 MalformedRequestError
    api POST /v1/libraries "$1"
    expect 400 MalformedRequestError
}

# invalid BODY [POINTER]: 422, and which member.
invalid() {
    api POST "$(documents)" "$1"
    expect 422 ValidationError
    [ "$(field '.errors | length > 0')" = true ]
    [ $# -lt 2 ] || [ "$(field ".errors | map(.pointer) | index(\"$2\") != null")" = true ] || {
        printf 'no pointer %s in %s\n' "$2" "$body" >&2
        return 1
    }
}

@test "truncated JSON" {
    whole='{"title":"t","texts":["one","two"],"metadata":{"a":[1,2.5e3,true,null]}}'
    for ((n = 1; n < ${#whole}; n += 3)); do
        api POST "$(documents)" "${whole:0:n}"
        expect 400 MalformedRequestError
    done
}

@test "not JSON at all" {
    refused 'hello'
    refused "{'title':'t'}"
    refused '{"title":"t",}'
    refused '{"title":"t"} x'
    refused '// c'
    refused '{"title":"t","texts":["a"]}{}'
}

@test "numbers that are not finite, or no numbers" {
    refused '{"title":"t","texts":["a"],"metadata":{"n":NaN}}'
    refused '{"title":"t","texts":["a"],"metadata":{"n":Infinity}}'
    refused '{"title":"t","texts":["a"],"metadata":{"n":-Infinity}}'
    refused '{"title":"t","texts":["a"],"metadata":{"n":1e999}}'
    refused '{"title":"t","texts":["a"],"metadata":{"n":01}}'
    refused '{"title":"t","texts":["a"],"metadata":{"n":+1}}'
    refused '{"title":"t","texts":["a"],"metadata":{"n":0x10}}'
}

@test "duplicate keys, escaped or not" {
    refused '{"title":"t","title":"u","texts":["a"]}'
    refused '{"title":"t","texts":["a"],"metadata":{"k":1,"\u006b":2}}'
}

@test "NUL in keys and texts" {
    refused '{"title":"t\u0000","texts":["a"]}'
    refused '{"title":"t","texts":["a"],"metadata":{"k\u0000":1}}'
    printf '{"title":"t","texts":["a\0b"]}' >"$BATS_TEST_TMPDIR/nul"
    api POST "$(documents)" '' -H 'Content-Type: application/json' --data-binary "@$BATS_TEST_TMPDIR/nul"
    expect 400 MalformedRequestError
}

@test "invalid UTF-8 and lone surrogates" {
    for bytes in '\xff' '\xc3' '\xc0\xaf' '\xed\xa0\x80' '\xf4\x90\x80\x80' '\xe2\x82'; do
        printf '{"title":"t","texts":["a%b"]}' "$bytes" >"$BATS_TEST_TMPDIR/bytes"
        api POST "$(documents)" '' -H 'Content-Type: application/json' --data-binary "@$BATS_TEST_TMPDIR/bytes"
        expect 400 MalformedRequestError
    done
    refused '{"title":"t","texts":["\ud800"]}'
    refused '{"title":"t","texts":["\udc00\ud800"]}'
}

@test "deep and wide" {
    python3 - "$BATS_TEST_TMPDIR" <<'PY'
import sys
d = sys.argv[1]
open(d + "/deep", "w").write("[" * 100000 + "]" * 100000)
open(d + "/deep_object", "w").write('{"a":' * 100000 + "1" + "}" * 100000)
open(d + "/wide", "w").write("[" + "{}," * 650000 + "{}]")
open(d + "/numbers", "w").write("[" + "1," * 1000000 + "1]")
open(d + "/keys", "w").write("{" + ",".join('"k%d":1' % i for i in range(100000)) + "}")
open(d + "/strings", "w").write("[" + '"",' * 650000 + '""]')
open(d + "/escape", "w").write('{"title":"' + "\\\\" * 900000 + '"}')
PY
    for file in deep deep_object wide numbers keys strings; do
        for path in "$(documents)" "/v1/libraries/$library/search" "$(documents)/batch"; do
            api POST "$path" '' -H 'Content-Type: application/json' --data-binary "@$BATS_TEST_TMPDIR/$file"
            expect 400 MalformedRequestError
        done
    done
    api POST "$(documents)" '' -H 'Content-Type: application/json' --data-binary "@$BATS_TEST_TMPDIR/escape"
    expect 422 ValidationError
    # No worker has grown beyond its bound: RssAnon of all that live, in kB.
    local pid bound=$((512 * 1024))
    for pid in $(workers); do
        [ "$(awk '/^RssAnon/ {print $2}' "/proc/$pid/status")" -lt $bound ]
        [ -n "${QUIRE_SANITIZED:-}" ] || [ "$(awk '/^VmData/ {print $2}' "/proc/$pid/status")" -lt $((bound + 8192)) ]
    done
}

@test "wrong types and ranges, with the member named" {
    invalid '{"texts":["a"]}' /title
    invalid '{"title":5,"texts":["a"]}' /title
    invalid '{"title":"t"}'
    invalid '{"title":"t","texts":"a"}' /texts
    invalid '{"title":"t","texts":[]}' /texts
    invalid '{"title":"t","texts":["a",7]}' /texts/1
    invalid '{"title":"t","texts":["a",""]}' /texts/1
    invalid '{"title":"t","texts":["a"],"tags":["x",1]}' /tags/1
    invalid '{"title":"t","texts":["a"],"metadata":[]}' /metadata
    invalid '{"title":"t","texts":["a"],"chunk_ids":["x","y"]}' /chunk_ids
    invalid '{"title":"t","texts":["a","b"],"chunk_ids":["x","x"]}'
    invalid '{"title":"t","texts":["a"],"id":""}' /id
    invalid '{"title":"t","texts":["a"],"id":"a\nb"}' /id
    invalid "{\"title\":\"t\",\"texts\":[\"a\"],\"id\":\"$(printf 'x%.0s' {1..129})\"}" /id
    invalid '{"title":"t","text":"a b c","chunking":{"max_tokens":0}}' /chunking/max_tokens
    invalid '{"title":"t","text":"a b c","chunking":{"max_tokens":10,"overlap":10}}' /chunking/overlap
    invalid '[]'
    invalid '"x"'
    for k in 0 -1 1001 1.5 '"3"' true; do
        api POST "/v1/libraries/$library/search" "{\"query\":\"a\",\"k\":$k}"
        expect 422 ValidationError
    done
    api POST "/v1/libraries/$library/search" '{"k":3}'
    expect 422 ValidationError
    api POST /v1/libraries '{"name":""}'
    expect 422 ValidationError
    api POST /v1/libraries "{\"name\":\"$(printf 'x%.0s' {1..256})\"}"
    expect 422 ValidationError
    api POST /v1/libraries '{"name":"a\tb"}'
    expect 422 ValidationError
    api POST /v1/libraries '{"name":"a","index_type":"ivf"}'
    expect 422 ValidationError
    grep -q hnsw <<<"$body"
    grep -q flat <<<"$body"
    api POST /v1/libraries '{"name":"a","embedding_model":"no-such-model"}'
    expect 422 ValidationError
}

@test "unknown members and parameters are named" {
    invalid '{"title":"t","texts":["a"],"colour":"red"}' /colour
    api POST /v1/libraries '{"name":"n","sharding":3}'
    expect 422 ValidationError
    [ "$(field '.errors[0].pointer')" = /sharding ]
    api GET "/v1/libraries?page=2"
    expect 422 ValidationError
    grep -q page <<<"$body"
    api GET "/v1/libraries?limit=x"
    expect 422 ValidationError
    api GET "/v1/libraries?cursor=%21%21"
    [ "$code" = 422 ] || [ "$code" = 400 ]
}

@test "vectors of a wrong dimension, not finite, or no vectors" {
    api POST /v1/libraries '{"name":"own","embedding_model":"none"}'
    expect 201
    own=$(field .id)
    api POST "/v1/libraries/$own/documents" '{"title":"t","texts":["a"],"embeddings":[[1,0,0,0]]}'
    expect 201
    api POST "/v1/libraries/$own/documents" '{"title":"t","texts":["a"],"embeddings":[[1,0,0]]}'
    expect 400 DimensionMismatchError
    api POST "/v1/libraries/$own/documents" '{"title":"t","texts":["a"],"embeddings":[[1,0,0,1e39]]}'
    expect 400 MalformedRequestError
    api POST "/v1/libraries/$own/documents" '{"title":"t","texts":["a"],"embeddings":[[1,0,"x",0]]}'
    expect 422 ValidationError
    api POST "/v1/libraries/$own/documents" '{"title":"t","texts":["a"],"embeddings":[5]}'
    expect 422 ValidationError
    api POST "/v1/libraries/$own/documents" '{"title":"t","texts":["a"]}'
    expect 422 ValidationError
    api POST "/v1/libraries/$own/search/embedding" '{"embedding":[1,0],"k":1}'
    expect 400 DimensionMismatchError
    api POST "/v1/libraries/$own/search/embedding" '{"embedding":"AAAA","k":1}'
    expect 400 MalformedRequestError
    api POST "/v1/libraries/$own/search" '{"query":"words","k":1,"mode":"dense"}'
    expect 422 ValidationError
    api POST "/v1/libraries/$own/search" '{"query":"words","k":1}'
    expect 200 # by its words: there is nothing to embed them with
    api POST "/v1/libraries/$library/search/embedding" '{"embedding":[1,2,3],"k":1}'
    expect 400 DimensionMismatchError
}

@test "oversize bodies and texts" {
    head -c 3000000 /dev/zero | tr '\0' x >"$BATS_TEST_TMPDIR/large"
    api POST "$(documents)" '' -H 'Content-Type: application/json' --data-binary "@$BATS_TEST_TMPDIR/large"
    expect 413 PayloadTooLargeError
    printf '{"title":"t","texts":["%s"]}' "$(head -c 70000 /dev/zero | tr '\0' x)" >"$BATS_TEST_TMPDIR/text"
    api POST "$(documents)" '' -H 'Content-Type: application/json' --data-binary "@$BATS_TEST_TMPDIR/text"
    [ "$code" = 422 ] || [ "$code" = 413 ]
}

@test "unknown ids, paths and methods" {
    api GET /v1/libraries/00000000-0000-7000-8000-000000000000
    expect 404 LibraryNotFoundError
    api GET /v1/libraries/nonsense
    expect 404 LibraryNotFoundError
    api POST /v1/libraries/00000000-0000-7000-8000-000000000000/documents '{"title":"t","texts":["a"]}'
    expect 404 LibraryNotFoundError
    api POST /v1/libraries/00000000-0000-7000-8000-000000000000/search '{"query":"a"}'
    expect 404 LibraryNotFoundError
    api GET "$(documents)/unknown"
    expect 404 DocumentNotFoundError
    api DELETE "$(documents)/unknown"
    expect 404 DocumentNotFoundError
    api GET /v1/documents/00000000-0000-7000-8000-000000000000
    expect 404 DocumentNotFoundError
    api GET /v1/tasks/00000000-0000-7000-8000-000000000000
    expect 404 TaskNotFoundError
    api GET /v1/nothing
    expect 404 RouteNotFoundError
    api GET /nothing
    expect 404 RouteNotFoundError
    api GET "/v1/libraries/%00"
    [ "$code" = 404 ] || [ "$code" = 400 ]
    api GET "/v1/libraries/%zz"
    [ "$code" = 404 ] || [ "$code" = 400 ]
    api PUT /v1/libraries '{}'
    expect 405 MethodNotAllowedError
    grep -qi '^allow:.*GET' "$headers"
    api DELETE /health
    expect 405 MethodNotAllowedError
    api TRACE /health
    expect 405 MethodNotAllowedError
}

@test "media types" {
    api POST "$(documents)" '' -H 'Content-Type: text/plain' --data-binary '{"title":"t","texts":["a"]}'
    expect 415 UnsupportedMediaTypeError
    api POST "$(documents)" '' -H 'Content-Type: application/json; charset=utf-8' --data-binary '{"title":"t","texts":["a"]}'
    expect 201
    api POST "$(documents)" '' -H 'Content-Type: application/json' -d ''
    expect 400 MalformedRequestError
}

@test "an id that is taken" {
    api POST "$(documents)" '{"id":"known","title":"t","texts":["b"]}'
    expect 409 ConflictError
    api GET "$(documents)/known"
    [ "$(field '.chunks[0].text')" = "the quick brown fox" ]
}

@test "a batch: one bad document does not fail the others" {
    api POST "$(documents)/batch" '{"documents":[{"title":"good","texts":["x"]},{"title":7,"texts":["x"]},{"id":"known","title":"t","texts":["y"]},
        {"title":"good too","texts":["z","w"]}]}'
    expect 200
    [ "$(field '[.total_requested,.successful,.failed,.total_chunks_added] | join(",")')" = 4,2,2,3 ]
    [ "$(field '[.results[].success] | join(",")')" = true,false,false,true ]
    [ "$(field '.results[2].error.error_type')" = ConflictError ]
    api POST "$(documents)/batch" '{"documents":[]}'
    expect 422 ValidationError
}

@test "hostile request ids and headers do not reach the log or the reply" {
    api GET /health '' -H 'X-Request-Id: a b"c' -H 'Proxy: http://evil/'
    expect 200
    run ! grep -qi '^x-request-id:.*a b' "$headers"
    api GET /health '' -H 'X-Request-Id: good-id_1.2'
    grep -qi '^x-request-id: good-id_1.2' "$headers"
}

@test "nginx's own errors have the same form" {
    api GET "/v1/$(head -c 20000 /dev/zero | tr '\0' x)" '' --http1.1
    expect 400 MalformedRequestError
    out=$(curl -sS -o "$BATS_TEST_TMPDIR/plain" -w '%{http_code}' "http://${url#https://}/health")
    [ "$out" = 400 ]
    [ "$(jq -r .error_type "$BATS_TEST_TMPDIR/plain")" = MalformedRequestError ]
}

@test "after all that: everything works, and no worker was lost on the way" {
    api GET /readiness
    expect 200
    api POST "/v1/libraries/$library/search" '{"query":"quick fox","k":1}'
    expect 200
    [ "$(field '.results[0].document_id')" = known ]
    # Restarts are counted; what a body could do must not have ended a worker.
    api GET /metrics
    grep -qE '^quire_worker_restarts(_total)? 0$' <<<"$body"
}
