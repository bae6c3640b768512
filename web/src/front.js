// front.js - YAML front matter, what stands between two lines "---" at the begin of a Markdown file, by the rules of `quire import` (src/cli/import_front.c).
//
// A small part of YAML, the one that such files have: "key: value" at the left edge, where a value is a scalar (plain, or in quotes), a list in brackets, or a list of lines "- value" below; also an indented
// text below "|", which keeps its lines, and below ">", which makes one of them. What is nested deeper is passed over. A value whose end is missing makes all of it stay in the text: nothing is lost then.

const frontMax = 64 * 1024;
const valueMax = 4096;
const listMax = 100;
const numberChars = 15;
const utf8 = new TextEncoder();

export const control = /\p{Cc}/u;

/** A text of at most so many bytes of UTF-8. */
export function cut(text, most) {
    if (text.length * 3 <= most || utf8.encode(text).length <= most) return text;
    let bytes = 0;
    let kept = '';
    for (const character of text) {
        bytes += utf8.encode(character).length;
        if (bytes > most) break;
        kept += character;
    }
    return kept;
}

const trim = (text) => text.replace(/^[ \t\r\n\v\f]+|[ \t\r\n\v\f]+$/g, '');

/** A text as a value, or null. Ends of lines may be in it. */
function textValue(text) {
    const value = cut(text, valueMax);
    return control.test(value.replaceAll('\n', '')) ? null : value;
}

