#!/usr/bin/env bats
# cli.bats - the `quire` command: its table of commands and what is made of it (help, completion, manual), and what each command does.

bats_require_minimum_version 1.5.0
load common

setup_file() {
    load common
    start_instance --set workers=4 --set auth=on --set snapshot_interval=0 --set snapshot_every_ops=0
}
teardown_file() {
    load common
    remove_instance
}
setup() {
    # shellcheck disable=SC1091 # made by scripts/serve
    . "$instance/env"
    export NO_COLOR=1
    cd "$BATS_TEST_TMPDIR" || return 1
}

@test "help: every command tells of itself, and wrong words are answered with how it goes" {
    local name
    while read -r name; do
        # shellcheck disable=SC2086 # its words
        quire help $name | grep -q "^usage: quire $name"
        # shellcheck disable=SC2086 # its words
        quire $name --help | cmp - <(quire help $name)
        [ "$(quire help | grep -c "^  $name  ")" = 1 ]
    done < <(quire help --json | jq -r '.commands[].name')
    run quire library
    [ "$status" = 64 ]
    [[ $output == *"library create"*"library list"* ]]
    run quire libary
    [ "$status" = 64 ]
    run quire library list --replace
    [ "$status" = 64 ]
    [[ $output == *"has no option --replace"* ]]
    run quire search
    [ "$status" = 64 ]
    [[ $output == *"usage: quire search LIBRARY WORDS..."* ]]
    run quire search a b --k none
    [ "$status" = 64 ]
    quire --json library list | jq -e 'type == "array"'
    quire --version | grep -q '^quire [0-9]'
}

@test "the manual: pages without a fault, and quired(8) has the options of quired" {
    local page
    quire help --man >quire.1
    "$root/scripts/doc-tables" man 1 >quire.conf.5
    sed 's/@[a-zA-Z]*@/x/g' "$root/docs/quired.8.in" >quired.8
    for page in quire.1 quire.conf.5 quired.8; do
        run mandoc -Tlint -W warning "$page"
        [ "$output" = "" ]
    done
    diff <(quired --help | grep -oE '^ +(-[a-z], +)?--[a-z]+' | grep -oE -- '--[a-z]+' | sort) \
        <(mandoc -Tutf8 quired.8 | col -b | sed -n '/^OPTIONS/,/^SIGNALS/p' | grep -oE '^ +(-[a-z], +)?--[a-z]+' | grep -oE -- '--[a-z]+' | sort)
    # Each key of the configuration has its paragraph.
    diff <(grep -ohE '^(TEXT|NUMBER|CHOICE|LIMIT|BOUND)\([a-z_0-9]+' "$root"/src/{proc/config,embed/remote,store/limits}.def | cut -d'(' -f2 | sort) \
        <(sed -nE 's/^\\fB([a-z_0-9]+)\\fP = .*/\1/p' quire.conf.5 | sort)
    diff <(quire help --json | jq -r '.commands[].name') <(sed -nE 's/^\\fBquire ([a-z\\ -]+)\\fP.*/\1/p' quire.1 | tr -d '\134')
}

# complete WORD...: what the completion offers for the last of them.
complete_words() {
    quire help --bash >completion.bash
    bash -c '. ./completion.bash
        compopt() { :; }
        COMP_WORDS=(quire "$@") COMP_CWORD=$#
        _quire
        printf "%s\n" "${COMPREPLY[@]}"' complete "$@"
}

@test "completion: commands, options, what options take, libraries, files" {
    quire help --bash | bash -n
    complete_words lib | grep -qx library
    complete_words library '' | grep -qx create
    complete_words library create n --ty | grep -qx -- --type
    complete_words library create n --type '' | grep -qx flat
    complete_words search x --mode l | grep -qx lexical
    quire library create 'my notes'
    complete_words library show my | grep -qx 'my\\ notes'
    complete_words --json search m | grep -qx 'my\\ notes'
    touch a-file.md
    complete_words import 'my notes' a- | grep -qx a-file.md
    quire library delete 'my notes' --yes
}
