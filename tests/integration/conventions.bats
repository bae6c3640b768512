#!/usr/bin/env bats
# conventions.bats - what holds for every call, through nginx and TLS with keys on: HEAD, OPTIONS, CORS, Accept, gzip, ids in paths, slashes, lengths, request ids.

bats_require_minimum_version 1.5.0
load common

setup_file() {
    load common
    start_instance --set workers=4 --set auth=on --set cors_origins="https://app.example.com, http://localhost:3000"
    admin=$(cat "$instance/admin_key")
    export admin
    as_admin POST /v1/libraries '{"name":"conventions"}'
    expect 201
    library=$(field .id)
    documents=/v1/libraries/$library/documents
    export library documents
    as_admin PUT "$documents/long" "{\"title\":\"t\",\"chunk_ids\":[\"long-1\"],\"texts\":[\"$(head -c 5000 /dev/zero | tr '\0' x)\"]}"
    expect 201
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
    api "$method" "$path" "$data" -H "Authorization: Bearer $admin" "$@"
}

header() { sed -n "s/^$1: *//Ip" "$headers" | tr -d '\r'; }

@test "HEAD: the status and headers of GET, no body, on every path that has GET" {
    local path
    while read -r path; do
        path=${path//\{id\}/$library}
        path=${path//\{doc\}/long}
        path=${path//\{chunk\}/long-1}
        case $path in */tasks/* | */keys/* | */documents/long) path=$documents/long ;; */snapshots/*) continue ;; esac
        as_admin GET "$path" '' -o "$BATS_TEST_TMPDIR/body"
        local type status=$code
        type=$(header content-type)
        as_admin HEAD "$path" # curl itself fails where a body follows
        [ "$code" = "$status" ]
        [ "$(header content-type)" = "$type" ]
        [ -n "$(header x-request-id)" ]
    done < <(jq -r '.paths | to_entries[] | select(.value.get) | .key' "$root/data/openapi.json")
}

@test "OPTIONS: every path of the description names its methods" {
    local path method methods
    while read -r path methods; do
        path=${path//\{id\}/$library}
        path=${path//\{doc\}/x}
        path=${path//\{name\}/x}
        path=${path//\{chunk\}/x}
        as_admin OPTIONS "$path"
        expect 204
        for method in $methods; do header allow | grep -qw "${method^^}"; done
    done < <(jq -r '.paths | to_entries[] | .key + " " + (.value | keys - ["parameters"] | join(" "))' "$root/data/openapi.json")
}

@test "CORS: listed origins, with a preflight that has no key; no others" {
    local path
    for path in /v1/libraries "$documents" "$documents/stream" "/v1/libraries/$library/export" /v1/nothing; do
        api OPTIONS "$path" '' -H 'Origin: https://app.example.com' -H 'Access-Control-Request-Method: POST' -H 'Access-Control-Request-Headers: authorization,content-type'
        expect 204
        [ "$(header access-control-allow-origin)" = https://app.example.com ]
        header access-control-allow-methods | grep -qw PATCH
        header access-control-allow-headers | grep -qiw Authorization
        [ -z "$(header access-control-allow-credentials)" ]
        api OPTIONS "$path" '' -H 'Origin: https://other.example.com' -H 'Access-Control-Request-Method: POST'
        expect 401
        [ -z "$(header access-control-allow-origin)" ]
    done
    for path in /v1/libraries "/v1/libraries/$library/export"; do
        as_admin GET "$path" '' -H 'Origin: http://localhost:3000'
        expect 200
        [ "$(header access-control-allow-origin)" = http://localhost:3000 ]
        header access-control-expose-headers | grep -qw Quire-LSN
        header vary | grep -qw Origin
    done
    as_admin GET /v1/libraries
    [ -z "$(header access-control-allow-origin)" ]
    # What nginx answers by itself: the same (errors.bats has each).
    as_admin TRACE /v1/libraries '' -H 'Origin: https://app.example.com'
    expect 405 MethodNotAllowedError
    [ "$(header access-control-allow-origin)" = https://app.example.com ]
    header access-control-expose-headers | grep -qw Retry-After
    for origin in https://app.example.com.evil.org https://other.example.com null; do
        as_admin TRACE /v1/libraries '' -H "Origin: $origin"
        expect 405
        [ -z "$(header access-control-allow-origin)" ]
        header vary | grep -qw Origin
    done
    as_admin TRACE /v1/libraries
    [ -z "$(header access-control-allow-origin)" ]
}

@test "CORS: * is any origin, of nginx's own replies, too; nothing by default" {
    local each
    for each in '*' ''; do
        stop_instance
        start_instance --set cors_origins="$each"
        for method in GET TRACE; do
            as_admin $method /v1/libraries '' -H 'Origin: https://anywhere.example.com'
            [ "$(header access-control-allow-origin)" = "$each" ]
        done
    done
    stop_instance
    start_instance --set cors_origins="https://app.example.com, http://localhost:3000"
}

@test "Accept makes no difference" {
    for accept in text/html 'image/*;q=0.1' 'application/json;q=0' nonsense; do
        as_admin GET "$documents/long" '' -H "Accept: $accept"
        expect 200
        [ "$(header content-type)" = application/json ]
        as_admin GET "$documents/none" '' -H "Accept: $accept"
        expect 404 DocumentNotFoundError
    done
}

@test "gzip: large replies on request, and their ETag can be sent back" {
    as_admin GET "$documents/long" '' -H 'Accept-Encoding: gzip' --compressed
    expect 200
    [ "$(header content-encoding)" = gzip ]
    header vary | grep -qi accept-encoding
    [ "$(field '.chunks[0].text | length')" = 5000 ]
    local tag
    tag=$(header etag)
    as_admin GET "$documents/long" '' -H "If-None-Match: $tag"
    expect 304
    as_admin PATCH "$documents/long" '{"title":"another"}' -H "If-Match: $tag"
    expect 200
    as_admin GET /health '' -H 'Accept-Encoding: gzip'
    [ -z "$(header content-encoding)" ]
    as_admin GET "$documents/long"
    [ -z "$(header content-encoding)" ]
}

@test "ids in paths are percent-decoded once, and a slash at the end is no difference" {
    local id encoded
    while read -r id encoded; do
        as_admin PUT "$documents/$encoded" '{"title":"t","texts":["x"]}'
        expect 201
        [ "$(field .id)" = "$id" ]
        as_admin GET "$documents/$encoded/"
        expect 200
        [ "$(field .id)" = "$id" ]
        as_admin GET "$documents?limit=1000"
        [ "$(field "map(.id) | index(\"$id\") != null")" = true ]
    done <<'END'
a/b a%2Fb
grün gr%C3%BCn
50% 50%25
%41 %2541
a+b a+b
..%2F ..%252F
x?y=z#w x%3Fy%3Dz%23w
END
    as_admin GET "/v1/libraries/$library/?"
    expect 200
    as_admin POST "/v1/libraries/$library/search/" '{"query":"x","k":1}'
    expect 200
}

@test "Content-Length is held against what comes" {
    python3 - "${url##*:}" "$instance/tls/cert.pem" "$admin" "$documents" <<'PY'
import socket, ssl, sys
port, cert, key, path = sys.argv[1:]
context = ssl.create_default_context(cafile=cert)

def answer(length, body):
    with context.wrap_socket(socket.create_connection(("127.0.0.1", int(port))), server_hostname="127.0.0.1") as s:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        s.sendall(head.encode() + body)
        s.settimeout(30)
        reply = b""
        while piece := s.recv(65536):
            reply += piece
        return reply

body = b'{"title":"t","texts":["x"]}'
assert b" 201 " in answer(len(body), body).split(b"\r\n")[0]
assert b" 400 " in answer(len(body) - 1, body).split(b"\r\n")[0]  # what is behind it is no part of the request
assert b" 400 " in answer("1x", body).split(b"\r\n")[0]
assert b" 400 " in answer("-1", body).split(b"\r\n")[0]
PY
}

@test "a request id goes from nginx into the reply, both logs and the audit log" {
    api POST "$documents" '{"title":"t"}' -H 'X-Request-Id: conventions-1'
    expect 401
    [ "$(header x-request-id)" = conventions-1 ]
    [ "$(field .request_id)" = conventions-1 ]
    until_true 10 grep -q ' conventions-1 ' "$instance/logs/quire_access.log"
    until_true 10 grep -q '"conventions-1"' "$instance/logs/quired.log"
}
