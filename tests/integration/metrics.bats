#!/usr/bin/env bats
# /metrics as Prometheus sees it: what is shown is linted, complete, and what the manual says.

bats_require_minimum_version 1.5.0
load common
# shellcheck source=scripts/lib.sh
. "$BATS_TEST_DIRNAME/../../scripts/lib.sh"

setup_file() {
    promtool=$(need_promtool)
    export promtool
}
teardown() { remove_instance; }

# metrics: into $metrics.
metrics() {
    api GET /metrics && expect 200
    metrics=$BATS_TEST_TMPDIR/metrics
    printf '%s\n' "$body" >"$metrics"
}

# value SERIES: what stands behind it.
value() { awk -v series="$1" '{at = index($0, "} ") > 0 ? index($0, "} ") + 1 : index($0, " ")} substr($0, 1, at - 1) == series {print substr($0, at + 1)}' "$metrics"; }

@test "promtool has nothing to say against what a server shows that has been used" {
    start_instance --set workers=2
    make_library
    api POST "/v1/libraries/$library/documents" '{"title":"Three","texts":["one","two","three"]}'
    expect 201
    api POST "/v1/libraries/$library/search" '{"query":"two"}'
    expect 200
    api GET /nothing/here
    expect 404
    metrics
    run "$promtool" check metrics <"$metrics"
    [ "$status" = 0 ]
    [ -z "$output" ]
    [ "$(value 'quire_http_requests_total{method="POST",route="/v1/libraries/{id}/search",status="200"}')" = 1 ]
    [ "$(value 'quire_http_requests_total{method="none",route="none",status="404"}')" = 1 ]
    [ "$(value 'quire_searches_total{mode="hybrid"}')" = 1 ]
    [ "$(value 'quire_http_request_seconds_count{class="search"}')" = 1 ]
}

@test "docs/metrics.md is what the table in the code says, and all of it is shown" {
    diff "$root/docs/metrics.md" <("$root/scripts/doc-tables" metrics)
    start_instance --set workers=2 --set model.far.url=http://127.0.0.1:1/v1 --set model.far.dialect=openai --set model.far.model=m
    metrics
    diff <(sed -nE 's/^\| `([a-z_]+)` \| [a-z]+ \|.*/\1/p' "$root/docs/metrics.md" | sort) <(awk '/^# TYPE/ {print $3}' "$metrics" | sort)
}
