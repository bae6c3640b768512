#!/usr/bin/env bats
# cli.bats - the `quire` command: its table of commands and what is made of it (help, completion, manual), and what each command does.

bats_require_minimum_version 1.5.0
load common

setup_file() {
    load common
    start_instance --set workers=4 --set auth=on --set snapshot_interval=0 --set snapshot_every_ops=0 \
        --set query_deadline_ms=200 --set model.away.url=http://127.0.0.1:1 --set model.away.dialect=tei --set model.away.dimension=8
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

@test "every operation of the description has its command, and no command another" {
    diff <(jq -r '.paths[][] | objects | .operationId // empty' "$root/data/openapi.json" | sort -u) \
        <(quire help --json | jq -r '.commands[].calls[]' | sort -u)
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
    [[ $output == *"usage: quire search LIBRARY [WORDS]..."* ]]
    run quire search a b --k none
    [ "$status" = 64 ]
    quire --json library list | jq -e 'type == "array"'
    quire --version | grep -q '^quire [0-9]'
    [ "$(quire version)" = "$(quire --version)" ]
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

@test "libraries: made, changed, shown, rebuilt, optimized, removed; errors once, with what to do" {
    run quire library create ''
    [ "$status" = 65 ]
    [ "$(grep -o 'must not be empty' <<<"$output" | wc -l)" = 1 ]
    local first second
    first=$(quire library create twin --json | jq -r .id)
    second=$(quire library create twin --json 2>warned | jq -r .id)
    grep -q "'twin' was taken before, by $first:" warned
    run quire library show twin
    [ "$status" = 65 ]
    [[ $output == *"2 libraries have the name 'twin'"*"$first"* && $output == *"$second"* ]]
    quire library delete "$first" --yes
    quire library delete "$second" --yes
    quire library create one --metadata '{"shelf": 3}' --ef-search 99 --body '{"quantization": {"strategy": "none"}}'
    quire library update one --name uno --description 'the first' --m 20
    quire library show uno | grep -q 'description  the first'
    [ "$(quire library show uno --json | jq -c '.metadata.custom, .metadata.quantization.strategy')" = '{"shelf":3}
"none"' ]
    quire library stats uno | grep -q '^num_documents  *0$'
    [ "$(quire library stats uno --index --json | jq .index_config.ef_search)" = 99 ]
    quire library rebuild uno --ef-construction 50 --wait
    [ "$(quire library stats uno --index --json | jq -c '.index_config | [.M, .ef_construction]')" = '[20,50]' ]
    quire library optimize uno --wait --json | jq -e '.state == "succeeded"'
    run quire library update uno
    [ "$status" = 64 ]
    run quire library delete uno </dev/null
    [ "$status" = 64 ]
    quire library delete uno --yes
    run quire library show uno
    [ "$status" = 66 ]
    QUIRE_KEY='' run quire library list
    [ "$status" = 77 ]
    [[ $output == *QUIRE_KEY* ]]
    QUIRE_KEY=qk_wrong run quire library list
    [ "$status" = 77 ]
    [[ $output == *QUIRE_KEY* ]]
    QUIRE_URL=https://127.0.0.1:1 run quire library list
    [ "$status" = 69 ]
    [[ $output == *QUIRE_URL* ]]
}

@test "documents and chunks: one by one, several, and by ids that the server made" {
    quire library create docs
    run quire document add docs - <<<'[{"id":"bread","title":"Bread","author":"Ida","texts":["It rises slowly."]},{"title":"Nothing in it"}]'
    [ "$status" = 65 ]
    [[ $output == *"1 done, 1 failed"* ]]
    echo '{"title":"Pan","texts":["Oil the pan."],"chunk_ids":["p1"]}' | quire document add docs -
    run quire document add docs - <<<'{nonsense'
    [ "$status" = 65 ]
    [ "$(quire document list docs --json | jq length)" = 2 ]
    [ "$(quire document list docs --limit 1 | wc -l)" = 1 ]
    [ "$(quire document list docs --json --filter '{"field":"author","operator":"eq","value":"Ida"}' | jq -r '.[].id')" = bread ]
    local made
    made=$(quire document list docs --json | jq -r '.[1].id')
    quire document get "$made" | grep -q 'Oil the pan.'
    quire document get docs bread --vectors --json | jq -e '.chunks[0].embedding | length == 256'
    quire document update docs bread --title 'White bread' --tag baking --tag slow --metadata '{"page": 3}'
    [ "$(quire document get docs bread --json | jq -c '.metadata | [.title, .tags, .page]')" = '["White bread",["baking","slow"],3]' ]
    echo '{"title":"Pot","texts":["Wash the pot."],"chunk_ids":["p2"]}' >pot.json
    quire document put docs "$made" pot.json
    quire chunk get docs p2 none | grep -q 'Wash the pot.'
    [ "$(quire chunk get docs p2 --json | jq -r .text)" = 'Wash the pot.' ]
    run quire chunk get docs none
    [ "$status" = 66 ]
    quire chunk delete docs p2 --json | jq -e '.deleted == 1'
    run quire document delete docs bread none
    [ "$status" = 65 ]
    [[ $output == *"no document none"* ]]
    run quire document delete docs bread
    [ "$status" = 66 ]
    quire document add docs pot.json
    made=$(quire document list docs --json | jq -r '.[-1].id')
    quire document delete --anywhere "$made"
    quire document add docs pot.json
    run quire document delete --anywhere "$(quire document list docs --json | jq -r '.[-1].id')" 01890000-0000-7000-8000-000000000000
    [[ $output == *"1 done, 1 failed"* ]]
    quire library create own --model none
    echo '[{"id":"p","title":"Points","chunks":[{"text":"east","embedding":[1,0]},{"text":"north","embedding":[0,1]}]}]' | quire document add own -
    echo '{"title":"More","chunks":[{"text":"west","embedding":[-1,0]}]}' | quire document add own -
    echo '[0.1, 1]' | quire search own --embedding - -k 1 --json | jq -e '.results[0].chunk.text == "north"'
    quire library delete docs --yes
    quire library delete own --yes
}

@test "search: every option reaches the server; what it was answered by is said" {
    quire library create food
    quire library create tools
    echo '[{"id":"bread","title":"Bread","author":"Ida","metadata":{"page":12},"texts":["Bread rises slowly in a cold kitchen.","Steam makes the crust."]},
           {"id":"tea","title":"Tea","author":"Bo","metadata":{"page":2},"texts":["Green tea wants water below the boil."]}]' | quire document add food -
    echo '{"id":"pan","title":"Pan","texts":["A cast-iron pan wants oil."]}' | quire document add tools -
    hits() { quire search "$@" --json | jq -r '[.results[].document_id] | join(" ")'; }
    [ "$(hits food kitchen -k 1)" = bread ]
    [ "$(hits food kitchen --where 'page lt 10')" = tea ]
    [ "$(hits food kitchen --where 'author eq Ida' --where 'page gte 12' --mode lexical)" = bread ]
    [ "$(hits food kitchen --where 'author in ["Bo"]' --filter '{"not": {"field": "id", "operator": "eq", "value": "x"}}')" = tea ]
    [ "$(hits food bread or tea --group | wc -w)" = 2 ]
    [ "$(hits food bread --offset 2 --mmr 0.5 --exact --ef-search 10 | wc -w)" = 1 ]
    [ "$(hits food kitch --prefix --mode lexical)" = bread ]
    [ "$(hits food bread --threshold 0.0001 | wc -w)" = 0 ]
    [ "$(hits tools iron tea --also food -k 2 | tr ' ' '\n' | sort | xargs)" = "pan tea" ]
    quire search food bread --fusion weighted --weight 0.9 --explain --json | jq -e '.results[0].explain.fused.method == "weighted"'
    quire search food bread --fusion rrf --body '{"bm25": {"k1": 2, "b": 0.5}}' --vectors --min-lsn 1 --json | jq -e '.results[0].chunk.embedding | length == 256'
    printf 'kitchen\n\ngreen tea\n' >questions
    [ "$(quire search food --batch questions -k 1 --json | jq -r '[.results[].results[0].document_id] | join(" ")')" = "bread tea" ]
    quire search food --batch questions | grep -q '^query 2'
    quire embed 'cold kitchen' >vector
    [ "$(hits food --embedding vector -k 1)" = bread ]
    run quire search food x --where 'author'
    [ "$status" = 65 ]
    run quire search food
    [ "$status" = 64 ]
    quire models | grep -q '^static-en .*256'
    quire library delete food --yes
    quire library delete tools --yes
}

@test "search: a model that is away is told of, on standard error" {
    quire library create remote --model away
    echo '{"title":"Bread","texts":["It rises slowly."]}' | quire document add remote -
    run --separate-stderr quire search remote rises
    [ "$status" = 0 ]
    [[ $output == *Bread*lexical* ]]
    [[ $stderr == *"answered by the words alone"* ]]
    run --separate-stderr quire search remote rises --mode lexical
    [ -z "$stderr" ]
    quire library delete remote --yes
}

@test "keys and exports: for programs, too" {
    local made
    made=$(quire key create 'a reader' --scope read --json)
    quire key list | grep -q 'a reader'
    QUIRE_KEY=$(jq -r .secret <<<"$made") quire library list --json | jq -e 'type == "array"'
    quire key revoke "$(jq -r .id <<<"$made")" --json | jq -e '. == {}'
    quire library create from
    echo '{"id":"a","title":"A","texts":["Some text."]}' | quire document add from -
    quire export from --vectors >with.ndjson
    jq -e '.embeddings | length == 1' with.ndjson
    [ "$(quire import to with.ndjson --json | jq .added)" = 1 ]
    quire library delete from --yes
    quire library delete to --yes
}

@test "the server: health, status, metrics, tasks, any call" {
    QUIRE_KEY='' quire health | grep -qx ready
    quire health --up --json | jq -e '.status == "healthy"'
    quire health --live
    quire status | grep -q '^wal.lsn'
    quire metrics | grep -q '^# TYPE quire_'
    quire openapi | jq -e '.info.title == "Quire"'
    quire library create tasks
    local task
    task=$(quire library optimize tasks --json | jq -r .id)
    quire task wait "$task"
    quire task show "$task" | grep -q 'succeeded'
    quire task list | grep -q "$task"
    run quire task cancel "$task"
    [ "$status" -le 65 ]
    run quire task show 01890000-0000-7000-8000-000000000000
    [ "$status" = 66 ]
    [ "$(quire call get '/v1/libraries?limit=1' | jq length)" = 1 ]
    echo '{"name": "by call"}' | quire call POST /v1/libraries -
    quire reembed tasks --wait
    quire reembed tasks --rollback --wait
    quire reembed tasks --wait
    quire reembed tasks --drop
    quire library delete tasks --yes
    quire library delete 'by call' --yes
}

@test "backup: taken, verified, copied with what it rests on, restored on trial; a broken copy is found" {
    quire library create kept
    echo '{"id":"a","title":"A","texts":["The first text."]}' | quire document add kept -
    quire snapshot create --wait
    quire snapshot verify --wait
    quire backup copies/ | grep -q 'restored on trial'
    echo '{"id":"b","title":"B","texts":["The second text."]}' | quire document add kept -
    quire backup copies --json | jq -e '.documents >= 2 and .copied >= 1'
    quire verify copies | grep -q ' documents'
    quire backup copies --latest --json | jq -e '.copied == 0'
    local newest
    newest=$(quire snapshot list --json | jq -r '.[0].name')
    quire snapshot download "$newest" here
    cmp here "copies/$newest"
    quire restore copies --into data | grep -q ' documents'
    run quire snapshot download none here
    [ "$status" != 0 ]
    [ ! -e here.part ]
    printf 'x' | dd of="copies/$newest" bs=1 seek=200 conv=notrunc status=none
    run quire verify copies
    [ "$status" = 65 ]
    run quire backup no/such/directory/file
    [ "$status" != 0 ]
    quire library delete kept --yes
}

# a_pdf FILE TEXT: a page with that text.
a_pdf() {
    python3 - "$1" "$2" <<'PY'
import sys
body = b"BT /F1 12 Tf 72 700 Td (" + sys.argv[2].encode() + b") Tj ET"
objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
           b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
           b"<</Length %d>>stream\n" % len(body) + body + b"\nendstream", b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
out, at = b"%PDF-1.4\n", []
for number, text in enumerate(objects, 1):
    at.append(len(out))
    out += b"%d 0 obj" % number + text + b"endobj\n"
xref = len(out)
out += b"xref\n0 6\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % o for o in at)
open(sys.argv[1], "wb").write(out + b"trailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % xref)
PY
}

counts() { jq -c '[.added, .replaced, .already_there, .failed, .removed]'; }

@test "import: a directory of all kinds, again, with changes, and what is gone" {
    mkdir -p notes/sub/.hidden
    printf -- '---\ntitle: Kites\ntags: [toys]\nyear: 2026\n---\n# Heading\n\nKites want wind.\n' >notes/kites.md
    printf '<html><head><title>Whales</title></head><body><script>x</script><h2>At sea</h2><p>Whales sing.</body></html>' >notes/sub/whales.html
    printf 'Plain text on tea.\n' >notes/sub/tea.txt
    printf '{"id":"line","title":"Line","texts":["Of NDJSON."]}\n' >notes/lines.ndjson
    a_pdf notes/volcano.pdf 'Volcanoes erupt.'
    touch notes/empty.txt notes/picture.png
    echo secret | tee notes/.hidden.txt >notes/sub/.hidden/a.txt
    ln -s nowhere notes/dangling
    ln -s kites.md notes/linked.md
    run quire import notes notes
    [ "$status" = 0 ]
    [[ $output == *"5 added"*"0 failed"* ]]
    [[ $output == *"1 of other kinds, 2 hidden, 1 without text, 2 symbolic links"* ]]
    [[ $output == *"notes/dangling: a link that leads nowhere"* ]]
    [ "$(quire import notes notes --json | tee again | counts)" = '[0,0,5,0,0]' ]
    [ "$(jq .passed_over.dangling_links again)" = 1 ]
    quire document get notes "file:$(realpath notes/kites.md)" --json >kites
    [ "$(jq -c '.metadata | [.title, .tags, .year, .path]' kites)" = '["Kites",["toys"],2026,"kites.md"]' ]
    [ "$(jq -r '.chunks[0].text' kites | head -n 1)" = '# Kites' ]
    [ "$(quire search notes whales -k 1 --json | jq -r '.results[0] | .document_title + "|" + .chunk.metadata.section')" = 'Whales|Whales > At sea' ]
    quire search notes kites -k 1 >shown
    head -n 1 shown | grep -qF " 1. Kites  $(realpath notes/kites.md)  (score "
    tail -n 1 shown | grep -q '^1 hit in '
    [ "$(quire search notes volcanoes -k 1 --json | jq -r '.results[0].document_title')" = volcano ]
    echo 'And string.' >>notes/kites.md
    rm notes/sub/tea.txt
    [ "$(quire import notes notes --json | counts)" = '[0,1,3,0,0]' ] # tea is left in it
    [ "$(quire import notes notes/ --sync -x '*.pdf' --json | counts)" = '[0,0,3,0,2]' ]
    [ "$(quire document list notes --json | jq length)" = 3 ]
    [ "$(quire import notes notes --stream --json | counts)" = '[1,1,2,0,0]' ] # a stream replaces lines
    [ "$(quire import notes notes --replace --json | counts)" = '[0,4,0,0,0]' ]
    # Elsewhere nothing is touched; and an empty directory is not taken at its word.
    mkdir other
    quire import notes other --sync --json | jq -e '.removed == 0'
    mv notes away
    mkdir notes
    run quire import notes notes --sync
    [ "$status" = 65 ]
    [[ $output == *"nothing was removed"*"--yes"* ]]
    [ "$(quire import notes notes --sync --yes --json | counts)" = '[0,0,0,0,3]' ]
    quire library delete notes --yes
}

@test "import: without pdftotext; what cannot be read; one file; standard input; a key that may only write" {
    mkdir things
    a_pdf things/a.pdf 'Not read.'
    printf '%%PDF-1.4 broken' >broken.pdf
    printf 'Some text.\n' >things/b.txt
    printf '\377\376' >latin.txt
    local quire
    quire=$(command -v quire)
    PATH=/nowhere run "$quire" import things things
    [ "$status" = 0 ]
    [[ $output == *"1 PDF (pdftotext is not there"* ]]
    # What was made of a PDF where pdftotext was there is not gone because it is not here.
    [ "$(quire import things things --json | counts)" = '[1,0,1,0,0]' ]
    PATH=/nowhere run "$quire" import things things --sync
    [ "$status" = 0 ]
    [[ $output == *"0 removed"* ]]
    run quire import things broken.pdf
    [ "$status" = 65 ]
    [[ $output == *"broken.pdf: pdftotext cannot read it"* ]]
    run quire import things latin.txt
    [ "$status" = 65 ]
    [[ $output == *"latin.txt: not UTF-8"* ]]
    [ "$(printf '{"title":"a","texts":["b"]}\n' | quire import things - --json | counts)" = '[1,0,0,0,0]' ]
    # What is refused is told by file and line, in their order, with what to do.
    printf '%s\n' '{"title":"c","texts":["d"]}' '{"title":"e","texts":["f"],"metadata":{"tags":["x"]}}' '{"title' '{"title":"g","texts":["h"],"year":1}' >lines.ndjson
    local how
    for how in --jobs=2 --stream; do
        run quire import things lines.ndjson "$how"
        [ "$status" = 65 ]
        [[ ${lines[0]} == *"lines.ndjson:2: /metadata/tags: "*": put tags at the top level" ]]
        [[ ${lines[1]} == *"lines.ndjson:3: not a JSON object"* ]]
        [[ ${lines[2]} == *"lines.ndjson:4: /year: "*": put it under metadata" ]]
    done
    [ "$(quire import things things/b.txt --json | counts)" = '[0,0,1,0,0]' ]
    run quire import things things/b.txt --sync
    [ "$status" = 64 ]
    local id
    id=$(quire library show things --json | jq -r .id)
    QUIRE_KEY=$(quire key create writer --scope write --json | jq -r .secret)
    run quire import things things
    [ "$status" = 77 ]
    [[ $output == *"give the id"* ]]
    [ "$(quire import "$id" things --json | jq .failed)" = 0 ]
    run quire import "$id" things --sync
    [ "$status" = 77 ]
    # shellcheck disable=SC1091 # made by scripts/serve
    . "$instance/env"
    quire library delete things --yes
}

# The operations of the description whose path the access log does not have, with its paths as patterns.
uncalled() {
    sed -nE 's/.*"([A-Z]+) ([^ ?"]+)[^"]*" [0-9]+.*/\1 \2/p' "$instance/logs/quire_access.log" | sort -u >called
    local operation method path pattern
    while read -r operation method path; do
        pattern=$(sed -E 's/\{[a-z]+\}/[^\/]+/g; s/\./\\./g' <<<"$path")
        grep -qE "^$method $pattern\$" called || echo "no command made $operation: $method $path"
    done < <(jq -r '.paths | to_entries[] | .key as $path | .value | to_entries[] | select(.value | objects | .operationId) |
        "\(.value.operationId) \(.key | ascii_upcase) \($path)"' "$root/data/openapi.json")
}
all_were_called() { [ -z "$(uncalled)" ]; }

@test "every operation of the description was really called by the commands above" {
    until_true 10 all_were_called || { # nginx writes its log once a second
        uncalled
        false
    }
}
