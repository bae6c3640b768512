#!/usr/bin/env bats
# The driver of the campaigns: what it lets pass and what not, and that nothing stays behind, also when it is interrupted.

bats_require_minimum_version 1.5.0
load common

setup() {
    list=$BATS_TEST_TMPDIR/list
    good='campaign NAME injections=3 lost=0 duplicated=0 wrong=0 worst_ms=-'
}

teardown() {
    if [ -n "${short_place:-}" ]; then rm -rf "$short_place"; fi
}

# drive SHORT_COMMAND [arguments...]: one campaign called "one"; sets status and output.
drive() {
    printf 'one | %s | true\n' "$1" >"$list"
    shift
    TMPDIR=$BATS_TEST_TMPDIR run "$root/tests/crash/campaign" --from "$list" --logs "$BATS_TEST_TMPDIR/logs" --short "$@"
}

@test "a campaign passes by exit code and last line, and the table has its figures" {
    drive "printf 'other\n%s\n' '${good/NAME/one}'" --table "$BATS_TEST_TMPDIR/table"
    [ "$status" = 0 ]
    grep -q '^| one | 3 | 0 | 0 | 0 | - | .* | ok |$' "$BATS_TEST_TMPDIR/table"
}

@test "no line, a line that is not the last, another's line, a loss, nothing injected, an exit code: each fails" {
    local line=${good/NAME/one}
    for command in "echo nothing" "printf '%s\nmore\n' '$line'" "echo '${good/NAME/two}'" "echo '${line/lost=0/lost=1}'" "echo '${line/injections=3/injections=0}'" \
        "sh -c \"echo '$line'; exit 3\""; do
        drive "$command"
        [ "$status" = 1 ] || { echo "passed: $command" && return 1; }
        [[ $output == *"FAILED: "* ]]
    done
}

@test "exit code 77 is a campaign that cannot run here" {
    drive "sh -c 'exit 77'"
    [ "$status" = 0 ]
    [[ $output == *"| skipped |"* ]]
}

@test "files and processes left behind fail it, and the processes are ended" {
    # shellcheck disable=SC2016 # for the campaign's shell
    drive 'sh -c '\''touch "$TMPDIR/left"; echo "'"${good/NAME/one}"'"'\'''
    [ "$status" = 1 ]
    [[ $output == *"files left behind in "* ]]
    # shellcheck disable=SC2016
    drive 'sh -c '\''cd "$TMPDIR"; setsid sleep 987 >/dev/null 2>&1 & echo $! >"'"$BATS_TEST_TMPDIR/pid"'"; until [ "$(cat /proc/$!/comm)" = sleep ]; do sleep 0.01; done; echo "'"${good/NAME/one}"'"'\'''
    [ "$status" = 1 ]
    [[ $output == *"processes left behind: $(cat "$BATS_TEST_TMPDIR/pid") (sleep)"* ]]
    # A zombie has ended already.
    [[ $(ps -o state= -p "$(cat "$BATS_TEST_TMPDIR/pid")") != [RSDT]* ]]
}

@test "interrupted in the middle, a real campaign leaves no process, file or port" {
    # Not below bats's own directory: the path of a socket has to fit into 107 bytes.
    short_place=$(mktemp -d "${TMPDIR:-/tmp}/q.XXXXXX")
    export TMPDIR=$short_place
    printf 'kill-supervisor | tests/crash/kill_supervisor.py --count 100000 | true\n' >"$list"
    python3 "$root/tests/crash/campaign" --from "$list" --logs "$BATS_TEST_TMPDIR/logs" --short >"$BATS_TEST_TMPDIR/out" 2>&1 3>&- &
    local driver=$! rc=0 instances
    busy() { compgen -G "$TMPDIR/quire-campaign.*/quire-crash.*/data/wal/wal_*" >/dev/null; }
    until_true 120 busy
    instances=$(echo "$TMPDIR"/quire-campaign.*/quire-crash.*)
    kill -INT "$driver"
    wait "$driver" || rc=$?
    cat "$BATS_TEST_TMPDIR/out"
    [ "$rc" = 130 ]
    [ -z "$(ls -A "$TMPDIR")" ]
    for one in $instances; do
        [ -z "$(pgrep -f "$one")" ] || { echo "left: $(pgrep -af "$one")" && return 1; }
    done
}
