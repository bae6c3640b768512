#!/usr/bin/env bats
# Running it: command line, configuration, signals, logs, keys, nginx's limits.

bats_require_minimum_version 1.5.0
load common

setup() { quired=${QUIRE_BUILD_DIR:-$root/.build}/src/quired; }
teardown() { remove_instance; }

@test "--version, --help, a wrong option" {
    run "$quired" --version
    [ "$status" = 0 ]
    [[ $output == *quire* ]]
    run "$quired" -V
    [ "$status" = 0 ]
    run "$quired" --help
    [ "$status" = 0 ]
    [[ $output == *--set* ]]
    run "$quired" --no-such-thing
    [ "$status" = 64 ]
}

@test "-t names file and line of what is wrong; exit code 78" {
    conf=$BATS_TEST_TMPDIR/quire.conf
    printf 'data_dir = /tmp\nworkers = many\n' >"$conf"
    run "$quired" -c "$conf" -t
    [ "$status" = 78 ]
    [[ $output == *"$conf:2:"* ]]
    printf 'snapshot_intervall = 3\n' >"$conf"
    run "$quired" -c "$conf" -t
    [ "$status" = 78 ]
    [[ $output == *snapshot_interval* ]]
    printf 'no equals sign\n' >"$conf"
    run "$quired" -c "$conf" -t
    [ "$status" = 78 ]
    printf '# nothing\nauth = off\nmodel_dir = %s\n' "$root/data/models" >"$conf"
    run "$quired" -c "$conf" -t
    [ "$status" = 0 ]
    run "$quired" -c "$conf" --set workers=0.5 -t
    [ "$status" = 78 ]
    run "$quired" -c "$BATS_TEST_TMPDIR/missing.conf" -t
    [ "$status" = 78 ]
}

@test "-t says what of archive_dir and write_workers is not as it is written down" {
    conf=$BATS_TEST_TMPDIR/quire.conf
    printf 'auth = off\nmodel_dir = %s\nworkers = 4\n' "$root/data/models" >"$conf"
    run "$quired" -c "$conf" --set archive_dir="$BATS_TEST_TMPDIR" --set write_workers=3 -t
    [ "$status" = 0 ]
    [[ $output != *archive_dir* && $output != *write_workers* ]]
    run "$quired" -c "$conf" --set archive_dir="$BATS_TEST_TMPDIR/none" --set write_workers=4 -t
    [ "$status" = 0 ]
    [[ $output == *"archive_dir: cannot open $BATS_TEST_TMPDIR/none"* && $output == *"write_workers: 3 of 4 workers"* ]]
    run "$quired" -c "$conf" --set archive_dir=archive -t
    [ "$status" = 78 ]
    [[ $output == *"archive_dir must be an absolute path"* ]]
}

@test "a model file that is missing, damaged or not wanted" {
    local conf=$BATS_TEST_TMPDIR/quire.conf models=$BATS_TEST_TMPDIR/models
    mkdir "$models"
    printf 'auth = off\nmodel_dir = %s\n' "$models" >"$conf"
    for action in -t --foreground; do
        rm -f "$models/static-en.quire"
        run "$quired" -c "$conf" "$action"
        [ "$status" = 78 ]
        [[ $output == *"$models/static-en.quire"* ]]
        cp "$root/data/models/static-en.quire" "$models/"
        printf X | dd of="$models/static-en.quire" bs=1 seek=5000000 conv=notrunc status=none
        run "$quired" -c "$conf" "$action"
        [ "$status" = 78 ]
        [[ $output == *"$models/static-en.quire is damaged"* ]]
        for size in 0 8 63 64 1000000; do
            truncate -s "$size" "$models/static-en.quire"
            run "$quired" -c "$conf" "$action"
            [ "$status" = 78 ]
            [[ $output == *"$models/static-en.quire"* ]]
        done
    done
    run "$quired" -c "$conf" --set model_dir= -t
    [ "$status" = 78 ]
    [[ $output == *"there is: hash-384"* ]]
    run "$quired" -c "$conf" --set model_dir= --set default_model=hash-384 -t
    [ "$status" = 0 ]
}

