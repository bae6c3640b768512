#!/usr/bin/env bats
# The documents stay true: what docs/api.md, docs/operations.md and README.md say to type is typed, and what they list is held against the code.
#
# Every fenced block that opens with ```sh is run, in the order of the file, in one bash in which an error ends it. A line "#> text" in a block is
# output that the block must print, line by line and in that order.

bats_require_minimum_version 1.5.0
load common

teardown() { remove_instance; }

# blocks_of FILE DIR: DIR/<line>.sh for each block.
blocks_of() {
    mkdir -p "$2"
    awk -v dir="$2" '
        /^```sh$/ {out = sprintf("%s/%05d.sh", dir, NR); next}
        /^```/ {out = ""; next}
        out != "" {print >out}' "$1"
}

# printed SCRIPT OUTPUT: whether the lines that SCRIPT expects stand in OUTPUT.
printed() {
    awk '
        FNR == NR {if (sub(/^#> /, "")) want[++n] = $0; next}
        at < n && $0 == want[at + 1] {at++}
        END {if (at < n) {print "not printed, or not in this order: " want[at + 1]; exit 1}}' "$1" "$2" >&2
}

run_blocks() { # run_blocks FILE: in the instance that runs
    local blocks=$BATS_TEST_TMPDIR/blocks block
    blocks_of "$1" "$blocks"
    # shellcheck disable=SC2016 # for the bash that runs the blocks
    (cd "$root" && TMPDIR=$BATS_TEST_TMPDIR timeout 300 bash -euo pipefail -c '
        trap '\''[ $? = 0 ] || { echo "the block at line ${block##*/} failed:"; cat "$block" "$block.out"; } >&2'\'' EXIT
        . "$1/env"
        for block in "$2"/*.sh; do . "$block" >"$block.out"; done' docs "$instance" "$blocks") || return 1
    for block in "$blocks"/*.sh; do
        printed "$block" "$block.out" || {
            cat "$block" "$block.out" >&2
            return 1
        }
    done
}

# listed FILE SECTION PATTERN: the words in backquotes in the tables of a section that match, one a line.
listed() {
    awk -v section="## $2" '/^## / {inside = $0 == section} inside && /^\|/' "$1" | grep -oE "\`$3\`" | tr -d '`' | sort -u
}

@test "docs/api.md: every example runs and prints what it says" {
    start_instance --set workers=2
    run_blocks "$root/docs/api.md"
}

@test "docs/api.md: the same with a key" {
    start_instance --set workers=2 --set auth=on
    run_blocks "$root/docs/api.md"
}

# What a machine has that the page speaks of, played by an instance.
as_on_a_machine() {
    # shellcheck disable=SC2016 # for the bash that runs the blocks
    printf '```sh\nsystemctl() { %q %q "$1"; }\nsudo() { shift 2; "$@"; }\ncd %q\n```\n' "$root/scripts/serve" "$instance" "$BATS_TEST_TMPDIR"
    sed -e '/^## Restore/,/^## When/!d' -e "s|/var/lib/quire|$instance/data|g" -e "s|/backup|$instance/backup|g" -e "s|2026-11-24T05:00:00Z|$1|" \
        -e '/^#> from edited.tar/d' "$root/docs/operations.md"
}

@test "docs/operations.md: the section on restoring runs, and does what it says" {
    start_instance --set workers=2 --set snapshot_interval=0 --set snapshot_every_ops=0
    api POST /v1/libraries '{"name":"recipes"}'
    expect 201
    library=$(field .id)
    api POST "/v1/libraries/$library/documents" '{"id":"bread","title":"Bread","texts":["The dough rises slowly."]}'
    expect 201
    sleep 0.01
    moment=$(date -u +%Y-%m-%dT%H:%M:%S.%6NZ)
    stop_instance
    cp -r "$instance/data" "$instance/backup"
    start_instance
    as_on_a_machine "$moment" >"$BATS_TEST_TMPDIR/operations.md"
    run_blocks "$BATS_TEST_TMPDIR/operations.md"
    api GET /v1/libraries
    [ "$(jq -r '[.[].name] | sort | join(",")' <<<"$body")" = "recipes,recipes of monday" ]
    api GET "/v1/libraries/$library/documents/bread"
    expect 200
    stop_instance
    rm -r "$instance/data"
    mv "$BATS_TEST_TMPDIR/edited.data" "$instance/data"
    start_instance
    api GET "/v1/libraries/$library/documents/bread"
    [ "$(field '.chunks[0].text')" = "The dough rises overnight." ]
}

@test "README.md: the tour runs" {
    start_instance --set workers=2
    run_blocks "$root/README.md"
}

@test "docs/cli.md: the examples run, and the exit codes are those of the manual" {
    start_instance --set workers=2
    run_blocks "$root/docs/cli.md"
    # shellcheck disable=SC1091 # made by scripts/serve
    diff <(sed -nE 's/^\| ([0-9]+) \| .*/\1/p' "$root/docs/cli.md") \
        <(. "$instance/env" && quire help --man | sed -n '/^.SH "EXIT STATUS"/,/^.SH ENVIRONMENT/p' | sed -nE 's/^\.B ([0-9]+)$/\1/p')
}

@test "docs/tour.md: the tour runs" {
    start_instance --set workers=2
    run_blocks "$root/docs/tour.md"
}

# The layout is graphviz's, which not every machine has; the words are what goes stale.
@test "docs/pictures: each picture says what its text says" {
    python3 - "$root"/docs/pictures/*.dot <<'PYTHON'
import html, pathlib, re, sys
for name in map(pathlib.Path, sys.argv[1:]):
    text = re.sub(r"^//.*$", "", name.read_text(), flags=re.M)
    said = {line.strip() for label in re.findall(r'label="([^"]*)"', text) for line in label.split(r"\n")}
    shown = {html.unescape(line).replace("\xa0", " ").strip() for line in re.findall(r">([^<]+)</text>", name.with_suffix(".svg").read_text())}
    assert said and said == shown, f"{name.name} and its picture differ (run docs/pictures/make): {said ^ shown}"
PYTHON
}

@test "the documents name no file that is not there" {
    local document target
    for document in "$root"/README.md "$root"/ARCHITECTURE.md "$root"/docs/*.md; do
        while IFS= read -r target; do
            [ -e "$(dirname "$document")/$target" ] || {
                echo "${document#"$root"/} points to $target" >&2
                return 1
            }
        done < <(grep -oE '\]\([^)#:]+' "$document" | sed 's/^](//')
    done
}

@test "the runner itself: a command that fails, and output that is missing, are failures" {
    start_instance --set workers=2
    printf '```sh\necho one\n#> one\n```\n\n```\nfalse\n```\n' >"$BATS_TEST_TMPDIR/good.md"
    run_blocks "$BATS_TEST_TMPDIR/good.md"
    rm -r "$BATS_TEST_TMPDIR/blocks"
    printf '```sh\nfalse | cat\n```\n' >"$BATS_TEST_TMPDIR/fails.md"
    run ! run_blocks "$BATS_TEST_TMPDIR/fails.md"
    rm -r "$BATS_TEST_TMPDIR/blocks"
    printf '```sh\necho one\n#> two\n```\n' >"$BATS_TEST_TMPDIR/silent.md"
    run ! run_blocks "$BATS_TEST_TMPDIR/silent.md"
}

@test "docs/api.md lists the calls of the code, and no others" {
    diff <(listed "$root/docs/api.md" "All calls" '[A-Z]+ /[^`]*') \
        <(sed -nE 's/^ *\{METHOD_[A-Z]+, "([A-Z]+ [^"]+)".*/\1/p' "$root/src/api/routes.c" | sort -u)
}

@test "docs/api.md lists the errors of the code and of nginx, and no others" {
    diff <(listed "$root/docs/api.md" "Errors" '[A-Za-z]+Error') \
        <(grep -ohE '[A-Za-z]+Error"' "$root/src/api/errors.c" "$root/nginx/quire.conf.in" | tr -d '"' | sort -u)
}

@test "ARCHITECTURE.md explains the memory-order tags of the code, and no others" {
    diff <(listed "$root/ARCHITECTURE.md" "Memory orders" '[A-Z]+_[A-Z_]+') \
        <(grep -rhoE 'pairs with: [A-Z]+_[A-Z_]+(, [A-Z]+_[A-Z_]+)*' "$root/src" | grep -oE '[A-Z]+_[A-Z_]+' | sort -u)
}
