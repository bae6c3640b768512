#!/usr/bin/env bats
# The life of an exchange of a library's model, through HTTP and the command: it goes on over a kill, what is written meanwhile is on both sides, and the way back.

bats_require_minimum_version 1.5.0
load common

setup() { start_instance --set workers=2 "$@"; }
teardown() { remove_instance; }

quire() { QUIRE_URL=$url QUIRE_CACERT=$instance/tls/cert.pem "${QUIRE_BUILD_DIR:-$root/.build}/src/quire" "$@"; }

put() {
    api PUT "/v1/libraries/$library/documents/$1" "{\"title\":\"$1\",\"texts\":[\"$2 stands here\",\"and $2 again\"]}"
    [ "$code" = 200 ] || expect 201
}

put_many() {
    local documents
    documents=$(jq -cn --arg word "$1" --argjson count "$2" '{documents:[range($count)|{id:"\($word)-\(.)",title:"\($word)",texts:["\($word) number \(.) of many","it is \($word) \(.)"]}]}')
    api POST "/v1/libraries/$library/documents/batch" "$documents"
    expect 200
    [ "$(field .failed)" = 0 ]
}

show() { api GET "/v1/libraries/$library" && expect 200; }
model() { show && field .metadata.embedding_model; }
exchange() { show && field '.metadata.exchange.state // "none"'; }
task_over() { api GET "/v1/tasks/$task" && [ "$(field .state)" = succeeded ]; }
is_complete() { show && [ "$(field .metadata.embedding.state)" = complete ]; }

# found WORD: the nearest chunk has it, by vectors alone, and the answer is by that model.
found() {
    api POST "/v1/libraries/$library/search" "{\"query\":\"$1\",\"mode\":\"dense\",\"k\":3}"
    expect 200
    [ "$(field .index.coverage)" = 1 ] || return 1
    field '.results[0].chunk.text' | grep -q "$1"
}

arenas() { find "$instance/data/vectors" -mindepth 1 -maxdepth 1 -name "$library*" | wc -l; }
one_arena() { [ "$(arenas)" = 1 ]; }

reembed() {
    api POST "/v1/libraries/$library/reembed" "$1"
    expect 202
    [ "$(field .kind)" = reembed ]
    task=$(field .id)
}

@test "reembed: another model while it serves, the one before back, and both have everything" {
    make_library '"index_type":"hnsw","embedding_model":"hash-384"'
    put_many kettle 60
    put one heron
    reembed '{"embedding_model":"static-en"}'
    until_true 30 task_over
    [ "$(field '.overlap_queries > 20')" = true ]
    [ "$(field '.overlap_at_10 >= 0 and .overlap_at_10 <= 1')" = true ]
    [ "$(field '.done == .total')" = true ]
    [ "$(model)" = static-en ]
    show
    [ "$(field .metadata.embedding_dimension)" = 256 ]
    [ "$(field .metadata.exchange.state)" = kept ]
    [ "$(field .metadata.exchange.embedding_model)" = hash-384 ]
    [ "$(field .metadata.exchange.task_id)" = "$task" ]
    until_true 10 found heron
    api POST "/v1/libraries/$library/search/embedding" "$(jq -cn '{embedding:[range(384)|1],k:1}')"
    expect 400
    field .detail | grep -q 256
    put two lantern
    put one bicycle
    api POST "/v1/libraries/$library/index/optimize"
    expect 409
    api POST "/v1/libraries/$library/reembed" '{"embedding_model":"hash-384"}'
    expect 409
    api POST "/v1/libraries/$library/reembed/rollback"
    expect 202
    task=$(field .id)
    until_true 30 task_over
    [ "$(model)" = hash-384 ]
    [ "$(exchange)" = none ]
    until_true 10 found lantern
    found bicycle
    found kettle
    show
    [ "$(field .num_chunks)" = 124 ]
    api GET /metrics
    grep -q '^quire_model_exchanges_total 1$' <<<"$body"
    grep -q '^quire_model_exchanges_returned_total 1$' <<<"$body"
    put two lantern
    until_true 30 one_arena
}

@test "reembed: it goes on after a kill, a kept one comes back after a start, and the log alone says the same" {
    make_library '"index_type":"hnsw","embedding_model":"hash-384"'
    put_many kettle 200
    put one heron
    reembed '{"embedding_model":"static-en"}'
    kill -KILL "$(supervisor)"
    start_instance --set workers=2
    has_it() { [ "$(model)" = static-en ]; } # a task that was over before is forgotten
    until_true 60 has_it
    put two lantern
    kill -KILL "$(supervisor)"
    start_instance --set workers=2
    [ "$(model)" = static-en ]
    [ "$(exchange)" = kept ]
    until_true 30 is_complete
    found lantern
    stop_instance
    rm -rf "$instance/data/vectors"
    start_instance --set workers=2
    [ "$(exchange)" = kept ]
    until_true 30 is_complete
    found heron
    api POST "/v1/libraries/$library/reembed/rollback"
    expect 202
    task=$(field .id)
    until_true 60 task_over
    [ "$(model)" = hash-384 ]
    until_true 10 found lantern
    found heron
    stop_instance
    quire check "$instance/data"
}

@test "reembed: what is refused, cancelled, dropped, and whose time is over" {
    make_library '"index_type":"flat","embedding_model":"static-en"'
    put one heron
    api POST "/v1/libraries/$library/reembed" '{"embedding_model":"nobody"}'
    expect 422
    api POST "/v1/libraries/$library/reembed" '{"embedding_model":"none"}'
    expect 422
    api POST "/v1/libraries/$library/reembed/rollback"
    expect 409
    api DELETE "/v1/libraries/$library/reembed"
    expect 409
    reembed '{}'
    until_true 30 task_over
    [ "$(field .overlap_at_10)" = 1 ]
    [ "$(exchange)" = kept ]
    api DELETE "/v1/libraries/$library/reembed"
    expect 204
    [ "$(exchange)" = none ]
    found heron
    run -0 quire reembed "$library" --model hash-384 --wait
    [ "$(model)" = hash-384 ]
    run -0 quire reembed "$library" --rollback --wait
    [ "$(model)" = static-en ]
    run -0 quire reembed "$library" --model hash-384 --wait
    stop_instance
    start_instance --set workers=2 --set reembed_keep_seconds=0
    is_over() { [ "$(exchange)" = none ]; }
    until_true 10 is_over
    [ "$(model)" = hash-384 ]
    api DELETE "/v1/libraries/$library"
    expect 204
    no_arena() { [ "$(arenas)" = 0 ]; }
    until_true 10 no_arena
}

# with_provider CASE: of tests/lib/providers.py, which has a server of its own.
with_provider() {
    QUIRE_BUILD_DIR=${QUIRE_BUILD_DIR:-$root/.build} run python3 -B "$root/tests/lib/providers.py" "$1"
    printf '%s\n' "$output"
    [ "$status" = 0 ]
}

@test "reembed: to a provider's model: paused while it is away, each text once, and the way back" { with_provider exchange_to; }
@test "reembed: from a provider's model and back: what was written meanwhile is asked for then" { with_provider exchange_from; }
@test "reembed: killed on the way from one provider to another, it asks for nothing again that was answered" { with_provider exchange_killed; }
@test "reembed: cancelled, refused, and a provider that changes its model on the way" { with_provider exchange_given_up; }