@test "auth = off anywhere but on loopback is refused" {
    printf 'auth = off\nlisten = 0.0.0.0:443\n' >"$BATS_TEST_TMPDIR/quire.conf"
    run "$quired" -c "$BATS_TEST_TMPDIR/quire.conf" -t
    [ "$status" = 78 ]
    [[ $output == *loopback* ]]
}

@test "a remote model's section: -t names line and key, reads the key, and shows it to nobody" {
    conf=$BATS_TEST_TMPDIR/models.conf
    printf 'model_dir = %s\n[model a]\nurl = https://api.example.org/v1\nmodel = m\nkey_file = %s/key\n' "$root/data/models" "$BATS_TEST_TMPDIR" >"$conf"
    run "$quired" -c "$conf" -t
    [ "$status" = 78 ]
    [[ $output == *"[model a]: the key: "*"No such file"* ]]
    printf 'sk-secret\n' >"$BATS_TEST_TMPDIR/key"
    chmod 0644 "$BATS_TEST_TMPDIR/key"
    run "$quired" -c "$conf" -t
    [ "$status" = 78 ]
    [[ $output == *"others may read it"* && $output != *sk-secret* ]]
    chmod 0600 "$BATS_TEST_TMPDIR/key"
    run "$quired" -c "$conf" -t
    [ "$status" = 0 ]
    [[ $output != *sk-secret* ]]
    run "$quired" -c "$conf" --set model.a.url=http://user@host -t
    [ "$status" = 78 ]
    [[ $output == *"[model a]: url must be"* ]]
    printf 'retris = 3\n' >>"$conf"
    run "$quired" -c "$conf" -t
    [ "$status" = 78 ]
    [[ $output == *"models.conf:6: unknown key 'retris'; did you mean 'retries'?"* ]]
}

@test "the example configuration is valid and names every key" {
    run "$quired" -c "$root/conf/quire.conf.example" --set model_dir="$root/data/models" -t
    [ "$status" = 0 ]
    local key
    while read -r key; do
        grep -qE "^#? ?$key = " "$root/conf/quire.conf.example" || {
            printf 'missing: %s\n' "$key" >&2
            return 1
        }
    done < <(sed -nE 's/^(TEXT|NUMBER|BOUND|CHOICE|LIMIT)\(([a-z0-9_]+),.*/\2/p' "$root/src/proc/config.def" "$root/src/embed/remote.def" "$root/src/store/limits.def")
}

@test "HUP reloads; a bad configuration is rolled back and said" {
    start_instance --set workers=2
    pid=$(supervisor)
    sed -i '/^log_level/d' "$instance/quire.conf"
    echo 'log_level = debug' >>"$instance/quire.conf"
    kill -HUP "$pid"
    until_true 10 grep -qi 'reloaded' "$instance/logs/quired.log"
    echo 'no_such_key = 1' >>"$instance/quire.conf"
    kill -HUP "$pid"
    until_true 10 grep -q 'no_such_key' "$instance/logs/quired.log"
    sed -i '/^no_such_key/d' "$instance/quire.conf"
    api GET /readiness
    expect 200
    [ "$(supervisor)" = "$pid" ]
}

@test "scripts/serve takes a configuration as it was edited: unspaced, indented, with sections" {
    start_instance --set workers=2
    stop_instance
    sed -i '/^log_level/d; s/^workers = 2$/workers=2/' "$instance/quire.conf"
    printf '  log_level=debug  \n[model far]\n    dialect = ollama\n    url=http://127.0.0.1:1\n  model = m\n' >>"$instance/quire.conf"
    start_instance --set workers=3
    [ "$(grep -c '^workers' "$instance/quire.conf")" = 1 ]
    api GET /v1/models
    [ "$(field '[.. | .name? | select(. == "far")] | length')" = 1 ]
}

