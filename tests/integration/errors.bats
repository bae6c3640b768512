#!/usr/bin/env bats
# errors.bats - each error that the description has, at least once, as a client meets it: through nginx and TLS, with keys on.
#
# produced() notes what it has seen. The last test holds that against the table of docs/api.md and the enum of data/openapi.json, so an error that is added
# there without a test here fails.

bats_require_minimum_version 1.5.0
load common

setup_file() {
    load common
    export fault=$BATS_FILE_TMPDIR/fault # disks fail while it is there
    export broken=$BATS_FILE_TMPDIR/broken # snapshots cannot be read while it is there
    QUIRE_IO_FAULT="fallocate:errno=ENOSPC,file=$fault;write:errno=ENOSPC,path=wal_,file=$fault;open:errno=EIO,path=snapshot_,file=$broken" \
        start_instance --set workers=4 --set auth=on --set max_body_bytes=256K --set snapshot_interval=0 --set snapshot_every_ops=0 \
        --set max_min_lsn_waits=1 --set min_lsn_wait_ms=20000 --set cors_origins="https://app.example.com, http://localhost:3000"
    admin=$(cat "$instance/admin_key")
    export admin
    as_admin POST /v1/libraries '{"name":"errors"}'
    expect 201
    library=$(field .id)
    as_admin POST "/v1/libraries/$library/documents" '{"id":"known","title":"t","texts":["a heron at dawn"]}'
    expect 201
    documents=/v1/libraries/$library/documents
    export library documents
}
teardown_file() {
    load common
    remove_instance
}

