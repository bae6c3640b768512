# shellcheck shell=bash
# common.bash - what the bats files share: an instance of their own through scripts/serve, and requests to it.
#
# Each file starts its own instance on a free port in a directory of its own and stops it at its end, so files can run in parallel.

root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
export root

# start_instance [serve arguments...]: sets instance, url.
start_instance() {
    instance=${instance:-$(mktemp -d "${TMPDIR:-/tmp}/quire-test.XXXXXX")}
    url=$("$root/scripts/serve" "$instance" start "$@" 2>"$instance.start.log" | tail -n 1)
    [ -n "$url" ] || {
        cat "$instance.start.log" >&2
        return 1
    }
    export instance url
}

stop_instance() { "$root/scripts/serve" "$instance" stop; }

# Ends what is there and removes the directory; fails when a process of the instance is left.
remove_instance() {
    [ -n "${instance:-}" ] || return 0
    stop_instance || return 1
    local left
    left=$(processes_of "$instance")
    [ -z "$left" ] || {
        printf 'left behind: %s\n' "$left" >&2
        return 1
    }
    # What a sanitizer has to say is a failure of whatever ran.
    if grep -hE 'ERROR: (Address|Leak|Undefined)|runtime error:' "$instance"/logs/* >&2 2>/dev/null; then return 1; fi
    rm -rf "$instance" "$instance.start.log"
}

# The pids of quired processes (supervisor and workers) that run on this instance's data directory.
processes_of() {
    local pid
    for pid in $(pgrep -x quired); do
        [ -e "/proc/$pid" ] || continue
        if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q -- "$1/" ||
            find "/proc/$pid/fd" -maxdepth 1 -lname "$1/*" 2>/dev/null | grep -q .; then
            # A zombie has ended already.
            [ "$(ps -o state= -p "$pid" 2>/dev/null | cut -c1)" = Z ] || printf '%s ' "$pid"
        fi
    done
}

supervisor() { tr -d '[:space:]' <"$instance/quired.pid"; }
workers() { pgrep -P "$(supervisor)" -x quired; }

# api METHOD PATH [BODY] [curl arguments...]: sets code and body; headers lie in $headers.
api() {
    local method=$1 path=$2 data=${3-}
    shift 2
    [ $# -gt 0 ] && shift
    headers=${BATS_TEST_TMPDIR:-$instance/tmp}/headers
    local arguments=(-sS --max-time 60 --cacert "$instance/tls/cert.pem" -X "$method" -D "$headers" -w '\n%{http_code}' "$@")
    [ "$method" = HEAD ] && arguments+=(-I)
    # From a file: a body may be longer than an argument can be.
    [ -z "$data" ] || arguments+=(-H 'Content-Type: application/json' --data-binary @-)
    local out
    out=$(printf '%s' "$data" | curl "${arguments[@]}" "$url$path") || return 1
    code=${out##*$'\n'}
    body=${out%$'\n'*}
    # shellcheck disable=SC2034 # for the tests
    export code body headers
}

field() { jq -r "$1" <<<"$body"; }

# expect CODE [ERROR_TYPE]: the status, and the form of an error reply.
expect() {
    if [ "$code" != "$1" ]; then
        printf 'expected %s, got %s: %.600s\n' "$1" "$code" "$body" >&2
        return 1
    fi
    [ $# -lt 2 ] && return 0
    if ! { [ "$(field .error_type)" = "$2" ] && [ "$(field .status)" = "$1" ] && [ "$(field '.type | length > 0')" = true ] &&
        [ "$(field '.title | length > 0')" = true ] && [ "$(field '.detail | length > 0')" = true ] &&
        [ "$(field '.request_id | length > 0')" = true ] && grep -qi '^content-type: application/problem+json' "$headers"; }; then
        printf 'expected a %s problem, got: %.600s\n' "$2" "$body" >&2
        return 1
    fi
}

# make_library [JSON members]: sets library.
# shellcheck disable=SC2034 # for the tests
make_library() {
    api POST /v1/libraries "{\"name\":\"test\"${1:+,$1}}" && expect 201 && library=$(field .id)
}

# until_true SECONDS COMMAND...: polls a condition.
until_true() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.05
    done
}

# limit_error KEY: what a client gets that goes beyond a limit, "status error_type", as the tables of the code have it.
limit_error() { sed -nE "s/^(LIMIT|BOUND)\($1, [^\"]*\"[^\"]*\", \"([^\"]+)\".*/\2/p" "$root/src/store/limits.def" "$root/src/proc/config.def"; }
