#!/usr/bin/env bats
# examples.bats - the examples of data/openapi.json, with which /docs fills its forms in: each is sent to a server as it stands, and none is refused.

# shellcheck disable=SC2154 # common.bash sets root, instance, code, body
bats_require_minimum_version 1.5.0
load common

teardown() { remove_instance; }

description=$root/data/openapi.json

# Each operation with a body, its method and path.
operations() {
    jq -r '.paths | to_entries[] | .key as $path | .value | to_entries[] | select(.value.requestBody?) | "\(.value.operationId) \(.key | ascii_upcase) \($path)"' "$description"
}

# as_admin METHOD PATH BODY [curl arguments...]
as_admin() {
    local method=$1 path=$2 data=$3
    shift 3
    api "$method" "$path" "$data" -H "Authorization: Bearer $admin" "$@"
}

# send OPERATION LIBRARY [EXAMPLE]: sends its example, as JSON or, where that is a string, as it is.
send() {
    local operation=$1 library=$2 name=${3-} method path content type example
    read -r method path < <(operations | sed -n "s/^$operation //p")
    path=${path//\{id\}/$library} path=${path//\{doc\}/bread} path=${path//\{name\}/$snapshot}
    content=$(jq -c --arg op "$operation" 'first(.paths[][] | objects | select(.operationId == $op)).requestBody.content' "$description")
    type=$(jq -r 'keys[0]' <<<"$content")
    example=$(jq -c --arg name "$name" '.[] | if $name == "" then .example else .examples[$name].value end' <<<"$content")
    [ "$example" != null ] || {
        echo "$operation has no example" >&2
        return 1
    }
    case $operation in
    searchLibraries) example=$(jq -c --arg id "$library" '.libraries = [$id]' <<<"$example") ;; # ids are the server's to choose
    streamDocuments) example=$(jq -r . <<<"$example") ;;
    esac
    as_admin "$method" "$path" '' -H "Content-Type: $type" --data-binary "$example"
    echo "$operation" >>"$BATS_TEST_TMPDIR/sent"
    [[ $code = 2?? ]] || {
        echo "$operation: $code $body" >&2
        return 1
    }
}

task_ended() {
    as_admin GET "/v1/tasks/$1" ''
    [[ $(field .state) != pending && $(field .state) != running ]]
}

# settled: the task of the last reply has ended well.
settled() {
    until_true 20 task_ended "$(field .id)"
    [ "$(field .state)" = succeeded ] || {
        echo "task: $body" >&2
        return 1
    }
}

@test "every body of the description has an example, and the server takes it" {
    start_instance --set workers=2 --set auth=on
    admin=$(cat "$instance/admin_key")
    local snapshot='' notes vectors operation
    send createLibrary - notes
    notes=$(field .id)
    send createLibrary - vectors
    vectors=$(field .id)
    for operation in patchLibrary createDocument putDocument patchDocument createDocuments streamDocuments search searchFiltered searchBatch searchLibraries createEmbeddings deleteDocuments deleteDocumentsAnywhere; do
        send "$operation" "$notes"
    done
    for operation in createDocumentWithEmbeddings createDocumentsWithEmbeddings searchByEmbedding getChunks deleteChunks; do send "$operation" "$vectors"; done
    for operation in rebuildIndex optimizeIndex reembed; do
        send "$operation" "$notes"
        settled
    done
    send rollBackReembedding "$notes"
    send takeSnapshot -
    settled
    as_admin GET /v1/snapshots ''
    snapshot=$(field '.[0].name')
    send verifySnapshot -
    send createKey -
    diff <(sort -u "$BATS_TEST_TMPDIR/sent") <(operations | cut -d' ' -f1 | sort)
}
