// documents.js - the documents of a library, page by page, and one document with its chunks; ?chunk=ID in its address is the one that is marked and scrolled to.
import { call, page } from '../lib/api.js';
import { fill, h, icon } from '../lib/dom.js';
import { count, counted, time } from '../lib/format.js';
import { frame, libraryLink, libraryPath } from '../library.js';
import { confirmed, facts, icons, row, say, table, trouble } from '../ui.js';

const pageSize = 25;

/** Deletes one document after asking. By its id in a body: a path cannot say every id. Gives true when it is gone. */
function remove(library, id, title, signal) {
    return confirmed({
        title: 'Delete this document?', action: 'Delete', signal,
        text: ['“', h('span', { class: 'anywhere' }, title), '” and its chunks leave the library at once.'],
        submit: async () => {
            await call(libraryPath(library.id, '/documents/batch-delete'), { body: { document_ids: [id] } });
            say('Deleted.');
        },
    });
}

export async function documents(context) {
    const { signal, query } = context;
    const { library, place } = await frame(context, '/documents');
    const problem = h('div');
    const body = h('tbody');
    const list = table('Documents', ['Title', 'Type', '#Chunks', 'Written', ''], body);
    const status = h('p', { class: 'muted small', role: 'status' });
    const find = h('input', { type: 'search', name: 'title', id: 'title-part', placeholder: 'Part of the title', value: query.get('title') ?? '' });
    const before = [];
    let here;
    let next = null;
    const back = h('button', { type: 'button', on: { click: () => turn(before.pop()) } }, 'Previous');
    const on = h('button', { type: 'button', on: { click: () => {
        before.push(here);
        turn(next);
    } } }, 'Next');

    const firstPage = () => {
        const text = find.value.trim();
        const parameters = new URLSearchParams({ limit: pageSize });
        if (text !== '') parameters.set('filter', JSON.stringify({ field: 'title', operator: 'contains', value: text }));
        return `${libraryPath(library.id, '/documents')}?${parameters}`;
    };
    const line = ({ id, num_chunks: chunks, metadata }) => row(h('a', { class: 'anywhere', href: libraryLink(library.id, `/document/${encodeURIComponent(id)}`) }, metadata.title),
        [metadata.document_type, 'muted'], [[count(chunks), h('span', { class: 'narrow' }, chunks === 1 ? ' chunk' : ' chunks')], 'number'], [time(metadata.created_at), 'muted'],
        [h('button', { type: 'button', class: 'small danger', 'aria-label': `Delete ${metadata.title}`, on: { click: async () => {
            if (await remove(library, id, metadata.title, signal)) await turn(here);
        } } }, icon(icons.trash), 'Delete'), 'actions']);

    async function turn(path) {
        try {
            const got = await page(path, { signal });
            here = path;
            next = got.next;
            trouble(problem, null);
            fill(body, got.items.map(line));
            list.hidden = got.items.length === 0;
            const from = before.length * pageSize + 1;
            fill(status, got.items.length === 0 ? (find.value.trim() === '' ? 'No documents.' : 'No document has this in its title.') : `Documents ${count(from)} to ${count(from + got.items.length - 1)}`);
            back.disabled = before.length === 0;
            on.disabled = next === null;
        } catch (error) {
            trouble(problem, error);
        }
    }

    fill(place,
        h('form', { class: 'find-line', role: 'search', on: {
            submit: (event) => {
                event.preventDefault();
                before.length = 0;
                turn(firstPage());
            },
        } }, h('label', { class: 'visually-hidden', for: 'title-part' }, 'Part of the title'), find, h('button', { type: 'submit' }, 'Find')),
        problem, h('div', { class: 'card flush' }, list), h('div', { class: 'row between' }, status, h('div', { class: 'row' }, back, on)));
    await turn(firstPage());
}

/** A link where the text is the address of a page, the text itself where it is anything else (javascript: among it). */
function link(text) {
    let url;
    try {
        url = new URL(text);
    } catch {
        return text;
    }
    return ['http:', 'https:'].includes(url.protocol) ? h('a', { href: url.href, rel: 'noopener noreferrer', target: '_blank', class: 'anywhere' }, text) : text;
}

const shownBefore = new Set(['title', 'author', 'created_at', 'document_type', 'source_url', 'tags']);
const chunksAtOnce = 100;

export async function document(context) {
    const { params, query, signal } = context;
    const { library, place } = await frame(context, null);
    const path = libraryPath(library.id, `/documents/${encodeURIComponent(params[1])}`);
    const { id, chunks, metadata } = await call(path, { signal });
    const own = Object.fromEntries(Object.entries(metadata).filter(([name]) => !shownBefore.has(name)));
    const list = h('ol', { class: 'plain-list stack' });
    const more = h('div', { class: 'row center' });
    const wanted = query.get('chunk');
    let shown = 0;
    const showMore = () => {
        const part = chunks.slice(shown, shown + chunksAtOnce);
        shown += part.length;
        list.append(...part.map((chunk) => h('li', { class: chunk.id === wanted ? 'card chunk found' : 'card chunk', tabindex: chunk.id === wanted && -1 },
            h('p', { class: 'muted small anywhere' }, `Chunk ${count(chunk.metadata.chunk_index + 1)}`, typeof chunk.metadata.section === 'string' && ` · ${chunk.metadata.section}`, ' · ', h('code', null, chunk.id)),
            h('p', { class: 'text anywhere' }, chunk.text))));
        fill(more, shown < chunks.length && h('button', { type: 'button', on: { click: showMore } }, `Show more of ${counted(chunks.length, 'chunk')}`));
    };
    const deleteButton = h('button', { type: 'button', class: 'danger', on: { click: async () => {
        if (await remove(library, id, metadata.title, signal)) location.hash = libraryLink(library.id, '/documents');
    } } }, icon(icons.trash), 'Delete');
    fill(place, h('div', { class: 'head' }, h('h2', { class: 'anywhere' }, metadata.title), h('div', { class: 'row' }, deleteButton)),
        h('div', { class: 'card' }, facts([
            ['Id', h('code', { class: 'anywhere' }, id)], ['Type', metadata.document_type], ['Written', time(metadata.created_at)],
            metadata.author && ['Author', metadata.author], metadata.source_url && ['Source', link(metadata.source_url)],
            metadata.tags.length > 0 && ['Tags', metadata.tags.map((tag) => h('span', { class: 'badge anywhere' }, tag))],
        ]), Object.keys(own).length > 0 && h('details', { class: 'more' }, h('summary', null, 'Metadata'), h('pre', { class: 'anywhere', tabindex: 0 }, JSON.stringify(own, null, 2)))),
        list, more);
    const at = chunks.findIndex(({ id: chunkId }) => chunkId === wanted);
    do showMore(); while (shown <= at);
    const found = list.querySelector('.found');
    found?.scrollIntoView({ block: 'center' });
    found?.focus({ preventScroll: true });
}