@test "log_format = journal-json: each line of every process is a priority and one JSON object" {
    start_instance --set workers=2 --set log_format=journal-json
    api GET /v1/nothing
    stop_instance
    [ "$(wc -l <"$instance/logs/quired.log")" -gt 5 ]
    run ! grep -qvE '^<[3-7]>\{' "$instance/logs/quired.log"
    sed 's/^<[3-7]>//' "$instance/logs/quired.log" | jq -es 'all(has("time") and has("level") and has("process") and has("pid") and has("message"))'
}

@test "USR1 reopens the log" {
    start_instance --set workers=2
    mv "$instance/logs/quired.log" "$instance/logs/quired.log.1"
    kill -USR1 "$(supervisor)"
    until_true 10 test -e "$instance/logs/quired.log"
    kill -HUP "$(supervisor)"
    until_true 10 test -s "$instance/logs/quired.log"
}

@test "QUIT stops at once, and nothing is lost" {
    start_instance --set workers=2
    make_library
    api POST "/v1/libraries/$library/documents" '{"id":"d","title":"t","texts":["x"]}'
    expect 201
    pid=$(supervisor)
    kill -QUIT "$pid"
    gone() { [ -z "$(processes_of "$instance")" ]; }
    until_true 10 gone
    start_instance
    api GET "/v1/libraries/$library/documents/d"
    expect 200
}

@test "the start and stop logs an operator reads" {
    start_instance --set workers=2
    make_library
    api POST "/v1/libraries/$library/documents" '{"id":"d","title":"t","texts":["x","y"]}'
    stop_instance
    start_instance
    stop_instance
    log=$instance/logs/quired.log
    grep -qi 'restoring 1 librar' "$log"
    grep -q "$library" "$log"
    grep -qi 'restoration complete' "$log"
    grep -qi 'final snapshot' "$log"
    grep -qi 'flush' "$log"
    grep -qi 'vector stores saved' "$log"
    grep -qi 'everything is open\|without keys\|auth.*off' "$log"
}

@test "keys: with auth on nothing but health answers without one" {
    start_instance --set workers=2 --set auth=on
    key=$(cat "$instance/admin_key")
    api GET /health
    expect 200
    api GET /readiness
    expect 200
    for path in /v1/libraries /v1/libraries/00000000-0000-7000-8000-000000000000 /metrics /health/detailed /v1/nothing; do
        api GET "$path"
        expect 401 AuthenticationError
        api GET "$path" '' -H 'Authorization: Bearer qk_wrong'
        expect 401 AuthenticationError
    done
    api GET /v1/libraries '' -H "Authorization: Bearer $key"
    expect 200
    api GET /v1/libraries '' -H "X-API-Key: $key"
    expect 200
    run ! grep -rq "$key" "$instance/logs"
}

@test "nginx: a client over its rate gets 429 in Quire's form" {
    start_instance --set workers=2 --rate 5
    local limited=0
    for i in $(seq 1 60); do
        api GET /health
        [ "$code" = 429 ] && limited=1 && break
    done
    [ $limited = 1 ]
    expect 429 RateLimitError
    grep -qi '^retry-after:' "$headers"
}

@test "no worker at all: 503 in Quire's form, from nginx" {
    start_instance --set workers=2
    kill -QUIT "$(supervisor)"
    gone() { [ -z "$(processes_of "$instance")" ]; }
    until_true 10 gone
    api GET /health
    expect 503 NotReadyError
    grep -qi '^retry-after:' "$headers"
    start_instance
}

@test "a slow client does not hold a worker" {
    start_instance --set workers=1
    # Connections that send half a request and wait; the only worker goes on serving others.
    python3 "$root/tests/lib/rude.py" "${url##*:}" slow_bodies >"$instance/slow" &
    slow=$!
    until_true 20 grep -q ready "$instance/slow"
    for i in $(seq 1 20); do
        api GET /readiness
        expect 200
    done
    kill $slow
    wait $slow || true
}

@test "the fastcgi socket is for nginx's group only" {
    start_instance --set workers=2
    [ "$(stat -c %a "$instance/run/quired.sock")" = 660 ]
}

