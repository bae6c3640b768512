// files.js - from files to documents, as `quire import` makes them: text, Markdown and HTML become one document each, NDJSON one a line.
//
// Ids are made so that the same file dropped again is the same document: file:PATH of a text, ndjson:HASH of a line that brings no id of its own.
import { control, cut, describe, frontMatter, withTitle } from './front.js';
import { readPage } from './html.js';

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
    case 'html':
    case 'htm':
    case 'xhtml':
        return 'html';
    case 'pdf':
        return 'pdf';
    default:
        return 'other';
    }
}

async function sha256(bytes) {
    const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    return [...hash].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** "# Title" of the first lines, or the name of the file without its ending. */
export function titleOf(text, name) {
    for (const line of text.slice(0, 4096).split('\n')) {
        const match = /^[#][# ]*(.*)$/.exec(line);
        let title = match && match[0].length - match[1].length > 1 ? match[1].trimEnd() : '';
        title = cut(title, titleMax);
        if (title !== '' && !control.test(title)) return title;
    }
    const dot = name.lastIndexOf('.');
    return dot > 0 ? name.slice(0, dot) : name;
}

/** The text of a page of HTML goes by the character set that the page names; where it names none it is UTF-8, or what old pages are. */
function decodePage(content) {
    const named = /<meta[^>]+charset\s*=\s*["']?\s*([\w:.-]+)/i.exec(new TextDecoder('latin1').decode(content.subarray(0, 4096)));
    const marked = (content[0] === 0xfe && content[1] === 0xff && 'utf-16be') || (content[0] === 0xff && content[1] === 0xfe && 'utf-16le');
    for (const label of [marked, 'utf-8', named?.[1], 'windows-1252']) {
        try {
            if (label) return new TextDecoder(label, { fatal: true }).decode(content);
        } catch {
            // Not in this one, or none that the browser knows.
        }
    }
    throw new Error('not text');
}

function decodeText(content) {
    let text;
    try {
        text = new TextDecoder('utf-8', { fatal: true }).decode(content); // a byte order mark is taken off
    } catch {
        throw new Error('not UTF-8 text');
    }
    if (text.includes('\0')) throw new Error('not UTF-8 text');
    return text;
}

/** A file of text as one document: {document, warning}, or null where it has no text. Throws what is wrong with it. */
export async function textDocument({ file, path }) {
    const kind = kindOf(file.name);
    if (kind === 'pdf') throw new Error('PDF: bring it in with the command quire import');
    if (file.size > largestFile) throw new Error('larger than 16 MB');
    const content = new Uint8Array(await file.arrayBuffer());
    let front = { values: {}, text: kind === 'html' ? decodePage(content) : decodeText(content), warning: null };
    let pageTitle = '';
    if (kind === 'markdown') front = frontMatter(front.text);
    else if (kind === 'html') ({ text: front.text, title: pageTitle } = readPage(front.text));
    if (front.text.trim() === '') return null;
    let id = `file:${path}`;
    if (utf8.encode(id).length > idMax || control.test(id)) id = `file:${await sha256(utf8.encode(path))}`;
    const metadata = Object.assign(Object.create(null), { path, content_sha256: await sha256(content) });
    if (kind === 'html') metadata.format = 'html';
    const document = { id, text: front.text, document_type: kind === 'markdown' || kind === 'html' ? 'markdown' : 'text', metadata };
    describe(document, front.values);
    document.title ??= cut(pageTitle, titleMax) || undefined;
    if (document.title) document.text = withTitle(document.title, front.text);
    else document.title = titleOf(front.text, file.name);
    return { document, warning: front.warning };
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

/** Of a folder: what this can read. */
function isTaken(name) {
    return !['other', 'pdf'].includes(kindOf(name));
}

function entryFile(entry) {
    return new Promise((resolve, reject) => { entry.file(resolve, reject); });
}

async function walk(entry, found, named) {
    if (!named && entry.name.startsWith('.')) return;
    const path = entry.fullPath.replace(/^\//, '');
    if (entry.isFile) {
        // Of a folder only what is known is taken; a file that was dropped by itself is read, whatever it is called.
        if (named || isTaken(entry.name)) found.files.push({ file: await entryFile(entry), path });
        else found.skipped.push(path);
        return;
    }
    const reader = entry.createReader();
    for (;;) {
        const entries = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
        if (entries.length === 0) return;
        for (const one of entries) await walk(one, found, false);
    }
}

/** The files of what was dropped, those in folders, too: {files: [{file, path}], skipped: the paths of those left out}. */
export async function dropped(transfer) {
    const found = { files: [], skipped: [] };
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
    const found = { files: [], skipped: [] };
    for (const file of list) {
        const path = file.webkitRelativePath || file.name;
        const inFolder = path.includes('/');
        if (inFolder && path.split('/').slice(1).some((part) => part.startsWith('.'))) continue;
        if (inFolder && !isTaken(file.name)) found.skipped.push(path);
        else found.files.push({ file, path });
    }
    return found;
}
