#!/usr/bin/env bats
# Searches through nginx and the workers: modes, filters, hybrid, explanations, batches, and while documents change.

bats_require_minimum_version 1.5.0
load common

teardown() { remove_instance; }

# Three documents, six chunks.
fill() {
    make_library
    api POST "/v1/libraries/$library/documents" '{"id": "animals", "title": "Animals", "author": "Ann", "tags": ["wild", "book"],
        "texts": ["the red fox runs through the forest", "a blue whale swims in the ocean", "the hedgehog sleeps under leaves"],
        "chunk_ids": ["fox", "whale", "hedgehog"], "metadata": {"year": 1999}, "chunk_metadata": [{"page_number": 3}, {}, {"legs": 4}]}'
    expect 201
    api POST "/v1/libraries/$library/documents" '{"id": "machines", "title": "Machines", "author": "Bob", "tags": ["book"],
        "texts": ["a compiler translates programs", "the database stores many large vectors of a fox"],
        "chunk_ids": ["compiler", "database"], "metadata": {"year": 2020}}'
    expect 201
    api POST "/v1/libraries/$library/documents" '{"id": "weather", "title": "Weather", "texts": ["it rains"], "chunk_ids": ["rain"]}'
    expect 201
}

# hits BODY [CALL]: the ids of the chunks found.
hits() {
    api POST "/v1/libraries/$library/${2:-search}" "$1" && expect 200 && field '[.results[].chunk.id] | join(" ")'
}

@test "words, vectors and both" {
    start_instance --set workers=2
    fill
    [ "$(hits '{"query": "Foxes", "mode": "lexical"}')" = "fox database" ]
    api POST "/v1/libraries/$library/search" '{"query": "foxes", "mode": "lexical"}'
    [ "$(field '.index.mode, .results[0].distance' | paste -sd' ')" = "lexical null" ]
    api POST "/v1/libraries/$library/search" '{"query": "the red fox runs through the forest", "mode": "dense", "k": 2}'
    [ "$(field '.results[0].chunk.id, (.results[0].distance < 0.001), .index.mode' | paste -sd' ')" = "fox true dense" ]
    api POST "/v1/libraries/$library/search" '{"query": "a whale swims"}'
    [ "$(field '.index.mode, .results[0].chunk.id, .total_results' | paste -sd' ')" = "hybrid whale 6" ]
    api POST "/v1/libraries/$library/search" '{"query": "of the"}'
    [ "$(field .index.mode)" = dense ]
    [ "$(hits '{"query": "hedge", "mode": "lexical", "prefix": true}')" = hedgehog ]
    [ "$(hits '{"query": "fox whale rains", "mode": "lexical", "group_by": "document", "k": 10}' | wc -w)" = 3 ]
    [ "$(hits '{"query": "fox", "mode": "lexical", "bm25": {"k1": 0}}')" = "database fox" ]
    [ "$(hits '{"query": "fox", "k": 3, "mmr": {"lambda": 0.3}}' | wc -w)" = 3 ]
    api POST "/v1/libraries/$library/search" '{"embedding": [1], "mode": "lexical"}'
    expect 422 ValidationError
    [ "$(field '.errors[0].pointer')" = /query ]
}

@test "each language has its own words" {
    start_instance --set workers=2
    make_library '"language": "de"'
    api GET "/v1/libraries/$library" && [ "$(field .metadata.language)" = german ]
    api POST "/v1/libraries/$library/documents" '{"title": "t", "texts": ["Die Katzen schlafen."], "chunk_ids": ["a"]}' && expect 201
    [ "$(hits '{"query": "katze", "mode": "lexical"}')" = a ]
    [ "$(hits '{"query": "die", "mode": "lexical"}')" = "" ]
    make_library '"language": "none"'
    api POST "/v1/libraries/$library/documents" '{"title": "t", "texts": ["The cats sleep."], "chunk_ids": ["a"]}' && expect 201
    [ "$(hits '{"query": "cat", "mode": "lexical"}')" = "" ]
    [ "$(hits '{"query": "THE", "mode": "lexical"}')" = a ]
    api POST /v1/libraries '{"name": "x", "language": "klingon"}'
    expect 422 ValidationError
    [[ $(field '.errors[0].detail') == *german* ]]
}