// A comment begins with # at the begin or behind a blank.
const withoutComment = (text) => trim(text.replace(/(^|[ \t])#.*$/, ''));

class Unclosed extends Error {}

/** What stands in quotes at the begin: {value, length} with the quotes. */
function unquote(text) {
    const quote = text[0];
    let value = '';
    for (let i = 1; i < text.length; i += 1) {
        const c = text[i];
        const next = text[i + 1];
        if (quote === "'" && c === "'" && next === "'") {
            value += "'";
            i += 1;
        } else if (c === quote) return { value, length: i + 1 };
        else if (quote === '"' && c === '\\' && next !== undefined) {
            value += next === 'n' || next === 't' ? ' ' : next;
            i += 1;
        } else value += c;
    }
    throw new Unclosed();
}

/** Numbers and truth as such, unless they would not come back as they were written (007, 1e9999, a long row of digits). */
function plainValue(text) {
    if (text === 'true' || text === 'false') return text === 'true';
    if (text === '' || text === 'null' || text === '~') return null;
    if (text.length <= numberChars && !/^0[^.]/.test(text) && /^-?(\d+|\d*\.\d+)$/.test(text)) return Number(text);
    return textValue(text);
}

/** A scalar; null where there is none, or what this does not read. */
function scalar(text) {
    if (text === '') return null;
    if (text[0] === '"' || text[0] === "'") return textValue(unquote(text).value);
    const plain = withoutComment(text);
    return /^[{&*!]/.test(plain) ? null : plainValue(plain);
}

/** "[a, 'b, c']" on one line. */
function inlineList(text) {
    const list = [];
    let begin = 1;
    for (let i = 1; i < text.length; i += 1) {
        const c = text[i];
        if ((c === '"' || c === "'") && trim(text.slice(begin, i)) === '') i += unquote(text.slice(i)).length - 1;
        else if (c === ',' || c === ']') {
            const value = scalar(trim(text.slice(begin, i)));
            if (value !== null && list.length < listMax) list.push(value);
            begin = i + 1;
            if (c === ']') return list;
        }
    }
    throw new Unclosed();
}

const isItem = (text) => text === '-' || text.startsWith('- ');
const indentOf = (line) => /^[ \t]*/.exec(line)[0].length;

/** What stands below a key: lines of more indent than the key's, or "- " at the same. {below: [indent, text] of each, next}: the number of the line behind them. */
function linesBelow(lines, from, items) {
    const below = [];
    let next = from;
    for (; next < lines.length; next += 1) {
        const text = trim(lines[next]);
        const indent = indentOf(lines[next]);
        if (text !== '' && indent === 0 && !(items && isItem(text))) break;
        below.push([indent, text]);
    }
    return { below, next };
}

/** The text below "|", with its lines, or ">", which makes one of them. An empty one between two is an end of a line in both. */
function blockText(below, folded) {
    let text = '';
    let least = 0;
    let blanks = 0;
    for (const [indent, line] of below) {
        if (line === '') blanks += text === '' ? 0 : 1;
        else {
            if (text === '') least = indent;
            else text += '\n'.repeat(blanks + (folded ? 0 : 1)) || ' ';
            text += (folded ? '' : ' '.repeat(Math.max(0, indent - least))) + line;
            blanks = 0;
        }
    }
    return text === '' ? null : textValue(text);
}

/** The first line decides whether it is a list, and how deep. */
function blockList(lines) {
    const below = lines.filter(([, text]) => text !== '');
    const list = [];
    if (below.length === 0 || !isItem(below[0][1])) return list;
    for (const [indent, text] of below) {
        const value = isItem(text) && indent === below[0][0] ? scalar(trim(text.slice(2))) : null;
        if (value !== null && list.length < listMax) list.push(value);
    }
    return list;
}

/** Calls take(key, value) for each "key: value" that says something. */
function readYaml(lines, take) {
    for (let i = 0; i < lines.length;) {
        const pair = keyLine(lines[i]);
        i += 1;
        if (!pair) continue;
        const rest = trim(pair[2] ?? '');
        const block = /^[|>]/.test(rest);
        let value;
        try {
            if (block || rest === '' || rest[0] === '#') {
                const { below, next } = linesBelow(lines, i, !block);
                i = next;
                value = block ? blockText(below, rest[0] === '>') : blockList(below);
            } else value = rest[0] === '[' ? inlineList(rest) : scalar(rest);
        } catch (error) {
            throw error instanceof Unclosed ? new Unclosed(`the value of '${pair[1]}' has a quotation mark or a bracket that is not closed`) : error;
        }
        if (value !== null && !(Array.isArray(value) && value.length === 0)) take(pair[1], value);
    }
}

function keyLine(line) {
    return /^([A-Za-z0-9_-]{1,63}):(?:[ \t](.*))?$/.exec(line);
}

/**
 * {values, text, warning}: what the front matter says by its keys, the text behind it, and null. Where there is none (no line "key:" in it, or no end of it) there are no values and the text is whole;
 * so it is, too, where it cannot be read whole, and then `warning` says why.
 */
export function frontMatter(text) {
    const values = Object.create(null);
    const whole = { values, text, warning: null };
    const begin = /^---[ \t\r]*\n/.exec(text);
    if (!begin) return whole;
    const lines = [];
    for (let at = begin[0].length; at < text.length && at < frontMax;) {
        const found = text.indexOf('\n', at);
        const stop = found < 0 ? text.length : found;
        const line = text.slice(at, stop).replace(/[ \t\r\v\f]+$/, '');
        if (line === '---' || line === '...') {
            if (!lines.some(keyLine)) return whole;
            try {
                readYaml(lines, (key, value) => { values[key] = value; });
            } catch (error) {
                if (!(error instanceof Unclosed)) throw error;
                return { values: Object.create(null), text, warning: `its front matter cannot be read whole and stays in the text: ${error.message}` };
            }
            return { values, text: text.slice(stop + 1), warning: null };
        }
        lines.push(line);
        at = stop + 1;
    }
    return whole;
}

// What the server or the import itself says; a key of this name says nothing.
const keptNames = new Set(['id', 'created_at', 'document_type', 'source_url', 'path', 'content_sha256', 'format', 'section', 'start', 'end', 'page_number', 'chunk_index']);

/** One string of a scalar or a list, or null. */
function joined(value) {
    return textValue([value].flat().map(String).join(', ').replaceAll('\n', ' ')) || null;
}

/** A list of strings of a list, or of "a, b". */
function tagsOf(value) {
    return (Array.isArray(value) ? value.map(String) : String(value).split(',').map(trim)).filter((tag) => tag !== '');
}

/** Puts what front matter says into a document as its members: title, author and tags, all else as metadata. */
export function describe(document, values) {
    for (const [key, value] of Object.entries(values)) {
        const name = key.toLowerCase();
        if (name === 'title') document.title = joined(value) ?? document.title;
        else if (name === 'author' || name === 'authors') document.author = joined(value) ?? document.author;
        else if (name === 'tags' || name === 'keywords') {
            const tags = tagsOf(value);
            if (tags.length > 0) document.tags = tags;
        } else if (!keptNames.has(name)) document.metadata[key] = value;
    }
}

const words = (text) => text.toLowerCase().split(/\s+/).filter(Boolean).join(' ');

/** The text with the title as a heading in front of it, unless it begins with that: words are looked for in texts. */
export function withTitle(title, text) {
    const line = /^[^\S\n]*\S.*$/m.exec(text)?.[0] ?? '';
    const heading = /^\s*#{1,6}\s+(.*?)(?:\s+#+)?\s*$/.exec(line);
    return heading && words(heading[1]) === words(title) ? text : `# ${title}\n\n${text}`;
}
