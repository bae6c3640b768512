#!/usr/bin/env bats
# keys.bats - API keys through nginx and TLS: made, used, limited, revoked; over kills, stops and restores.
bats_require_minimum_version 1.5.0
load common

setup_file() {
    load common
    instance=$(mktemp -d "${TMPDIR:-/tmp}/quire-test.XXXXXX")
    start_instance --set workers=4 --set auth=on --set snapshot_interval=0 --set "audit_log=$instance/logs/audit.log"
    admin=$(cat "$instance/admin_key")
    export admin
}
teardown_file() {
    load common
    remove_instance
}

# as KEY METHOD PATH [BODY] [curl arguments...]
as() {
    local key=$1 method=$2 path=$3 data=${4-}
    shift 3
    [ $# -gt 0 ] && shift
    api "$method" "$path" "$data" -H "Authorization: Bearer $key" "$@"
}

# make_key JSON members: sets secret and id.
make_key() {
    as "$admin" POST /v1/keys "{\"name\":\"test\",$1}"
    expect 201
    secret=$(field .secret)
    id=$(field .id)
}

new_library() {
    as "$admin" POST /v1/libraries '{"name":"test"}'
    expect 201
    library=$(field .id)
}

@test "a key is shown once, and has its form" {
    make_key '"scopes":["read"]'
    [[ $secret =~ ^qk_[0-9A-Za-z]{36}$ ]]
    grep -qi '^cache-control: no-store' "$headers"
    as "$admin" GET /v1/keys
    expect 200
    [ "$(field ".[] | select(.id == \"$id\") | has(\"secret\")")" = false ]
    as "$secret" GET /v1/libraries
    expect 200
    run ! grep -rqs "$secret" "$instance/data" "$instance/logs"
}

@test "scopes: read, write and admin" {
    new_library
    make_key '"scopes":["read"]'
    as "$secret" POST "/v1/libraries/$library/documents" '{"title":"t","text":"x"}'
    expect 403 PermissionDeniedError
    as "$secret" GET /v1/keys
    expect 403 PermissionDeniedError
    as "$secret" POST "/v1/libraries/$library/search" '{"query":"x"}'
    expect 200
    make_key '"scopes":["write"]'
    as "$secret" POST "/v1/libraries/$library/documents" '{"title":"t","text":"x"}'
    expect 201
    as "$secret" GET "/v1/libraries/$library"
    expect 403 PermissionDeniedError
    as "$secret" DELETE "/v1/libraries/$library"
    expect 403 PermissionDeniedError
}

@test "a key for one library: the other does not exist for it" {
    new_library
    local one=$library
    new_library
    make_key "\"scopes\":[\"read\",\"write\"],\"libraries\":[\"$one\"]"
    as "$secret" GET "/v1/libraries/$one"
    expect 200
    as "$secret" GET /v1/libraries
    [ "$(field 'map(.id) | join(" ")')" = "$one" ]
    as "$secret" GET "/v1/libraries/$library"
    expect 404 LibraryNotFoundError
    local hidden=$body
    as "$secret" GET /v1/libraries/00000000-0000-7000-8000-000000000000
    [ "$(jq -S 'del(.request_id)' <<<"$hidden")" = "$(jq -S 'del(.request_id)' <<<"$body")" ]
    as "$secret" POST "/v1/libraries/$library/documents" '{"title":"t","text":"x"}'
    expect 404 LibraryNotFoundError
    as "$secret" POST /v1/search "{\"libraries\":[\"$one\",\"$library\"],\"query\":\"x\"}"
    expect 404 LibraryNotFoundError
    as "$secret" POST /v1/libraries '{"name":"mine"}'
    expect 403 PermissionDeniedError
}

@test "a revoked key opens nothing any more, in no worker" {
    make_key '"scopes":["read"]'
    for _ in 1 2 3 4 5 6 7 8; do
        as "$secret" GET /v1/libraries
        expect 200
    done
    as "$admin" DELETE "/v1/keys/$id"
    expect 204
    for _ in $(seq 1 24); do
        as "$secret" GET /v1/libraries
        expect 401 AuthenticationError
    done
    as "$admin" DELETE "/v1/keys/$id"
    expect 404 KeyNotFoundError
}

@test "an expired key is as none" {
    make_key "\"scopes\":[\"read\"],\"expires_at\":\"$(date -u -d '+2 seconds' +%Y-%m-%dT%H:%M:%SZ)\""
    closed() {
        as "$secret" GET /v1/libraries
        [ "$code" = 401 ]
    }
    until_true 10 closed
    local expired=$body
    as qk_wrong GET /v1/libraries
    [ "$(jq -S 'del(.request_id)' <<<"$expired")" = "$(jq -S 'del(.request_id)' <<<"$body")" ]
}

@test "keys and their removal are there after a kill and after a stop" {
    make_key '"scopes":["read"]'
    local kept=$secret
    make_key '"scopes":["read"]'
    as "$admin" DELETE "/v1/keys/$id"
    expect 204
    for how in KILL TERM; do
        kill "-$how" "$(supervisor)"
        gone() { [ -z "$(processes_of "$instance")" ]; }
        until_true 20 gone
        start_instance
        as "$kept" GET /v1/libraries
        expect 200
        as "$secret" GET /v1/libraries
        expect 401 AuthenticationError
    done
    as "$admin" GET /v1/keys
    [ "$(field 'map(.last_used_at != null) | any')" = true ]
}

# line FILTER: the last line of the audit log for which this jq filter holds, once it is there.
line() {
    found() { [ -n "$(jq -c "select($1)" "$instance/logs/audit.log" 2>/dev/null)" ]; }
    until_true 10 found "$1"
    jq -c "select($1)" "$instance/logs/audit.log" | tail -n 1
}

@test "audit: who, what, which library, outcome, request id, from where" {
    new_library
    as "$admin" POST /v1/keys '{"name":"na\"me \\\\ é","scopes":["write"]}'
    expect 201
    secret=$(field .secret)
    id=$(field .id)
    as "$secret" POST "/v1/libraries/$library/documents" '{"title":"t","text":"x"}' -H 'X-Request-Id: audited-1'
    expect 201
    line '.request_id == "audited-1"' | jq -e "(.key_id == \"$id\") and (.key_name == \"na\\\"me \\\\\\\\ é\") and (.method == \"POST\") and
        (.route == \"POST /v1/libraries/{id}/documents\") and (.library == \"$library\") and (.status == 201) and (.error_type == null) and
        (.remote == \"127.0.0.1\") and (.time | length > 20)"
    as "$secret" GET "/v1/libraries/$library" '' -H 'X-Request-Id: audited-2'
    line '.request_id == "audited-2"' | jq -e "(.status == 403) and (.error_type == \"PermissionDeniedError\") and (.key_id == \"$id\") and
        (.library == \"$library\") and (.about_key == null)"
    as qk_wrong GET "/v1/libraries/$library" '' -H 'X-Request-Id: audited-3'
    line '.request_id == "audited-3"' | jq -e '(.status == 401) and (.key_id == null) and (.key_name == null)'
    as "$admin" GET /v1/keys '' -H 'X-Request-Id: audited-4'
    line '.request_id == "audited-4"' | jq -e '(.status == 200) and (.key_name == "admin_key_file")'
    as "$admin" GET /v1/libraries '' -H 'X-Request-Id: audited-5' # a read leaves none
    as "$admin" GET /v1/keys '' -H 'X-Request-Id: audited-6'
    line '.request_id == "audited-6"' >/dev/null
    run ! grep -q audited-5 "$instance/logs/audit.log"
    as "$admin" DELETE "/v1/keys/$id" '' -H 'X-Request-Id: audited-7'
    expect 204
    line '.request_id == "audited-7"' | jq -e "(.status == 204) and (.about_key == \"$id\") and (.library == null)"
}

@test "audit: what a request carries forges no line" {
    local before forged='%22%7D%0A%7B%22forged%22:1'
    as "$admin" POST /v1/libraries '{"name":"test"}' -H 'X-Request-Id: before-the-forgeries'
    library=$(field .id)
    line '.request_id == "before-the-forgeries"' >/dev/null
    before=$(wc -l <"$instance/logs/audit.log")
    as "$admin" DELETE "/v1/libraries/$forged"
    as "$admin" PUT "/v1/libraries/$library/documents/$forged" '{"title":"\n{\"forged\":1}","text":"x"}' -H 'X-Request-Id: {"forged":1}' \
        -H 'X-Forwarded-For: {"forged":1}' -H 'Quire-Remote-Addr: {"forged":1}' -H 'User-Agent: {"forged":1}'
    as '"}\n{"forged":1' POST "/v1/keys?$forged" '{}'
    as "$admin" POST /v1/keys '{"name":"last","scopes":["read"]}' -H 'X-Request-Id: after-the-forgeries'
    line '.request_id == "after-the-forgeries"' >/dev/null
    [ $(($(wc -l <"$instance/logs/audit.log") - before)) = 4 ]
    jq -e . "$instance/logs/audit.log" >/dev/null
    run ! grep -q forged "$instance/logs/audit.log"
}

@test "audit: refusals do not fill the disk, and changes are written all the same" {
    local before
    before=$(grep -c '"status":401' "$instance/logs/audit.log")
    seq 400 | sed "s|.*|url = \"$url/v1/libraries\"\noutput = /dev/null|" | curl -sS --cacert "$instance/tls/cert.pem" --parallel --parallel-max 4 -K -
    as "$admin" POST /v1/keys '{"name":"after the flood","scopes":["read"]}' -H 'X-Request-Id: after-the-flood'
    line '.request_id == "after-the-flood"' >/dev/null
    line '.refusals_not_written > 0' >/dev/null
    [ $(($(grep -c '"status":401' "$instance/logs/audit.log") - before)) -lt 390 ]
    as "$admin" GET /metrics
    [ "$(grep '^quire_audit_suppressed_total' <<<"$body" | cut -d' ' -f2)" -gt 0 ]
    [ "$(grep '^quire_audit_lost_total' <<<"$body" | cut -d' ' -f2)" = 0 ]
    [ "$(grep '^quire_auth_failures_total' <<<"$body" | cut -d' ' -f2)" -ge 400 ]
}

@test "quire key: the first one on the machine itself, the others through the interface" {
    local quire=${QUIRE_BUILD_DIR:-$root}/src/quire first
    export QUIRE_URL=$url QUIRE_CACERT=$instance/tls/cert.pem
    first=$("$quire" key create "on the machine" --scope admin --data "$instance/data" 2>/dev/null)
    [ ! -e "$instance/data/key.new" ]
    as "$first" GET /v1/keys
    expect 200
    secret=$(QUIRE_KEY=$first "$quire" key create "another" --scope read --scope write --expires 2099-01-01T00:00:00Z 2>/dev/null)
    as "$secret" GET /v1/libraries
    expect 200
    id=$(QUIRE_KEY=$first "$quire" key list | grep ' another$' | cut -d' ' -f1)
    QUIRE_KEY=$first "$quire" key revoke "$id"
    as "$secret" GET /v1/libraries
    expect 401 AuthenticationError
    # While it is stopped: taken at the next start.
    stop_instance
    secret=$("$quire" key create "stopped" --scope read --data "$instance/data" 2>/dev/null)
    [ -e "$instance/data/key.new" ]
    run ! "$quire" key create "second" --scope read --data "$instance/data"
    start_instance
    taken() { [ ! -e "$instance/data/key.new" ]; }
    until_true 10 taken
    as "$secret" GET /v1/libraries
    expect 200
    # One that others could have written is not taken.
    printf 'no key' >"$instance/data/key.new"
    until_true 10 taken
    grep -q 'is not taken' "$instance/logs/quired.log"
}

@test "a key on the machine: only where a server is, or is to be" {
    local quire=${QUIRE_BUILD_DIR:-$root}/src/quire
    run ! "$quire" key create "lost" --scope admin --data "$instance" # not the data directory, but the one around it
    [[ $output == *"is no data directory"* ]]
    [ ! -e "$instance/key.new" ]
    mkdir "$BATS_TEST_TMPDIR/fresh"
    run -0 "$quire" key create "first" --scope admin --data "$BATS_TEST_TMPDIR/fresh"
    [[ $output == *"is empty"* ]]
    [ -e "$BATS_TEST_TMPDIR/fresh/key.new" ]
}

@test "quired --init: the directory and its first key, once" {
    local quired=${QUIRE_BUILD_DIR:-$root}/src/quired first was=$instance
    local init=("$quired" --set "data_dir=$BATS_TEST_TMPDIR/new/data" --set "model_dir=$root/data/models" --init)
    run -73 "${init[@]}" # nor what is above it
    mkdir "$BATS_TEST_TMPDIR/new"
    first=$("${init[@]}" 2>/dev/null)
    [[ $first =~ ^qk_[0-9A-Za-z]{36}$ ]]
    [ "$(stat -c %a "$BATS_TEST_TMPDIR/new/data")" = 700 ]
    run ! grep -rqs "$first" "$BATS_TEST_TMPDIR/new/data"
    run -73 --separate-stderr "${init[@]}"
    [ -z "$output" ]
    [[ $stderr == *"has its first key already"* ]]
    instance=$BATS_TEST_TMPDIR/new
    start_instance --set workers=2 --set auth=on
    taken() { [ ! -e "$instance/data/key.new" ]; }
    until_true 20 taken
    as "$first" GET /v1/keys
    expect 200
    [ "$(field 'map(.name + " " + (.scopes | join(","))) | join(";")')" = "first admin" ]
    stop_instance
    run -73 --separate-stderr "${init[@]}"
    [[ $stderr == *"is not empty: nothing was changed"*"quire key create"* ]]
    run -73 --separate-stderr "${init[@]}" --set "data_dir=$BATS_TEST_TMPDIR/other" --set "admin_key_file=$instance/admin_key.sha256"
    [[ $stderr == *"admin_key_file names a key"* ]]
    [ ! -e "$BATS_TEST_TMPDIR/other" ]
    instance=$was
}

# A server of its own on what is restored: the key opens it where all was restored.
started_on_restored() {
    local was=$instance expected=200
    [ $# -gt 1 ] && expected=401
    instance=$(mktemp -d "${TMPDIR:-/tmp}/quire-test.XXXXXX")
    mkdir "$instance/data"
    "${QUIRE_BUILD_DIR:-$root}/src/quire" restore "$1" --into "$instance/data" "${@:2}" >/dev/null
    start_instance --set workers=2 --set auth=on
    as "$secret" GET /v1/libraries
    local got=$code
    remove_instance
    instance=$was
    [ "$got" = $expected ]
}

@test "a restore of the whole brings the keys along, one of a library does not" {
    make_key '"scopes":["read"]'
    new_library
    as "$admin" POST /v1/snapshots
    expect 202
    local task
    task=$(field .id)
    done_() {
        as "$admin" GET "/v1/tasks/$task"
        [ "$(field .state)" = succeeded ]
    }
    until_true 20 done_
    local archive
    archive=$(find "$instance/data/snapshots" -name 'snapshot_*' | sort | tail -n 1)
    tar -xOf "$archive" api_keys.jsonl | jq -e "select(.id == \"$id\") | .sha256 | length == 64" >/dev/null
    for what in "" "--library $library"; do
        # shellcheck disable=SC2086 # two words, or none
        started_on_restored "$archive" $what
    done
}