@test "the command line: create, import twice, search, list, status, snapshot, delete" {
    start_instance --set workers=2
    # shellcheck source=/dev/null
    . "$instance/env"
    quire library create notes
    run quire import notes "$root/data/samples"
    [ "$status" = 0 ]
    [[ $output == *" 0 failed"* ]]
    first=$(quire library list --json | jq '.[0].num_documents')
    [ "$first" -gt 50 ]
    run quire import notes "$root/data/samples"
    [ "$status" = 0 ]
    [[ $output == "0 added"* ]]
    [ "$(quire library list --json | jq '.[0].num_documents')" = "$first" ]
    run quire search notes bread dough -k 3
    [ "$status" = 0 ]
    [[ $output == *"1. "* ]]
    [ "$(quire search notes bread dough -k 3 --json | jq '.results | length')" = 3 ]
    printf '{"title":"from standard input","texts":["a very particular sentence about zeppelins"]}\n' | quire import notes -
    [ "$(quire search notes zeppelins -k 1 --json | jq -r '.results[0].document_title')" = "from standard input" ]
    run bash -c "printf 'not json\n' | quire import notes -"
    [ "$status" != 0 ]
    quire status | grep -q version
    quire snapshot
    listed() { [ "$(quire snapshot list --json | jq length)" -ge 1 ]; }
    until_true 20 listed
    run quire search nowhere words
    [ "$status" != 0 ]
    [[ $output == *"no library"* ]]
    quire library delete notes --yes
    [ "$(quire library list --json | jq length)" = 0 ]
    run quire frobnicate
    [ "$status" = 64 ]
}

@test "import replaces a file that changed and leaves the others" {
    start_instance --set workers=2
    # shellcheck source=/dev/null
    . "$instance/env"
    mkdir "$instance/tmp/notes"
    printf '# One\n\nfirst words\n' >"$instance/tmp/notes/one.md"
    printf 'second words\n' >"$instance/tmp/notes/two.txt"
    quire import notes "$instance/tmp/notes"
    printf '# One\n\nother words about kites\n' >"$instance/tmp/notes/one.md"
    run quire import notes "$instance/tmp/notes"
    [[ $output == *"1 replaced"* ]]
    [[ $output == *"1 already there"* ]]
    [ "$(quire library list --json | jq '.[0].num_documents')" = 2 ]
    [[ $(quire search notes kites -k 1 --json | jq -r '.results[0].chunk.text') == *kites* ]]
}

@test "docs/configuration.md is what the tables in the code say" {
    diff "$root/docs/configuration.md" <("$root/scripts/doc-tables")
}

@test "a full queue of writes: 503 from nginx at once, all else goes on, and writes again once there is room" {
    start_instance --set workers=4 --set peer_timeout_ms=600000
    api POST /v1/libraries '{"name":"full"}'
    expect 201
    # Clients that connect and say nothing, until the queue takes no more, and no worker takes one out of it.
    python3 -c '
import resource, socket, sys, time
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192), most))
held, last = [], time.monotonic()
while time.monotonic() - last < 1:
    s = socket.socket(socket.AF_UNIX)
    s.setblocking(False)
    try:
        s.connect(sys.argv[1])
    except BlockingIOError:
        s.close()
        time.sleep(0.01)
        continue
    held.append(s)
    last = time.monotonic()
open(sys.argv[2], "w").close()
time.sleep(600)' "$instance/run/quired-writes.sock" "$BATS_TEST_TMPDIR/full" 3>&- &
    local clients=$!
    until_true 30 test -e "$BATS_TEST_TMPDIR/full"
    api POST /v1/libraries '{"name":"one more"}'
    expect 503 NotReadyError
    grep -qi '^retry-after:' "$headers"
    api GET /v1/libraries
    expect 200
    kill "$clients"
    wait "$clients" || true
    written() { api POST /v1/libraries '{"name":"one more"}' && [ "$code" = 201 ]; }
    until_true 30 written
}
