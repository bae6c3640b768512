// parts.test.mjs - parts of the page that need no browser.
import assert from 'node:assert/strict';
import buffer from 'node:buffer';
import { webcrypto } from 'node:crypto';
import fs from 'node:fs/promises';
import { test } from 'node:test';
import { kindOf, lineDocument, linesOf, textDocument, titleOf } from '../../src/files.js';
import { frontMatter, withTitle } from '../../src/front.js';
import { highlighter } from '../../src/highlight.js';
import { Problem } from '../../src/lib/api.js';
import { bytes, count, figure, percent, seconds } from '../../src/lib/format.js';
import { languages } from '../../src/library.js';
import { gathered, histograms, parse, rates, total } from '../../src/metrics.js';

// Debian's node 18 has not what browsers have.
globalThis.crypto ??= webcrypto;
globalThis.File ??= buffer.File;

test('a problem says what it can', () => {
    assert.equal(new Problem(503, { detail: 'full', request_id: 'r' }).requestId, 'r');
    assert.equal(new Problem(502, {}).message, 'The server answered with status 502.');
    assert.equal(new Problem(0, { title: 'No answer' }).title, 'No answer');
});

test('numbers, sizes, durations and shares', () => {
    assert.deepEqual([0, 999, 1000, 188416, 3.2e9].map(bytes), ['0 B', '999 B', '1 kB', '188 kB', '3.2 GB']);
    assert.deepEqual([0.0000004, 0.00034, 0.25, 12, 300, 7300, 400000].map(seconds), ['0.4 µs', '340 µs', '250 ms', '12 s', '5 min', '2 h', '5 days']);
    assert.deepEqual([0, 0.5, 0.9999, 1].map(percent), ['0 %', '50 %', '99.9 %', '100 %']);
    assert.deepEqual([figure(1234.5), figure(0.12345), figure(null), count(1234567), count(null)], ['1,235', '0.123', '–', '1,234,567', '–']);
});