# as_admin METHOD PATH [BODY] [curl arguments...]
as_admin() {
    local method=$1 path=$2 data=${3-}
    shift 2
    [ $# -gt 0 ] && shift
    api "$method" "$path" "$data" -H "Authorization: Bearer $admin" -H 'Origin: http://localhost:3000' "$@"
}

# produced STATUS ERROR_TYPE: what came last is that, in the form that every error has, whether a worker or nginx answered: once each of the headers, which
# pages of a listed origin may read. It is noted as seen.
produced() {
    expect "$1" "$2"
    [ "$(field .type)" = "urn:quire:error:$2" ]
    [ "$(field .request_id)" = "$(sed -n 's/^x-request-id: *//Ip' "$headers" | tr -d '\r')" ]
    local name
    for name in x-request-id access-control-allow-origin access-control-expose-headers strict-transport-security x-content-type-options; do
        [ "$(grep -ci "^$name:" "$headers")" = 1 ] || {
            printf 'not one %s:\n%s\n' "$name" "$(cat "$headers")" >&2
            return 1
        }
    done
    grep -qi '^access-control-allow-origin: http://localhost:3000' "$headers"
    grep -qi '^vary: .*origin' "$headers"
    printf '%s %s\n' "$1" "$2" >>"$BATS_FILE_TMPDIR/produced"
}

nobody=00000000-0000-7000-8000-000000000000

@test "400 MalformedRequestError" {
    as_admin POST "$documents" '{"title":'
    produced 400 MalformedRequestError
    as_admin POST "$documents" '' -H 'Content-Type: application/json' -d ''
    produced 400 MalformedRequestError
    as_admin GET "/v1/libraries/%zz" # nginx's own, of a head that it does not read to the end, so it cannot know the origin
    expect 400 MalformedRequestError
}

@test "400 DimensionMismatchError" {
    as_admin POST "/v1/libraries/$library/search/embedding" '{"embedding":[1,2,3],"k":1}'
    produced 400 DimensionMismatchError
}

@test "401 AuthenticationError, with WWW-Authenticate" {
    api GET /v1/libraries '' -H 'Origin: http://localhost:3000'
    produced 401 AuthenticationError
    grep -qi '^www-authenticate: Bearer' "$headers"
    api GET /v1/libraries '' -H 'X-API-Key: qk_wrong' -H 'Origin: http://localhost:3000'
    produced 401 AuthenticationError
}

@test "403 PermissionDeniedError" {
    as_admin POST /v1/keys '{"name":"reads","scopes":["read"]}'
    expect 201
    api POST "$documents" '{"title":"t","texts":["x"]}' -H "X-API-Key: $(field .secret)" -H 'Origin: http://localhost:3000'
    produced 403 PermissionDeniedError
}

@test "404: library, document, chunk, task, snapshot, key, route" {
    as_admin GET "/v1/libraries/$nobody"
    produced 404 LibraryNotFoundError
    as_admin GET "$documents/nothing"
    produced 404 DocumentNotFoundError
    as_admin GET "/v1/libraries/$library/chunks/nothing"
    produced 404 ChunkNotFoundError
    as_admin GET "/v1/tasks/$nobody"
    produced 404 TaskNotFoundError
    as_admin POST "/v1/snapshots/nothing/verify"
    produced 404 SnapshotNotFoundError
    as_admin DELETE "/v1/keys/$nobody"
    produced 404 KeyNotFoundError
    as_admin GET /v1/nothing
    produced 404 RouteNotFoundError
    as_admin GET /nothing
    produced 404 RouteNotFoundError
}

@test "405 MethodNotAllowedError, with Allow" {
    as_admin PUT /v1/libraries '{}'
    produced 405 MethodNotAllowedError
    grep -qi '^allow: GET, HEAD, POST, OPTIONS' "$headers"
    as_admin GET "$documents/batch-delete/x"
    produced 404 RouteNotFoundError
    as_admin GET "/v1/search"
    produced 405 MethodNotAllowedError
    grep -qi '^allow: POST, OPTIONS' "$headers"
    as_admin TRACE /v1/libraries # nginx's own
    produced 405 MethodNotAllowedError
    grep -qi '^allow: ' "$headers"
}

@test "409 ConflictError" {
    as_admin POST "$documents" '{"id":"known","title":"t","texts":["x"]}'
    produced 409 ConflictError
}

@test "412 PreconditionFailedError" {
    as_admin PUT "$documents/known" '{"title":"t","texts":["x"]}' -H 'If-Match: "another"'
    produced 412 PreconditionFailedError
    as_admin PUT "$documents/known" '{"title":"t","texts":["x"]}' -H 'If-None-Match: *'
    produced 412 PreconditionFailedError
}

@test "413 PayloadTooLargeError, from nginx" {
    as_admin POST "$documents" "{\"title\":\"$(head -c 300000 /dev/zero | tr '\0' x)\"}"
    produced 413 PayloadTooLargeError
}

@test "415 UnsupportedMediaTypeError" {
    as_admin POST "$documents" '' -H 'Content-Type: text/plain' --data-binary '{"title":"t","texts":["x"]}'
    produced 415 UnsupportedMediaTypeError
    as_admin POST "$documents/stream" '{"title":"t","texts":["x"]}'
    produced 415 UnsupportedMediaTypeError
}

@test "422 ValidationError, with what is wrong" {
    as_admin POST /v1/libraries '{"nam":"x"}'
    produced 422 ValidationError
    [ "$(field '.errors | map(.pointer) | sort | join(" ")')" = "/nam /name" ]
    as_admin GET "/v1/libraries?limit=0"
    produced 422 ValidationError
    [ "$(field '.errors[0].pointer')" = "?limit" ]
}

@test "500 InternalError, and nothing of the inside shows" {
    as_admin POST /v1/snapshots
    expect 202
    listed() { as_admin GET /v1/snapshots && [ "$(field length)" -gt 0 ]; }
    until_true 20 listed
    local name
    name=$(field '.[0].name')
    : >"$broken"
    as_admin GET "/v1/snapshots/$name"
    rm "$broken"
    produced 500 InternalError
    run ! grep -qiE 'input/output|EIO|/snapshots' <<<"$(field .detail)"
    grep "$(field .request_id)" "$instance/logs/quired.log" | grep -qi 'input/output'
}

@test "503 OverloadedError, with Retry-After" {
    local lsn waiter
    as_admin PUT "$documents/lsn" '{"title":"t","texts":["x"]}'
    lsn=$(sed -n 's/^quire-lsn: *//Ip' "$headers" | tr -d '\r')
    curl -sS --cacert "$instance/tls/cert.pem" -H "X-API-Key: $admin" -H 'Content-Type: application/json' -d "{\"query\":\"x\",\"min_lsn\":$((lsn + 1))}" \
        -o "$BATS_TEST_TMPDIR/waited" "$url/v1/libraries/$library/search" 3>&- &
    waiter=$!
    waits() { as_admin GET /metrics && grep -q '^quire_min_lsn_waits 1$' <<<"$body"; }
    until_true 20 waits
    as_admin POST "/v1/libraries/$library/search" "{\"query\":\"x\",\"min_lsn\":$((lsn + 1))}"
    produced 503 OverloadedError
    grep -qi '^retry-after: [0-9]' "$headers"
    as_admin PUT "$documents/lsn" '{"title":"t","texts":["y"]}'
    wait $waiter
}

@test "507 InsufficientStorageError, and afterwards it goes on" {
    : >"$fault"
    as_admin POST /v1/libraries '{"name":"no room"}'
    rm "$fault"
    produced 507 InsufficientStorageError
    as_admin POST /v1/libraries '{"name":"room"}'
    expect 201
}

@test "503 NotReadyError from nginx while nobody answers, with Retry-After" {
    kill -QUIT "$(supervisor)"
    gone() { [ -z "$(processes_of "$instance")" ]; }
    until_true 20 gone
    for path in /health /v1/libraries "/v1/libraries/$library/export"; do
        as_admin GET "$path"
        produced 503 NotReadyError
        grep -qi '^retry-after: [0-9]' "$headers"
    done
    as_admin POST "$documents" '{"title":"t","texts":["x"]}'
    produced 503 NotReadyError
}

@test "503 EmbeddingUnavailableError, with Retry-After: a library whose model is not there any more" {
    start_instance --set model_dir= --set default_model=hash-384 --rate 5
    as_admin POST "/v1/libraries/$library/search" '{"query":"heron","k":1,"mode":"dense"}'
    produced 503 EmbeddingUnavailableError
    grep -qi '^retry-after: [0-9]' "$headers"
}

@test "429 RateLimitError from nginx, with Retry-After" {
    for _ in $(seq 100); do
        api GET /health '' -H 'Origin: http://localhost:3000'
        [ "$code" = 429 ] && break
    done
    produced 429 RateLimitError
    grep -qi '^retry-after: [0-9]' "$headers"
}

@test "all of them: each line of the table in docs/api.md was produced, and it has every error of the description" {
    local table=$BATS_TEST_TMPDIR/table
    awk -F '|' '/^## / {inside = $0 == "## Errors"} inside && $2 ~ /^ [0-9]+ $/ {n = split($3, types, "`"); for (i = 2; i <= n; i += 2) print $2 + 0, types[i]}' \
        "$root/docs/api.md" | sort -u >"$table"
    [ "$(wc -l <"$table")" -gt 20 ]
    diff "$table" <(sort -u "$BATS_FILE_TMPDIR/produced")
    diff <(cut -d' ' -f2 "$table" | sort -u) <(jq -r '.components.schemas.Problem.properties.error_type.enum[]' "$root/data/openapi.json" | sort)
}
