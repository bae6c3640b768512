#!/usr/bin/env bats
# What deleted chunks take is reclaimed while the library serves: asked for, by itself, and not beside a rebuild.

bats_require_minimum_version 1.5.0
load common

setup() { start_instance --set workers=2 --set optimize_dead_least=50; }
teardown() { remove_instance; }

# put DOCUMENT WORD COUNT: so many chunks
put() {
    local texts
    texts=$(jq -cn --arg word "$2" --argjson count "$3" '[range($count) | "\($word) number \(.) stands here"]')
    api PUT "/v1/libraries/$library/documents/$1" "{\"title\":\"$1\",\"texts\":$texts}"
    [ "$code" = 200 ] || expect 201
}

statistics() { api GET "/v1/libraries/$library/statistics" && expect 200; }
nothing_deleted() { statistics && [ "$(field .vector_store_stats.deleted)" = 0 ]; }
task_over() { api GET "/v1/tasks/$task" && [ "$(field .state)" = succeeded ]; }

one_arena_left() {
    put e kettle 1
    [ "$(find "$instance/data/vectors" -mindepth 1 -maxdepth 1 -name "$library*" | wc -l)" = 1 ]
}

hits() {
    api POST "/v1/libraries/$library/search" "{\"query\":\"$1\",\"mode\":\"lexical\",\"k\":50}"
    expect 200
    field '.results | length'
}

@test "optimize: slots are reclaimed, what lives is found, a restart takes it as it is" {
    make_library '"index_type":"hnsw"'
    put one heron 30
    put two bicycle 30
    put two kettle 20
    statistics
    [ "$(field .vector_store_stats.deleted)" = 30 ]
    api POST "/v1/libraries/$library/index/optimize"
    expect 202
    [ "$(field .kind)" = optimize ]
    task=$(field .id)
    until_true 30 task_over
    statistics
    [ "$(field .vector_store_stats.deleted)" = 0 ]
    [ "$(field .num_chunks)" = 50 ]
    [ "$(hits bicycle)" = 0 ]
    [ "$(hits kettle)" = 20 ]
    [ "$(hits heron)" = 30 ]
    ls -d "$instance/data/vectors/$library.1"
    [ ! -e "$instance/data/vectors/$library" ]
    put three lantern 10
    stop_instance
    start_instance --set workers=2 --set optimize_dead_least=50
    [ "$(hits kettle)" = 20 ]
    [ "$(hits lantern)" = 10 ]
    kill -KILL "$(supervisor)"
    start_instance --set workers=2 --set optimize_dead_least=50
    [ "$(hits heron)" = 30 ]
    [ "$(hits bicycle)" = 0 ]
}

@test "optimize: nothing to do is no error, a library that is not there is one" {
    make_library '"index_type":"flat"'
    put one heron 5
    api POST "/v1/libraries/$library/index/optimize"
    expect 202
    task=$(field .id)
    until_true 30 task_over
    api POST "/v1/libraries/01890000-0000-7000-8000-000000000000/index/optimize"
    expect 404 LibraryNotFoundError
}

@test "optimize: begins by itself past the share of deleted chunks" {
    make_library '"index_type":"hnsw"'
    put one heron 60
    put two bicycle 60
    put one kettle 60
    until_true 30 nothing_deleted
    api GET /v1/tasks
    [ "$(field '[.[] | select(.kind == "optimize")] | length')" = 1 ]
    [ "$(hits heron)" = 0 ]
    [ "$(hits kettle)" = 50 ]
}

@test "optimize: a kill at any moment costs nothing" {
    local round document
    make_library '"index_type":"hnsw"'
    for round in 1 2 3; do
        for document in a b c d; do put "$document" "heron$round" 150; done
        api POST "/v1/libraries/$library/index/optimize"
        expect 202
        # A little later each time: while it copies, links, or is over.
        sleep "0.0$((round * 3 - 2))"
        kill -KILL "$(supervisor)"
        start_instance --set workers=2 --set optimize_dead_least=50
        statistics
        [ "$(field .num_documents)" = 4 ]
        [ "$(field .num_chunks)" = 600 ]
        [ "$(hits "heron$round")" = 50 ]
    done
    # What was replaced stays while one of the two newest checkpoints names it: some writes later it is gone.
    stop_instance
    start_instance --set workers=2 --set optimize_dead_least=50 --set checkpoint_interval=1
    until_true 30 one_arena_left
}
