// library.js - what all views of one library share: its head and their menu, how its state is put in words, and the dialogs that make one.
import { call } from './lib/api.js';
import { fill, h } from './lib/dom.js';
import { counted, percent } from './lib/format.js';
import { dialog, field, select } from './ui.js';

export function libraryPath(id, rest = '') {
    return `/v1/libraries/${encodeURIComponent(id)}${rest}`;
}

export function libraryLink(id, rest = '') {
    return `#/library/${encodeURIComponent(id)}${rest}`;
}

const views = [['/search', 'Search'], ['/documents', 'Documents'], ['/import', 'Import'], ['', 'Overview']];

/** The share of chunks that have their vector. */
export function coverage({ done, total }) {
    return total > 0 ? done / total : 1;
}

/** The state of a library's vectors as a badge: [text, class]. */
export function stateOf({ num_chunks: chunks, metadata: { embedding, exchange, embedding_model: model } }) {
    if (chunks === 0) return ['empty', ''];
    if (exchange?.state === 'building') return [`changing to ${exchange.embedding_model}`, 'info'];
    if (exchange?.state === 'returning') return [`returning to ${exchange.embedding_model}`, 'info'];
    switch (embedding.state) {
    case 'complete':
        return model === 'none' ? ['own vectors', 'good'] : ['complete', 'good'];
    case 'running':
        return [`embedding, ${percent(coverage(embedding))}`, 'info'];
    case 'pending':
        return [`pending, ${percent(coverage(embedding))}`, 'warn'];
    case 'waiting_for_provider':
        return [`waiting for its provider, ${percent(coverage(embedding))}`, 'warn'];
    case 'model_changed':
        return ['its model changed', 'bad'];
    default:
        return [embedding.state, ''];
    }
}

/** Asks for the library and puts its head into `main`. Gives the library, the place below the head, and a function that brings the head up to date. */
export async function frame({ main, params, signal }, here) {
    const ask = () => call(libraryPath(params[0]), { signal });
    const library = await ask();
    document.title = `${library.name} – Quire`;
    const place = h('div', { class: 'stack' });
    const badge = h('span');
    const description = h('p', { class: 'anywhere' });
    const figures = h('p', { class: 'muted small' });
    const draw = (now) => {
        const [text, kind] = stateOf(now);
        badge.className = `badge ${kind}`;
        fill(badge, text);
        description.hidden = !now.metadata.description;
        fill(description, now.metadata.description);
        fill(figures, counted(now.num_documents, 'document'), ', ', counted(now.num_chunks, 'chunk'), ' · ', now.metadata.embedding_model, ' · ', now.metadata.index_type);
    };
    draw(library);
    fill(main,
        h('div', { class: 'library-head' },
            h('p', { class: 'crumbs' }, h('a', { href: '#/' }, 'Libraries')),
            h('div', { class: 'head' }, h('h1', { tabindex: '-1', class: 'anywhere' }, library.name), badge),
            description, figures,
            h('nav', { class: 'tabs', 'aria-label': 'Views of this library' }, views.map(([path, name]) =>
                h('a', { href: libraryLink(library.id, path), 'aria-current': path === here ? 'page' : null }, name)))),
        place);
    return { library, place, draw, refresh: async () => draw(await ask()) };
}

export const languages = ['english', 'arabic', 'armenian', 'basque', 'catalan', 'danish', 'dutch', 'finnish', 'french', 'german', 'greek', 'hindi', 'hungarian', 'indonesian', 'irish', 'italian', 'lithuanian', 'nepali', 'norwegian',
    'portuguese', 'romanian', 'russian', 'serbian', 'spanish', 'swedish', 'tamil', 'turkish', 'yiddish', 'none'];

/** Asks how the new library is to be, and makes it. Resolves to it, or to undefined. */
export async function createLibrary(signal) {
    const models = await call('/v1/models', { signal });
    const preset = models.find((model) => model.default)?.name ?? 'none';
    const choices = [...models.map(({ name, dimension, where }) => [name, `${name} (${dimension ? `${dimension} dimensions, ` : ''}${where})`]), ['none', 'none: you bring the vectors']];
    const same = h('p', { class: 'warning small', role: 'status' });
    const name = h('input', { name: 'name', required: true, maxlength: 255, autocomplete: 'off', on: { input: () => {
        const text = name.value.trim().toLowerCase();
        fill(same, names.has(text) && 'There is a library of this name: this would be another one beside it.');
    } } });
    // Not every key may see them, and then nothing is said.
    const names = new Set((await call('/v1/libraries?limit=1000', { signal }).catch(() => [])).map((library) => library.name.trim().toLowerCase()));
    return dialog({
        title: 'New library', action: 'Create', signal,
        content: [
            field('Name', name), same,
            field('Description', h('input', { name: 'description', autocomplete: 'off' })),
            h('div', { class: 'two' },
                field('Embedding model', select({ name: 'embedding_model' }, choices, preset)),
                field('Language of the texts', select({ name: 'language' }, languages.map((name) => [name, name === 'none' ? 'none: words as they are' : name]), 'english'), 'Stop words and endings go by it.'),
                field('Index', select({ name: 'index_type' }, [['hnsw', 'hnsw: a graph, for any size'], ['flat', 'flat: every search looks at all vectors']], 'hnsw'))),
        ],
        submit: (data) => {
            const body = Object.fromEntries([...data].filter(([, value]) => value !== ''));
            return call('/v1/libraries', { body: { name: '', ...body } });
        },
    });
}
