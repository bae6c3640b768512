#!/usr/bin/env bats
# Libraries of remote models, with a provider that does as it is told and a real server (tests/lib/providers.py has the tests).

bats_require_minimum_version 1.5.0

root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)

one() {
    QUIRE_BUILD_DIR=${QUIRE_BUILD_DIR:-$root/.build} run python3 -B "$root/tests/lib/providers.py" "$1"
    printf '%s\n' "$output"
    [ "$status" = 0 ]
}

@test "providers: written while it is away, found by words at once, by meaning when it comes; no start asks again" { one pending; }
@test "providers: reject: 503 and nothing stored, or text and vector at once" { one reject; }
@test "providers: a worker with many writes in hand may have many vectors waiting for it" { one desk; }
@test "providers: a query does not wait for the writes that wait" { one query_first; }
@test "providers: a long write does not wait for short ones that wait for vectors" { one beside; }
@test "providers: another model is noticed, and nothing is mixed" { one changed; }
@test "providers: the same query is asked for once" { one cache; }
@test "providers: a reload ends a pause" { one reload; }
@test "providers: queries of one call after the other do not get mixed up" { one batch; }
@test "providers: the key is seen nowhere" { one secrets; }
@test "providers: the process may die, hang and be stopped" { one process; }
