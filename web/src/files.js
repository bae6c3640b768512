// files.js - from files to documents, as `quire import` makes them: text and Markdown become one document each, NDJSON one a line.
//
// Ids are made so that the same file dropped again is the same document: file:PATH of a text, ndjson:HASH of a line that brings no id of its own.

const largestFile = 16 * 1024 * 1024;
const titleMax = 200;
const idMax = 128;
const utf8 = new TextEncoder();

export function kindOf(name) {
    const dot = name.lastIndexOf('.');
    switch (dot < 0 ? '' : name.slice(dot + 1).toLowerCase()) {
    case 'ndjson':
    case 'jsonl':
        return 'ndjson';
    case 'md':
    case 'markdown':
        return 'markdown';
    case 'txt':
    case 'text':
    case 'rst':
        return 'text';
    default:
        return 'other';
    }
}

async function sha256(bytes) {
    const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    return [...hash].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

const control = /\p{Cc}/u;

/** "# Title" of the first lines, or the name of the file without its ending. */
export function titleOf(text, name) {
    for (const line of text.slice(0, 4096).split('\n')) {
        const match = /^[#][# ]*(.*)$/.exec(line);
        let title = match && match[0].length - match[1].length > 1 ? match[1].trimEnd() : '';
        while (utf8.encode(title).length > titleMax) title = [...title].slice(0, -1).join('');
        if (title !== '' && !control.test(title)) return title;
    }
    const dot = name.lastIndexOf('.');
    return dot > 0 ? name.slice(0, dot) : name;
}

// What the server or the import itself says; a key of this name says nothing.
const keptNames = new Set(['id', 'created_at', 'document_type', 'source_url', 'path', 'content_sha256', 'format', 'section', 'start', 'end', 'page_number', 'chunk_index']);

function scalar(text) {
    const quoted = /^(["'])(.*)\1$/.exec(text);
    if (quoted) return quoted[2];
    return /^-?\d{1,15}(\.\d+)?$/.test(text) ? Number(text) : text.replace(/\s#.*$/, '');
}

/**
 * YAML front matter, what stands between two lines "---" at the begin of a Markdown file: {values, text}, the text behind it. Of YAML that part is read which such files have mostly: a scalar, a list in brackets,
 * a list of lines "- value"; what is nested deeper is passed over.
 */
export function frontMatter(text) {
    const block = /^---[ \t]*\r?\n([\s\S]{0,65536}?)^(?:---|\.\.\.)[ \t]*(?:\r?\n|$)/m.exec(text);
    if (!block || block.index !== 0) return { values: {}, text };
    const values = Object.create(null);
    let list = null;
    for (const line of block[1].split(/\r?\n/)) {
        const item = /^\s*-\s+(.+?)\s*$/.exec(line);
        if (item && list) {
            if (list.length < 100) list.push(scalar(item[1]));
            continue;
        }
        const pair = /^([A-Za-z_][\w .-]{0,63}):(?:\s+(.*?))?\s*$/.exec(line);
        if (!pair) continue;
        const [, key, value = ''] = pair;
        list = null;
        if (value === '') list = values[key] = [];
        else if (/^\[.*\]$/.test(value)) values[key] = value.slice(1, -1).split(',').map((part) => scalar(part.trim())).filter((part) => part !== '').slice(0, 100);
        else if (!/^[{|>&*!]/.test(value)) values[key] = scalar(value);
    }
    for (const [key, value] of Object.entries(values)) if (Array.isArray(value) && value.length === 0) delete values[key];
    return { values, text: text.slice(block[0].length) };
}

/** What front matter says as members of a document. */
function describe(document, values) {
    const words = (value) => [value].flat().map(String).filter((word) => word !== '' && !control.test(word));
    for (const [key, value] of Object.entries(values)) {
        const name = key.toLowerCase();
        if (name === 'title' && words(value).length > 0) document.title = words(value)[0].slice(0, titleMax);
        else if (name === 'author' || name === 'authors') document.author = words(value).join(', ') || undefined;
        else if (name === 'tags' || name === 'keywords') document.tags = [...new Set(words(value).flatMap((word) => (Array.isArray(value) ? [word] : word.split(/[,\s]+/))))].filter(Boolean).slice(0, 100);
        else if (!keptNames.has(name)) document.metadata[key] = value;
    }
}

/** A file of text as one document. Throws what is wrong with it. */
export async function textDocument({ file, path }) {
    if (file.size > largestFile) throw new Error('larger than 16 MB');
    const content = new Uint8Array(await file.arrayBuffer());
    let text;
    try {
        text = new TextDecoder('utf-8', { fatal: true }).decode(content); // a byte order mark is taken off
    } catch {
        throw new Error('not UTF-8 text');
    }
    if (text.includes('\0')) throw new Error('not UTF-8 text');
    if (text.trim() === '') throw new Error('empty');
    let id = `file:${path}`;
    if (utf8.encode(id).length > idMax || control.test(id)) id = `file:${await sha256(utf8.encode(path))}`;
    const markdown = kindOf(file.name) === 'markdown';
    const front = markdown ? frontMatter(text) : { values: {}, text };
    // Nothing but front matter: then that is the text.
    const body = front.text.trim() === '' ? text : front.text;
    const document = { id, title: titleOf(body, file.name), text: body, document_type: markdown ? 'markdown' : 'text', metadata: { path, content_sha256: await sha256(utf8.encode(text)) } };
    describe(document, front.values);
    return document;
}

/** The lines of a file, as it is read: {text, number, end}, `end` being the bytes read so far. */
export async function* linesOf(file) {
    const decoder = new TextDecoder('utf-8', { fatal: true });
    const reader = file.stream().getReader();
    let rest = '';
    let number = 0;
    let end = 0;
    try {
        for (;;) {
            const { done, value } = await reader.read();
            if (!done) end += value.length;
            try {
                rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
            } catch {
                throw new Error(`behind line ${number}: not UTF-8`);
            }
            const lines = rest.split('\n');
            rest = done ? '' : lines.pop();
            for (const text of lines) {
                number += 1;
                if (text.trim() !== '') yield { text: text.trim(), number, end };
            }
            if (done) return;
        }
    } finally {
        reader.cancel().catch(() => {});
    }
}

/** A line of NDJSON, as it is to be sent. Throws when it is none. */
export async function lineDocument(text) {
    let document;
    try {
        document = JSON.parse(text);
    } catch {
        throw new Error('not JSON');
    }
    if (document === null || typeof document !== 'object' || Array.isArray(document)) throw new Error('not a JSON object');
    if (typeof document.id === 'string') return text;
    return JSON.stringify({ ...document, id: `ndjson:${(await sha256(utf8.encode(text))).slice(0, 32)}` });
}

function entryFile(entry) {
    return new Promise((resolve, reject) => { entry.file(resolve, reject); });
}

async function walk(entry, found, named) {
    if (!named && entry.name.startsWith('.')) return;
    const path = entry.fullPath.replace(/^\//, '');
    if (entry.isFile) {
        // Of a folder only what is known is taken; a file that was dropped by itself is read, whatever it is called.
        if (named || kindOf(entry.name) !== 'other') found.files.push({ file: await entryFile(entry), path });
        else found.skipped += 1;
        return;
    }
    const reader = entry.createReader();
    for (;;) {
        const entries = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
        if (entries.length === 0) return;
        for (const one of entries) await walk(one, found, false);
    }
}

/** The files of what was dropped, those in folders, too: {files: [{file, path}], skipped}. */
export async function dropped(transfer) {
    const found = { files: [], skipped: 0 };
    // Entries have to be taken before anything is waited for.
    const entries = [...transfer.items].filter((item) => item.kind === 'file').map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
    for (const entry of entries) {
        if (entry instanceof File) found.files.push({ file: entry, path: entry.name });
        else if (entry) await walk(entry, found, true);
    }
    return found;
}

/** The files of an input, of a folder perhaps. */
export function picked(list) {
    const found = { files: [], skipped: 0 };
    for (const file of list) {
        const path = file.webkitRelativePath || file.name;
        const inFolder = path.includes('/');
        if (inFolder && path.split('/').slice(1).some((part) => part.startsWith('.'))) continue;
        if (inFolder && kindOf(file.name) === 'other') found.skipped += 1;
        else found.files.push({ file, path });
    }
    return found;
}