@test "filters" {
    start_instance --set workers=2
    fill
    [ "$(hits '{"query": "fox", "mode": "lexical", "filter": {"field": "author", "operator": "eq", "value": "Bob"}}')" = database ]
    for mode in dense hybrid; do
        [ "$(hits '{"query": "fox", "mode": "'$mode'", "filter": {"field": "year", "operator": "lt", "value": 2000}}' | wc -w)" = 3 ]
        [ "$(hits '{"query": "fox", "mode": "'$mode'", "filter": {"or": [{"field": "legs", "operator": "eq", "value": 4},
            {"not": {"field": "year", "operator": "gt", "value": 0}}]}}' | tr ' ' '\n' | sort | paste -sd' ')" = "hedgehog rain" ]
    done
    [ "$(hits '{"query": "fox", "metadata_filters": [{"field": "tags", "operator": "contains", "value": "wild"},
        {"field": "page_number", "operator": "in", "value": [3]}]}' search/filtered)" = fox ]
    api POST "/v1/libraries/$library/search" '{"query": "a", "filter": {"and": [{"field": "a", "operator": "~", "value": 1}]}}'
    expect 422 ValidationError
    [ "$(field '.errors[0].pointer')" = /filter/and/0/operator ]
    deep=$(printf '{"not":%.0s' {1..40})
    api POST "/v1/libraries/$library/search" "{\"query\": \"a\", \"filter\": ${deep}{\"and\":[]}$(printf '}%.0s' {1..40})}"
    expect 400 MalformedRequestError
    deep=$(printf '{"not":%.0s' {1..20})
    api POST "/v1/libraries/$library/search" "{\"query\": \"a\", \"filter\": ${deep}{\"and\":[]}$(printf '}%.0s' {1..20})}"
    expect 422 ValidationError
}

@test "explanations, batches, several libraries" {
    start_instance --set workers=2
    fill
    first=$library
    api POST "/v1/libraries/$library/search" '{"query": "red fox", "explain": true}'
    [ "$(field '.results[0] | [.chunk.id, .explain.dense.rank, .explain.lexical.rank, .explain.fused.method] | join(" ")')" = "fox 1 1 weighted" ]
    [ "$(field '.results[0] | .explain.fused.score == .score and .explain.dense.distance == .distance')" = true ]
    api POST "/v1/libraries/$library/search" '{"query": "red fox", "explain": true, "fusion": {"constant": 10}}'
    [ "$(field '.results[0].explain.fused.method')" = rrf ]
    api POST "/v1/libraries/$library/search/batch" '{"searches": [{"query": "fox", "mode": "lexical", "k": 1}, {"query": "whale"},
        {"query": "rains", "mode": "dense", "k": 1}]}'
    expect 200
    [ "$(field '[.results[] | .results[0].chunk.id, .index.mode] | join(" ")')" = "fox lexical whale hybrid rain dense" ]
    fill
    api POST /v1/search "{\"libraries\": [\"$first\", \"$library\"], \"query\": \"red fox\", \"k\": 4}"
    expect 200
    [ "$(field '[.results[:2][].chunk.id] | join(" ")')" = "fox fox" ]
    [ "$(field '[.results[].library_id] | unique | length')" = 2 ]
}

