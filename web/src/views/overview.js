// overview.js - the figures of a library, and what can be done with it as a whole.
import { apiKey, call, send } from '../lib/api.js';
import { fill, h, icon } from '../lib/dom.js';
import { bytes, count, figure, moment, percent } from '../lib/format.js';
import { coverage, frame, libraryPath } from '../library.js';
import { again, bar, confirmed, dialog, facts, field, icons, offer, repeatedly, say, select, tasksLink, trouble } from '../ui.js';

export async function overview(context) {
    const { signal } = context;
    const { library, place, draw: drawHead } = await frame(context, '');
    const problem = h('div');
    const figures = h('div', { class: 'stack' });
    const path = (rest) => libraryPath(library.id, rest);

    let acted = 0;
    let lookNow = () => {};
    const act = (work) => async () => {
        trouble(problem, null);
        try {
            await work();
        } catch (error) {
            trouble(problem, error);
        }
        acted = Date.now();
        lookNow();
    };
    const started = (what) => say(what, ' has begun: see ', tasksLink(), '.');

    const rebuild = act(async () => {
        await call(path('/index/rebuild'), { method: 'POST', body: {} });
        started('Rebuilding the index');
    });
    const optimize = act(async () => {
        await call(path('/index/optimize'), { method: 'POST' });
        started('Making the files anew');
    });
    const edit = act(async () => {
        const changed = await dialog({
            title: 'Name and description', action: 'Save', signal,
            content: [field('Name', h('input', { name: 'name', required: true, value: library.name, autocomplete: 'off' })),
                field('Description', h('input', { name: 'description', value: library.metadata.description ?? '', autocomplete: 'off' }))],
            submit: (data) => call(path(''), { method: 'PATCH', body: { name: data.get('name'), description: data.get('description') || null } }),
        });
        if (changed) again();
    });
    const reembed = act(async () => {
        const models = (await call('/v1/models', { signal })).map(({ name }) => name);
        await dialog({
            title: 'Another model', action: 'Begin', signal,
            content: [h('p', null, 'The library is built anew beside the one that serves, and changes places with it when it is whole. The one before can be brought back for a while.'),
                field('Embedding model', select({ name: 'model' }, models, library.metadata.embedding_model))],
            submit: async (data) => {
                await call(path('/reembed'), { body: { embedding_model: data.get('model') } });
                started('The change of the model');
            },
        });
    });
    const rollback = act(async () => {
        await call(path('/reembed/rollback'), { method: 'POST' });
        started('The way back');
    });
    const giveUp = act(async () => {
        await confirmed({ title: 'Let the other side go?', action: 'Let go', signal, text: 'What is being built, or the model before, is given up. The library serves on as it is.',
            submit: () => call(path('/reembed'), { method: 'DELETE' }) });
    });
    const remove = act(async () => {
        const gone = await confirmed({
            title: 'Delete this library?', action: 'Delete', word: library.name, signal,
            text: `${count(library.num_documents)} documents and ${count(library.num_chunks)} chunks go with it. Only a snapshot brings them back.`,
            submit: () => call(path(''), { method: 'DELETE' }),
        });
        if (!gone) return;
        say('The library is deleted.');
        location.hash = '#/';
    });
    const exported = `${library.name.replace(/[^\p{L}\p{N}._-]+/gu, '_') || 'library'}.ndjson`;
    const exportButton = apiKey() === null
        ? h('a', { class: 'button', href: path('/export'), download: exported }, icon(icons.download), 'Export')
        : h('button', { type: 'button', on: { click: act(async () => {
            say('The export is being fetched; it is saved when it is whole.');
            offer(await (await send(path('/export'), { signal })).blob(), exported);
        }) } }, icon(icons.download), 'Export');

    const exchange = h('div', { class: 'row' });
    const draw = (now, statistics, index) => {
        drawHead(now);
        const { embedding, exchange: other } = now.metadata;
        const { vector_store_stats: store, index_stats: stats } = statistics;
        fill(figures,
            h('section', { class: 'card' }, h('h2', null, 'Vectors'),
                bar('Chunks with their vector', embedding.done, Math.max(embedding.total, 1)),
                facts([
                    ['Coverage', percent(coverage(embedding))], ['Model', now.metadata.embedding_model], ['Dimension', count(now.metadata.embedding_dimension)], ['Vectors', count(store.vectors)],
                    ['Pending', count(store.pending)], ['Deleted, not reclaimed', count(store.deleted)], ['Quantization', `${now.metadata.quantization.strategy}, ${now.metadata.quantization.bits} bits`],
                ]), embedding.error && h('p', { class: 'anywhere' }, embedding.error),
                other && h('p', null, other.state === 'kept' ? `The model before, ${other.embedding_model}, is kept.` : `Another side with ${other.embedding_model} is ${other.state}.`)),
            h('section', { class: 'card' }, h('h2', null, 'Index'), facts([
                ['Type', now.metadata.index_type], ['Linked', count(stats.linked)], ['Tail', count(stats.tail)], ['Levels', count(stats.levels)], ['Mean degree', figure(index.mean_degree)], ['Generation', count(stats.generation)],
                ['M', count(stats.index_config.M)], ['ef construction', count(stats.index_config.ef_construction)], ['ef search', count(stats.index_config.ef_search)], ['Terms', count(stats.lexical.terms)],
                ['Postings', count(stats.lexical.postings)], ['Language', now.metadata.language],
            ])),
            h('section', { class: 'card' }, h('h2', null, 'Bytes'), facts([
                ['Vectors', bytes(store.bytes)], ['Graph', bytes(index.bytes)], ['Texts', bytes(store.text_bytes)], ['Records', bytes(store.record_bytes)], ['Words', bytes(stats.lexical.bytes)], ['Filters', bytes(stats.columns.bytes)],
            ])),
            h('section', { class: 'card' }, h('h2', null, 'Library'), facts([['Id', h('code', { class: 'anywhere' }, now.id)], ['Made', moment(now.metadata.created_at)], ['Documents', count(now.num_documents)], ['Chunks', count(now.num_chunks)]]),
                Object.keys(now.metadata.custom).length > 0 && h('pre', { class: 'anywhere', tabindex: 0 }, JSON.stringify(now.metadata.custom, null, 2))));
        fill(exchange, other?.state === 'kept' && h('button', { type: 'button', on: { click: rollback } }, 'Back to the model before'), other && h('button', { type: 'button', on: { click: giveUp } }, 'Let the other side go'));
        exchange.hidden = !other;
        if (Date.now() - acted < 10000) return 700;
        return embedding.state === 'complete' && stats.tail === 0 && (!other || other.state === 'kept') ? 10000 : 1500;
    };

    fill(place, problem, figures,
        h('section', { class: 'card' }, h('h2', null, 'Do'), h('div', { class: 'row' },
            h('button', { type: 'button', on: { click: edit } }, 'Edit'), h('button', { type: 'button', on: { click: rebuild } }, 'Rebuild the index'),
            h('button', { type: 'button', on: { click: optimize } }, 'Reclaim deleted'), library.metadata.embedding_model !== 'none' && h('button', { type: 'button', on: { click: reembed } }, 'Another model'), exportButton,
            h('button', { type: 'button', class: 'danger', on: { click: remove } }, icon(icons.trash), 'Delete')), exchange));
    const look = async () => draw(...await Promise.all([call(path(''), { signal }), call(path('/statistics'), { signal }), call(path('/index/statistics'), { signal })]));
    lookNow = repeatedly(signal, look, (error) => trouble(problem, error), await look());
}
