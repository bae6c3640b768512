#!/usr/bin/env bats
# The supervisor and its workers, over their own socket and without nginx (tests/lib/processes.py has the tests).

bats_require_minimum_version 1.5.0

root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)

one() {
    run python3 -B "$root/tests/lib/processes.py" "${QUIRE_BUILD_DIR:-$root/.build}/src/quired" "$1"
    printf '%s\n' "$output"
    [ "$status" = 0 ]
}

@test "processes: bodies cut short, too long, unwanted" { one bodies; }
@test "processes: a failing sync is not acknowledged; exit code 74" { one failed_sync_is_not_acknowledged; }
@test "processes: a full disk: 507, searches go on, writes again later" { one full_disk; }
@test "processes: a full queue: 503 for some, all others are done" { one full_queue; }
@test "processes: what a worker inherits, and nothing else" { one heritage; }
@test "processes: a snapshot after the interval, when something is new" { one interval_snapshot; }
@test "processes: one request a connection" { one keep_alive_is_not_taken; }
@test "processes: killed workers are back within 100 ms" { one killed_workers_come_back; }
@test "processes: USR1 reopens the log, for workers too" { one log_reopened; }
@test "processes: what systemd hears" { one notify; }
@test "processes: a stop in the middle of recovery" { one stop_while_recovering; }
@test "processes: socket_peers" { one peers; }
@test "processes: an index is rebuilt while writes go on" { one rebuild; }
@test "processes: HUP replaces workers without losing a request" { one reload; }
@test "processes: everything is there after TERM, QUIT, kill -9 and INT" { one restart_keeps_everything; }
@test "processes: a second server is refused" { one second_server_is_refused; }
@test "processes: silent and hostile clients park nobody" { one silent_client_parks_nobody; }
@test "processes: snapshots by count, by command, at the stop" { one snapshots; }
@test "processes: a stop does not wait for silent clients" { one stop_does_not_wait_for_silent_clients; }
@test "processes: a stop waits for requests in hand" { one stop_waits_for_requests; }
@test "processes: a stopped worker holds nobody up" { one stopped_worker_holds_nobody; }
@test "processes: workers die with the supervisor" { one supervisor_death_takes_workers; }
@test "processes: workers that cannot start are tried again" { one worker_that_cannot_start; }
@test "processes: a late acknowledgement is not mistaken" { one write_deadline; }
@test "processes: more writes than places leave workers to searches" { one writes_wait_apart; }
@test "processes: several writes in one worker's hand" { one writes_in_one_hand; }
@test "processes: a worker with writes in hand is told to go, or killed" { one in_hand_when_told_to_go; }
@test "processes: the supervisor without descriptors tries again" { one supervisor_without_descriptors; }
@test "processes: a stop while workers start" { one stop_while_workers_start; }
@test "processes: a worker without descriptors pauses" { one worker_without_descriptors; }
@test "processes: USR2 hands over to another program, and no request fails" { one upgrade; }
@test "processes: a stop wins over an upgrade" { one stop_during_an_upgrade; }
@test "processes: sockets that somebody else holds" { one held_sockets; }
@test "processes: data of a newer program is refused and left alone" { one newer_data; }
@test "processes: a fork that fails is tried again" { one fork_that_fails; }