test('the languages are those of the server', async () => {
    const source = await fs.readFile(new URL('../../../src/text/language.c', import.meta.url), 'utf8');
    const known = [...source.matchAll(/^ {4}\{"([a-z]+)", /gm)].map(([, name]) => name);
    assert.ok(known.length > 20);
    assert.deepEqual([...languages].sort(), known.sort());
});

const marks = (query, text, language) => highlighter(query, language)(text).filter(([, wanted]) => wanted).map(([word]) => word);

test('words of the query are marked in any of their endings, stop words are not', () => {
    assert.deepEqual(marks('why is my bread not rising', 'Bread rises; the breads rise. My bread is not a rice.'), ['Bread', 'rises', 'breads', 'rise', 'bread']);
    assert.deepEqual(marks('running cities', 'A runner runs in the city, run!'), ['runner', 'runs', 'city', 'run']);
    assert.deepEqual(marks('the who', 'The who and the what'), ['The', 'who', 'the']);
    assert.deepEqual(marks('cafe', 'A CAFÉ'), ['CAFÉ']);
    assert.deepEqual(marks('Vögel füttern', 'Der Vogel wird gefüttert, Vögel auch', 'german'), ['Vogel', 'Vögel']);
    assert.deepEqual(marks('crusts', 'crust crusts', 'none'), ['crusts']);
    assert.deepEqual(marks('東京 ガイド', '東京の旅行ガイド'), ['東京', 'ガイド']);
    assert.deepEqual(marks('', 'nothing'), []);
    const text = '<b>Bread</b> & 𝒳 butter';
    assert.equal(highlighter('bread')(text).map(([piece]) => piece).join(''), text);
});

const reading = (n, more = '') => parse(`# HELP x_seconds How long.\n# TYPE x_seconds histogram\nx_seconds_bucket{route="a \\"b\\"",le="0.1"} ${n}\nx_seconds_bucket{route="a \\"b\\"",le="1"} ${2 * n}\nx_seconds_bucket{route="a \\"b\\"",le="+Inf"} ${2 * n}
x_seconds_sum{route="a \\"b\\""} 3\nx_seconds_count{route="a \\"b\\""} ${2 * n}\n# TYPE c_total counter\nc_total{class="2xx",m="a"} ${n}\nc_total{class="2xx",m="b"} ${n}\nc_total{class="5xx"} 1\n# TYPE g gauge\ng 7\nbad line\n${more}`);

test('metrics: families, labels, rates, quantiles', () => {
    const before = reading(10);
    const after = reading(30);
    assert.deepEqual([total(after, 'g'), total(after, 'c_total'), total(after, 'none')], [7, 61, 0]);
    assert.deepEqual([...rates(before, after, 'c_total', 'class', 2)], [['2xx', 20], ['5xx', 0]]);
    assert.deepEqual([...rates(before, after, 'c_total', null, 2).values()], [20]);
    const [histogram] = histograms(after).values();
    assert.deepEqual(histogram.labels, { route: 'a "b"' });
    const part = gathered(histograms(before).get(histogram.id), histogram);
    assert.equal(part.count, 40);
    assert.equal(part.quantile(0.5), 0.1);
    assert.ok(Math.abs(part.quantile(0.75) - 0.55) < 1e-9);
    assert.equal(gathered(histogram, histogram).quantile(0.5), null);
});

test('metrics: after a restart counters begin anew', () => {
    assert.deepEqual([...rates(reading(30), reading(5), 'c_total', 'class', 1)], [['2xx', 10], ['5xx', 0]]);
    const [[id, before]] = histograms(reading(30));
    assert.equal(gathered(before, histograms(reading(5)).get(id)).count, 10);
});

test('files: kinds and titles as quire import has them', () => {
    assert.deepEqual(['a.MD', 'b.txt', 'c.jsonl', 'd.rst', 'e.pdf', 'f.HTM', 'g.html', 'README'].map(kindOf), ['markdown', 'text', 'ndjson', 'text', 'pdf', 'html', 'html', 'other']);
    assert.equal(titleOf('intro\n\n##  The title  \n', 'x.md'), 'The title');
    assert.equal(titleOf('#\nno heading #x', 'notes.of.may.txt'), 'notes.of.may');
    assert.ok(new TextEncoder().encode(titleOf(`# ${'ä'.repeat(300)}`, 'x.md')).length <= 200);
});

test('files: lines of NDJSON, whole and numbered, with ids that stay the same', async () => {
    const lines = [];
    for await (const { text, number } of linesOf(new Blob(['{"a":1}\r\n\n{"title":"ä"}', '\n{"id":"x"}']))) lines.push([number, text]);
    assert.deepEqual(lines, [[1, '{"a":1}'], [3, '{"title":"ä"}'], [4, '{"id":"x"}']]);
    await assert.rejects(async () => {
        for await (const line of linesOf(new Blob([new Uint8Array([0x61, 0x0a, 0xff, 0x0a])]))) assert.ok(line);
    }, /not UTF-8/);
    assert.equal(await lineDocument('{"id":"x"}'), '{"id":"x"}');
    const made = JSON.parse(await lineDocument('{"title":"Rice"}'));
    assert.match(made.id, /^ndjson:[0-9a-f]{32}$/);
    assert.equal(made.id, JSON.parse(await lineDocument('{"title":"Rice"}')).id);
    await assert.rejects(() => lineDocument('[1]'), /not a JSON object/);
});

test('files: front matter becomes members of the document and leaves the text', async () => {
    const text = '---\ntitle: "The pond: a survey"\nauthors: [Ida, Jon]\ntags:\n  - birds\n  - "wet land"\nyear: 2024\npath: /etc\nnested:\n  deep: x\n__proto__: y\n---\n# Heading\n\n---\n\nHerons.\n';
    assert.equal(frontMatter(text).text, '# Heading\n\n---\n\nHerons.\n');
    const { document } = await textDocument({ file: new File([text], 'pond.md'), path: 'notes/pond.md' });
    assert.deepEqual([document.title, document.author, document.tags, document.metadata.year, document.metadata.path], ['The pond: a survey', 'Ida, Jon', ['birds', 'wet land'], 2024, 'notes/pond.md']);
    assert.equal(document.metadata.deep, undefined);
    assert.equal(document.metadata.__proto__, 'y');
    assert.equal(document.text, '# The pond: a survey\n\n# Heading\n\n---\n\nHerons.\n');
    for (const plain of ['---\nno end', 'a\n---\nb: c\n---\n', '----\nb: c\n---\n', '', '---\nA rule, no front matter\n\n---\nafter rule', '---\n- a\n  b: c\n---\n']) assert.deepEqual([frontMatter(plain).text, frontMatter(plain).warning], [plain, null]);
    for (const empty of ['---\na: b\n---\n', '---\ntitle: T\n---\n \n', ' \n', '']) assert.equal(await textDocument({ file: new File([empty], 'only.md'), path: 'only.md' }), null);
});

test('files: values of front matter are what quire import takes them for', () => {
    for (const [yaml, wanted] of [
        ['k: false', false], ['k: true', true], ['k: null', undefined], ['k: ~', undefined], ['k:', undefined], ['k: 12', 12], ['k: -1.5', -1.5], ['k: 007', '007'], ['k: 1e5', '1e5'], ['k: 1234567890123456', '1234567890123456'],
        ['k: plain # said', 'plain'], ['k: a#b', 'a#b'], ['k: "a # b"', 'a # b'], ["k: 'It''s'", "It's"], ['k: "a \\"b\\" c"', 'a "b" c'], ['k: "a\\nb"', 'a b'], ['k: "false"', 'false'],
        ['k: [Foo, "Bar, Baz"]', ['Foo', 'Bar, Baz']], ["k: [it's, 'it''s', 3, true, null]", ["it's", "it's", 3, true]], ['k: []', undefined],
        ['k:\n  - a\n  - "b, c"\n    - deeper\n\n  - 3', ['a', 'b, c', 3]], ['k:\n- a\n- b', ['a', 'b']], ['k: [a, "b], c", [b, c], d', ['a', 'b], c', '[b', 'c']], ['k:\n  deep: x', undefined], ['k: {a: b}', undefined], ['k: &x y', undefined],
        ['k: >-\n  one\n  two\n\n  three', 'one two\nthree'], ['k: |\n  one\n    two\n\n  three', 'one\n  two\n\nthree'], ['k: |-\n  # one', '# one'], ['k: "#tag1 #tag2"', '#tag1 #tag2'],
    ]) {
        const { values, text, warning } = frontMatter(`---\r\n${yaml.replaceAll('\n', '\r\n')}\r\nlast: 1\r\n...\r\nbody`);
        assert.deepEqual([values.k, values.last, text, warning], [wanted, 1, 'body', null], yaml);
    }
});

test('files: title, author and tags of front matter', async () => {
    const made = async (yaml) => (await textDocument({ file: new File([`---\n${yaml}\n---\nBody.\n`], 'n.md'), path: 'n.md' })).document;
    assert.deepEqual((await made('tags: "#tag1 #tag2"')).tags, ['#tag1 #tag2']);
    assert.deepEqual((await made('Keywords: a b, c')).tags, ['a b', 'c']);
    assert.deepEqual((await made('tags: [Foo, "Bar, Baz", 7]')).tags, ['Foo', 'Bar, Baz', '7']);
    assert.equal((await made('author: [Ida, Jon]')).author, 'Ida, Jon');
    assert.equal((await made('title: |\n  x\n  y')).title, 'x y');
    assert.deepEqual([(await made('title: 1984')).title, (await made('title: ""')).title], ['1984', 'n']);
});

test('files: front matter that cannot be read whole stays in the text, with a warning', async () => {
    for (const yaml of ['title: "Unclosed', "title: 'Unclosed", 'tags: [a, b', 'tags: [a, "b]', 'list:\n  - "a']) {
        const text = `---\ndraft: true\n${yaml}\n---\nBody.\n`;
        const { document, warning } = await textDocument({ file: new File([text], 'n.md'), path: 'n.md' });
        assert.deepEqual([document.text, document.title, document.metadata.draft], [text, 'n', undefined], yaml);
        assert.match(warning, /^its front matter cannot be read whole and stays in the text: the value of '(title|tags|list)' has a quotation mark or a bracket that is not closed$/);
    }
});

test('files: a title that only front matter says is put in front of the text', () => {
    for (const body of ['# The  pond\n\nHerons.', '\n\n## the POND ##\r\nHerons.']) assert.equal(withTitle('The Pond', body), body);
    for (const body of ['Herons.', '# A pond', 'The Pond\n', '#The Pond', '\nHerons.\n\n# The Pond']) assert.equal(withTitle('The Pond', body), `# The Pond\n\n${body}`);
});