@test "what is written, replaced and deleted is found, or not, at once, by either side" {
    start_instance --set workers=2
    fill
    for i in 1 2 3 4 5 6 7 8; do
        api PUT "/v1/libraries/$library/documents/news" "{\"title\": \"News $i\", \"texts\": [\"edition$i of the paper\"], \"metadata\": {\"n\": $i}}"
        [ "$code" = 200 ] || [ "$code" = 201 ]
        api POST "/v1/libraries/$library/search" "{\"query\": \"edition$i\", \"k\": 1}"
        [ "$(field '.results[0].document_title')" = "News $i" ]
        [ "$(hits "{\"query\": \"edition$((i - 1))\", \"mode\": \"lexical\"}")" = "" ]
        [ "$(hits "{\"query\": \"paper\", \"filter\": {\"field\": \"n\", \"operator\": \"eq\", \"value\": $i}}" | wc -w)" = 1 ]
    done
    api DELETE "/v1/libraries/$library/documents/news" && expect 204
    [ "$(hits '{"query": "paper", "mode": "lexical"}')" = "" ]
    stop_instance
    start_instance --set workers=2
    [ "$(hits '{"query": "foxes", "mode": "lexical"}')" = "fox database" ]
    [ "$(hits '{"query": "fox", "filter": {"field": "author", "operator": "eq", "value": "Bob"}}' | wc -w)" = 2 ]
}

@test "quire search: modes, filters, explanations" {
    start_instance --set workers=2
    # shellcheck source=/dev/null
    . "$instance/env"
    fill
    run quire search test foxes --mode lexical
    [ "$status" = 0 ]
    [[ $output == *"Animals"*"lexical"* ]]
    [[ $output != *distance* ]]
    run quire search test red fox -k 1 --explain
    [[ $output == *"dense rank 1"*"lexical rank 1"*"hybrid"* ]]
    [ "$(quire search test fox --json --filter '{"field": "author", "operator": "eq", "value": "Bob"}' | jq .total_results)" = 2 ]
    [ "$(quire search test fox whale --json --group --exact | jq .total_results)" = 3 ]
    run quire search test fox --filter '{nonsense'
    [ "$status" = 64 ]
    run quire search test fox --mode guess
    [ "$status" != 0 ]
    [[ $output == *"dense, lexical or hybrid"* ]]
    quire library create notizen --language de
    quire library show notizen | grep -q 'language     german'
}

@test "the preset model: meanings, texts of nothing that it knows, the same bits everywhere" {
    start_instance --set workers=3
    api GET /v1/models && expect 200
    [ "$(field '[.[] | select(.default)] | map("\(.name) \(.dimension)") | join(",")')" = "static-en 256" ]
    [ "$(field '[.[].name] | sort | join(" ")')" = "hash-384 static-en" ]
    make_library
    api GET "/v1/libraries/$library" && [ "$(field .metadata.embedding_model)" = static-en ]
    api POST "/v1/libraries/$library/documents" '{"title": "t", "texts": ["Put a few drops of oil on each link of the chain.", "Yeast eats sugar and breathes out gas.",
        "ሰላም ዓለም", "Whoever faces Polaris looks north."], "chunk_ids": ["chain", "yeast", "beads", "star"]}' && expect 201
    [ "$(hits '{"query": "oil for a squeaking bicycle", "mode": "dense", "k": 1}')" = chain ]
    [ "$(hits '{"query": "how does bread rise", "mode": "dense", "k": 1}')" = yeast ]
    # What the model does not know is near to nothing: words find it, and no dense search. It waits for no vector, either.
    [ "$(hits '{"query": "bread dough", "mode": "dense", "k": 4, "exact": true}' | tr ' ' '\n' | sort | tr '\n' ' ')" = "chain star yeast " ]
    [ "$(hits '{"query": "ሰላም", "mode": "lexical"}')" = beads ]
    [ "$(hits '{"query": "ሰላም"}')" = beads ]
    api POST "/v1/libraries/$library/search" '{"query": "oil ሰላም", "k": 4}'
    [ "$(field '[.results[] | select(.chunk.id == "beads").distance] | tojson')" = "[null]" ]
    [ "$(field .index.coverage)" = 1 ]
    [ "$(hits '{"query": "ሰላም", "mode": "dense"}' | wc -w)" = 3 ]
    api POST "/v1/libraries/$library/search" '{"query": "ሰላም", "mode": "dense"}'
    [ "$(field '[.results[].distance] | unique | join(" ")')" = 1 ]
    local first i
    for i in $(seq 20); do
        api POST /v1/embeddings '{"model": "static-en", "input": ["The same text, the same bits.", "ሰላም"], "encoding_format": "base64"}' && expect 200
        first=${first:-$(field '.data | tojson')}
        [ "$(field '.data | tojson')" = "$first" ]
    done
}
