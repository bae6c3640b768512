// libraries.js - all libraries with their state. The figures that the list does not have (tail, bytes) are asked for as their rows come into sight.
import { call, page } from '../lib/api.js';
import { fill, h, icon } from '../lib/dom.js';
import { bytes, count, counted, percent } from '../lib/format.js';
import { coverage, createLibrary, libraryLink, libraryPath, stateOf } from '../library.js';
import { bar, facts, head, icons, queue, repeatedly, say, trouble } from '../ui.js';

const pageSize = 100;

function sizeOf({ vector_store_stats: v, index_stats: i }) {
    return v.bytes + v.record_bytes + v.text_bytes + i.lexical.bytes + i.columns.bytes;
}

/** One library of the list; `update` takes a newer summary, `figures` its statistics. */
function row(library) {
    const badge = h('span');
    const progress = h('div', { class: 'coverage' });
    const name = h('a', { href: libraryLink(library.id, '/search'), class: 'name anywhere' });
    const description = h('p', { class: 'muted anywhere clamp' });
    const values = Object.fromEntries(['documents', 'chunks', 'covered', 'tail', 'size'].map((key) => [key, h('span', null, '…')]));
    const element = h('li', { class: 'card library', data: { id: library.id } },
        h('div', { class: 'library-name' }, h('h2', null, name), badge, description, progress),
        facts([['Documents', values.documents], ['Chunks', values.chunks], ['Vectors', values.covered], ['Index tail', values.tail], ['Size', values.size]]));
    const update = (now) => {
        const [text, kind] = stateOf(now);
        const share = coverage(now.metadata.embedding);
        fill(name, now.name);
        fill(description, now.metadata.description);
        description.hidden = !now.metadata.description;
        badge.className = `badge ${kind}`;
        fill(badge, text);
        fill(values.documents, count(now.num_documents));
        fill(values.chunks, count(now.num_chunks));
        fill(values.covered, now.num_chunks > 0 ? percent(share) : '–');
        fill(progress, share < 1 && bar(`Chunks of ${now.name} with their vector`, now.metadata.embedding.done, now.metadata.embedding.total));
        element.hidden = false;
    };
    update(library);
    return {
        element, update,
        figures: (statistics) => {
            fill(values.tail, count(statistics.index_stats.tail));
            fill(values.size, bytes(sizeOf(statistics)));
        },
        matches: (text) => name.textContent.toLowerCase().includes(text) || description.textContent.toLowerCase().includes(text),
    };
}

export async function libraries({ main, signal }) {
    const problem = h('div');
    const list = h('ul', { class: 'plain-list stack' });
    const more = h('div', { class: 'row center' });
    const find = h('input', { type: 'search', placeholder: 'Find a library', 'aria-label': 'Find a library', class: 'find' });
    const total = h('p', { class: 'muted small' });
    const empty = h('div');
    const rows = new Map();
    const create = async () => {
        const made = await createLibrary(signal).catch((error) => trouble(problem, error));
        if (!made) return;
        say('The library is there: bring it some documents.');
        location.hash = libraryLink(made.id, '/import');
    };
    const createButton = () => h('button', { type: 'button', class: 'primary', on: { click: create } }, icon(icons.add), 'New library');

    const ask = queue(3, async (id) => {
        if (signal.aborted) return;
        try {
            rows.get(id)?.figures(await call(libraryPath(id, '/statistics'), { signal }));
        } catch {
            // It may be gone again, or not for this key: its row says so by its dots.
        }
    });
    const sight = new IntersectionObserver((entries) => {
        for (const { isIntersecting, target } of entries) if (isIntersecting) ask(target.dataset.id);
    });
    signal.addEventListener('abort', () => sight.disconnect());

    const filter = () => {
        const text = find.value.trim().toLowerCase();
        let shown = 0;
        for (const { element, matches } of rows.values()) {
            element.hidden = text !== '' && !matches(text);
            if (!element.hidden) shown += 1;
        }
        fill(total, text === '' ? counted(rows.size, 'library', 'libraries') : `${count(shown)} of ${counted(rows.size, 'library', 'libraries')}`);
    };
    find.addEventListener('input', filter);

    const take = (items) => {
        for (const item of items) {
            const known = rows.get(item.id);
            if (known) {
                known.update(item);
                continue;
            }
            const made = row(item);
            rows.set(item.id, made);
            list.append(made.element);
            sight.observe(made.element);
        }
        filter();
    };

    let pages = 1;
    const load = async () => {
        let next = `/v1/libraries?limit=${pageSize}`;
        const all = [];
        for (let i = 0; i < pages && next; i += 1) {
            const got = await page(next, { signal });
            all.push(...got.items);
            next = got.next;
        }
        const there = new Set(all.map(({ id }) => id));
        for (const [id, { element }] of rows) {
            if (there.has(id)) continue;
            element.remove();
            rows.delete(id);
        }
        trouble(problem, null);
        take(all);
        find.hidden = rows.size < 6;
        fill(empty, rows.size === 0 && h('div', { class: 'card empty' }, h('h2', null, 'No library yet'),
            h('p', null, 'A library holds documents that belong together. Make one, drop a folder of notes on it, and search it.'), createButton()));
        fill(more, next && h('button', { type: 'button', on: { click: async () => {
            pages += 1;
            await load().catch((error) => trouble(problem, error));
        } } }, 'Show more'));
        // What moves is looked at often, what rests now and then.
        const moving = all.filter(({ metadata, num_chunks: chunks }) => metadata.embedding.state !== 'complete' || (chunks > 0 && metadata.exchange !== null));
        for (const { id } of moving.slice(0, 20)) ask(id);
        return moving.length > 0 ? 2000 : 15000;
    };

    fill(main, head('Libraries', createButton()), problem, h('div', { class: 'row between find-row' }, total, find), empty, list, more);
    find.hidden = true;
    repeatedly(signal, load, (error) => trouble(problem, error), await load());
}
