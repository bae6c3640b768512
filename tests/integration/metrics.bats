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
teardown() {
    if [ -n "${prometheus:-}" ]; then
        kill "$prometheus" 2>/dev/null
        wait "$prometheus" || true
    fi
    remove_instance
}

# metrics: into $metrics.
metrics() {
    api GET /metrics && expect 200
    metrics=$BATS_TEST_TMPDIR/metrics
    printf '%s\n' "$body" >"$metrics"
}

# value SERIES: what stands behind it.
value() { awk -v series="$1" '{at = index($0, "} ") > 0 ? index($0, "} ") + 1 : index($0, " ")} substr($0, 1, at - 1) == series {print substr($0, at + 1)}' "$metrics"; }

@test "promtool has nothing to say against what a server shows that has been used" {
    start_instance --set workers=2 --set model.far.url=http://127.0.0.1:1/v1 --set model.far.model=m
    make_library
    api POST "/v1/libraries/$library/documents" '{"title":"Three","texts":["one","two","three"]}'
    expect 201
    api POST "/v1/libraries/$library/search" '{"query":"two"}'
    expect 200
    api GET /nothing/here
    expect 404
    metrics
    cp "$metrics" "$BATS_FILE_TMPDIR/metrics"
    run "$promtool" check metrics <"$metrics"
    [ "$status" = 0 ]
    [ -z "$output" ]
    [ "$(value 'quire_http_requests_total{method="POST",route="/v1/libraries/{id}/search",status="200"}')" = 1 ]
    [ "$(value 'quire_http_requests_total{method="none",route="none",status="404"}')" = 1 ]
    [ "$(value 'quire_searches_total{mode="hybrid"}')" = 1 ]
    [ "$(value 'quire_http_request_seconds_count{class="search"}')" = 1 ]
}

@test "docs/metrics.md is what the table in the code says, and the server above shows all of it" {
    diff "$root/docs/metrics.md" <("$root/scripts/doc-tables" metrics)
    diff <(sed -nE 's/^\| `([a-z_]+)` \| [a-z]+ \|.*/\1/p' "$root/docs/metrics.md" | sort) <(awk '/^# TYPE/ {print $3}' "$BATS_FILE_TMPDIR/metrics" | sort)
}

@test "no counter goes back when a worker is killed, and the next one goes on from there" {
    start_instance --set workers=1 --set auth=off
    make_library
    local before after i
    for i in 1 2 3 4 5; do api POST "/v1/libraries/$library/search" '{"query":"two"}' && expect 200; done
    metrics
    before=$(grep -E '(_total|_bucket|_count|_sum)(\{[^}]*\})? ' "$metrics" | grep -v '^#')
    kill -9 "$(workers)"
    until_true 10 answers
    metrics
    [ "$(value quire_worker_restarts_total)" = 1 ]
    after=$(grep -v '^#' "$metrics")
    awk '{at = index($0, "} ") > 0 ? index($0, "} ") + 1 : index($0, " "); name = substr($0, 1, at - 1); number = substr($0, at + 1) + 0}
        FNR == NR {was[name] = number; next}
        name in was {seen++; if (number < was[name]) {print "went back: " $0; bad = 1}}
        END {if (bad || seen != length(was)) exit 1}' <(printf '%s\n' "$before") <(printf '%s\n' "$after")
    [ "$(value 'quire_searches_total{mode="hybrid"}')" = 5 ]
}
answers() { api GET /liveness && [ "$code" = 200 ]; }

@test "libraries beyond metrics_max_libraries are added up" {
    start_instance --set workers=2 --set metrics_max_libraries=1
    local first n
    for n in 1 2 3; do
        make_library
        first=${first:-$library}
        api POST "/v1/libraries/$library/documents" '{"title":"t","texts":["one","two"]}'
        expect 201
    done
    metrics
    [ "$(value quire_libraries)" = 3 ]
    [ "$(value quire_libraries_shown)" = 1 ]
    [ "$(value "quire_library_chunks{library=\"$first\"}")" = 2 ]
    [ "$(value 'quire_library_chunks{library="other"}')" = 4 ]
    [ "$(grep -c '^quire_library_info' "$metrics")" = 1 ]
    [ "$(value "quire_library_info{library=\"$first\",name=\"test\"}")" = 1 ]
}

alerts() { sed -nE 's/^ +- alert: //p' "$root/conf/prometheus-rules.yml"; }

@test "every alert is valid, fires in a test of its own, and is silent in health" {
    "$promtool" check rules --lint=all --lint-fatal "$root/conf/prometheus-rules.yml"
    "$promtool" test rules "$root/tests/prometheus/rules_test.yml" "$root/tests/prometheus/rules_days_test.yml"
    diff <(alerts | sort) <(sed -nE 's/.*exp_samples: \[\{labels: .\{alertname="(Quire[A-Za-z]+)"\}., value: 1\}\]$/\1/p' "$root"/tests/prometheus/rules*_test.yml | sort -u)
}

@test "every alert has a severity, a summary, a description and its place in docs/operations.md" {
    local anchor
    [ "$(alerts | wc -l)" = "$(alerts | sort -u | wc -l)" ]
    for word in 'labels: \{severity: (page|ticket)\}' 'summary: ".*"' 'description: ".*"' 'runbook: docs/operations.md#[a-z]+'; do
        [ "$(grep -cE "^ +$word\$" "$root/conf/prometheus-rules.yml")" = "$(alerts | wc -l)" ]
    done
    for anchor in $(sed -nE 's/.*runbook: docs\/operations.md#//p' "$root/conf/prometheus-rules.yml" | sort -u); do
        grep -qix "### $anchor" "$root/docs/operations.md" || {
            echo "docs/operations.md has no section $anchor" >&2
            return 1
        }
    done
}

@test "the dashboard is what its program prints, its panels stand side by side, its expressions parse" {
    diff "$root/conf/grafana-dashboard.json" <("$root/tools/dashboard.py")
    "$root/tests/prometheus/expressions.py" check "$root/conf/grafana-dashboard.json"
    "$root/tests/prometheus/expressions.py" rules "$root/conf/grafana-dashboard.json" >"$BATS_TEST_TMPDIR/dashboard.yml"
    "$promtool" check rules "$BATS_TEST_TMPDIR/dashboard.yml"
}

# --- a Prometheus ---

# The scrape configuration of the manual, for this instance.
configuration_of_the_manual() {
    printf 'global: {scrape_interval: 500ms, evaluation_interval: 500ms}\n'
    awk '/^scrape_configs:$/ {inside = 1} /^```$/ {inside = 0} inside' "$root/docs/operations.md" |
        sed -e "s|/etc/prometheus/quire.key|$instance/prometheus.key|" -e "s|quire.example.org:443|${url#https://}|" \
            -e "s|/etc/prometheus/prometheus-rules.yml|$1|" -e "s|^    scheme: https|&\n    tls_config: {ca_file: $instance/tls/cert.pem}|"
}

ask_prometheus() { # ask_prometheus EXPRESSION: its result, in JSON
    curl -sS --max-time 10 --data-urlencode "query=$1" "http://127.0.0.1:$port/api/v1/query"
}
scraped() { [ "$(ask_prometheus 'count_over_time(quire_build_info[1m])' 2>/dev/null | jq -r '.data.result[0].value[1] // 0')" -ge 3 ]; }
port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

@test "a Prometheus, configured as the manual says: it reads, every rule and panel is evaluated, no alert fires" {
    start_instance --set workers=2 --set auth=on --set model.far.url=http://127.0.0.1:1/v1 --set model.far.model=m
    key=$(cat "$instance/admin_key")
    api POST /v1/keys '{"name":"prometheus","scopes":["admin"]}' -H "Authorization: Bearer $key"
    expect 201
    (umask 077 && field .secret | tr -d '\n' >"$instance/prometheus.key")
    library=$(curl -sS --cacert "$instance/tls/cert.pem" -H "X-API-Key: $key" -H 'Content-Type: application/json' "$url/v1/libraries" -d '{"name":"a \"b\""}' | jq -r .id)
    api POST "/v1/libraries/$library/documents" '{"title":"t","texts":["one","two"]}' -H "X-API-Key: $key"
    expect 201
    api POST "/v1/libraries/$library/search" '{"query":"two"}' -H "X-API-Key: $key"
    expect 200
    api GET /metrics '' -H "Authorization: Bearer $(cat "$instance/prometheus.key")"
    printf '%s\n' "$body" | awk '/^# TYPE/ {print $3}' | sort >"$BATS_TEST_TMPDIR/shown"
    "$root/tests/prometheus/expressions.py" names "$root/conf/prometheus-rules.yml" "$root/conf/grafana-dashboard.json" >"$BATS_TEST_TMPDIR/asked"
    [ -z "$(comm -13 "$BATS_TEST_TMPDIR/shown" "$BATS_TEST_TMPDIR/asked")" ]

    "$root/tests/prometheus/expressions.py" rules "$root/conf/grafana-dashboard.json" >"$BATS_TEST_TMPDIR/dashboard.yml"
    configuration_of_the_manual "$root/conf/prometheus-rules.yml" >"$BATS_TEST_TMPDIR/prometheus.yml"
    printf '  - %s\n' "$BATS_TEST_TMPDIR/dashboard.yml" >>"$BATS_TEST_TMPDIR/prometheus.yml"
    "$promtool" check config "$BATS_TEST_TMPDIR/prometheus.yml"
    for ((port = 20000 + RANDOM % 20000; ; port++)); do port_is_free "$port" && break; done
    "$(dirname "$promtool")/prometheus" --config.file="$BATS_TEST_TMPDIR/prometheus.yml" --storage.tsdb.path="$BATS_TEST_TMPDIR/tsdb" \
        --web.listen-address="127.0.0.1:$port" >"$BATS_TEST_TMPDIR/prometheus.log" 2>&1 3>&- &
    prometheus=$!
    until_true 20 scraped || {
        cat "$BATS_TEST_TMPDIR/prometheus.log" >&2
        return 1
    }
    until_true 10 evaluated
    curl -sS "http://127.0.0.1:$port/api/v1/rules" >"$BATS_TEST_TMPDIR/rules.json"
    [ "$(jq -r '[.data.groups[].rules[] | select(.health != "ok")] | map("\(.name): \(.lastError)") | join("\n")' "$BATS_TEST_TMPDIR/rules.json")" = "" ]
    [ "$(jq -r '[.data.groups[].rules[] | select(.type == "alerting" and .state == "firing") | .name] | join(" ")' "$BATS_TEST_TMPDIR/rules.json")" = "" ]
    [ "$(ask_prometheus 'quire_library_chunks * on (job, instance, library) group_left (name) quire_library_info' | jq -r '.data.result[0].metric.name')" = 'a "b"' ]
}
evaluated() {
    [ "$(curl -sS "http://127.0.0.1:$port/api/v1/rules" | jq '[.data.groups[].rules[] | select(.health == "unknown")] | length')" = 0 ]
}
