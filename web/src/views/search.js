// search.js - asks one library, and shows how each hit came to its place. The question and all controls stand in the address, so that it can be kept and sent.
import { call } from '../lib/api.js';
import { add, fill, h, icon } from '../lib/dom.js';
import { counted, figure, percent, seconds } from '../lib/format.js';
import { highlighter } from '../highlight.js';
import { frame, libraryLink, libraryPath } from '../library.js';
import { field, icons, select, trouble } from '../ui.js';

const operators = [['eq', 'is'], ['ne', 'is not'], ['contains', 'contains'], ['in', 'is one of'], ['gt', '>'], ['gte', '≥'], ['lt', '<'], ['lte', '≤']];
const knownFields = ['title', 'author', 'document_type', 'source_url', 'tags', 'created_at', 'id', 'text', 'page_number', 'chunk_index', 'section', 'path'];
const modes = [['hybrid', 'Hybrid', 'by words and by meaning, fused'], ['dense', 'Dense', 'by meaning: nearness of vectors'], ['lexical', 'Lexical', 'by words: BM25']];

/** What is typed as a value: a number, true, false or null as such, something in quotes as text, everything else as the text that it is. */
export function readValue(text, operator) {
    const one = (part) => {
        const trimmed = part.trim();
        if (/^(-?\d+(\.\d+)?([eE][-+]?\d+)?|true|false|null|"(?:[^"\\]|\\.)*")$/.test(trimmed)) {
            try {
                return JSON.parse(trimmed);
            } catch {
                return trimmed;
            }
        }
        return trimmed;
    };
    return operator === 'in' ? text.split(',').map(one).filter((part) => part !== '') : one(text);
}

function filterOf(conditions) {
    const all = conditions.filter(([name]) => name !== '').map(([name, operator, text]) => ({ field: name, operator, value: readValue(text, operator) }));
    if (all.length === 0) return undefined;
    return all.length === 1 ? all[0] : { and: all };
}

const longText = 1200;
const shownOfLong = 900;

function marked(pieces) {
    return pieces.map(([text, wanted]) => (wanted ? h('mark', null, text) : text));
}

/** A chunk's text with the words of the query marked; of a long one the part around the first of them, and a button for the rest. */
function chunkText(text, mark) {
    const place = h('p', { class: 'text anywhere' });
    if (text.length <= longText) return add(place, marked(mark(text)));
    let from = 0;
    for (const [piece, wanted] of mark(text)) {
        if (wanted) break;
        from += piece.length;
    }
    from = from >= text.length ? 0 : Math.max(0, Math.min(from - 200, text.length - shownOfLong));
    // Not inside what is one character in two units.
    const part = text.slice(from, from + shownOfLong).toWellFormed?.() ?? text.slice(from, from + shownOfLong);
    return add(place, from > 0 && '… ', marked(mark(part)), from + shownOfLong < text.length && ' … ',
        h('button', { type: 'button', class: 'plain small', on: { click: () => fill(place, marked(mark(text))) } }, 'Show all of it'));
}

function rank(name, side, value) {
    if (!side) return null;
    return h('span', { class: `rank ${side.rank === null ? 'none' : ''}` }, h('b', null, name), ' ',
        side.rank === null ? 'not among its candidates' : [h('span', { class: 'place' }, `#${side.rank}`), ' ', value]);
}

function hit(library, result, place, mark) {
    const { chunk, explain } = result;
    // The id of a file that was imported is its path, or where that is too long what is made from it.
    const file = /^file:(?![0-9a-f]{64}$)(.+)$/.exec(result.document_id)?.[1];
    const section = typeof chunk.metadata.section === 'string' ? chunk.metadata.section : null;
    return h('li', null, h('article', { class: 'card hit' },
        h('h2', null, h('span', { class: 'muted' }, `${place}. `), h('a', { class: 'anywhere', href: libraryLink(library.id, `/document/${encodeURIComponent(result.document_id)}?chunk=${encodeURIComponent(chunk.id)}`) }, result.document_title),
            file && [' ', h('span', { class: 'muted small anywhere' }, file)]),
        section && h('p', { class: 'muted small anywhere' }, section),
        chunkText(chunk.text, mark),
        h('p', { class: 'ranks' },
            h('span', { class: 'rank' }, h('b', null, 'score'), ' ', figure(result.score)),
            h('span', { class: 'rank' }, h('b', null, 'distance'), ' ', result.distance === null ? 'none' : result.distance.toFixed(3)),
            rank('dense', explain?.dense, explain?.dense?.distance === null ? '' : `at ${explain?.dense?.distance?.toFixed(3)}`),
            rank('lexical', explain?.lexical, `BM25 ${figure(explain?.lexical?.score)}`),
            explain?.fused && h('span', { class: 'rank' }, h('b', null, 'fused'), ' ', explain.fused.method === 'rrf' ? 'by ranks' : 'weighted'))));
}

export async function search(context) {
    const { query, signal } = context;
    const { library, place } = await frame(context, '/search');
    const input = h('input', { type: 'search', name: 'q', id: 'query', autocomplete: 'off', placeholder: 'What are you looking for?', value: query.get('q') ?? '' });
    const k = select({ name: 'k', id: 'k' }, ['5', '10', '20', '50', '100'], query.get('k') ?? '10');
    const threshold = h('input', { name: 'threshold', inputmode: 'decimal', placeholder: 'none', value: query.get('threshold') ?? '', autocomplete: 'off' });
    const byDocument = h('input', { type: 'checkbox', name: 'group', id: 'group', checked: query.get('group') === '1' });
    const exact = h('input', { type: 'checkbox', name: 'exact', id: 'exact', checked: query.get('exact') === '1' });
    const chosen = query.get('mode') ?? 'hybrid';
    const modeChoice = h('fieldset', { class: 'segments' }, h('legend', { class: 'visually-hidden' }, 'Mode'), modes.map(([mode, name, title]) =>
        h('label', { title }, h('input', { type: 'radio', name: 'mode', value: mode, checked: mode === chosen }), h('span', null, name))));
    const conditions = h('div', { class: 'stack conditions' });
    const names = h('datalist', { id: 'field-names' }, knownFields.map((name) => h('option', { value: name })));
    const trouble_ = h('div');
    const summary = h('p', { class: 'muted small', role: 'status' });
    const results = h('ol', { class: 'plain-list stack', 'aria-label': 'Hits' });
    const go = h('button', { type: 'submit', class: 'primary' }, icon(icons.search), 'Search');

    const addCondition = ([name, operator, text] = ['', 'eq', ''], focus = false) => {
        const nameInput = h('input', { 'aria-label': 'Field', list: 'field-names', placeholder: 'field', value: name, autocomplete: 'off', class: 'condition-field' });
        const line = h('div', { class: 'condition' }, nameInput, select({ 'aria-label': 'Operator' }, operators, operator),
            h('input', { 'aria-label': 'Value', placeholder: 'value', value: text, autocomplete: 'off' }),
            h('button', { type: 'button', class: 'plain', 'aria-label': 'Remove this condition', on: { click: () => {
                line.remove();
                addButton.focus();
            } } }, icon(icons.close)));
        conditions.append(line);
        if (focus) nameInput.focus();
    };
    const addButton = h('button', { type: 'button', class: 'small', on: { click: () => addCondition(undefined, true) } }, icon(icons.add), 'Condition');
    const readConditions = () => [...conditions.children].map((line) => [...line.querySelectorAll('input, select')].map((control) => control.value.trim()));

    const details = h('details', { class: 'more' }, h('summary', null, 'Filter and more'),
        h('div', { class: 'stack' },
            h('div', null, h('h2', { class: 'minor' }, 'Only chunks for which all of this holds'),
                h('p', { class: 'muted small' }, 'Fields of the document, the chunk, or your own metadata (members of members with points: source.lang). Text that looks like a number goes in quotes; several values with commas.')),
            conditions, h('div', null, addButton), names,
            h('div', { class: 'two' }, field('Nothing farther than', threshold, 'Cosine distance, 0 to 2.'),
                h('div', { class: 'stack checks' },
                    h('label', { class: 'check', for: 'group' }, byDocument, 'The best chunk of each document only'),
                    h('label', { class: 'check', for: 'exact' }, exact, 'Look at every vector (exact)')))));
    let given = [];
    try {
        given = JSON.parse(query.get('filter') ?? '[]');
    } catch {
        // An address that somebody has edited: as if there was none.
    }
    if (Array.isArray(given)) for (const line of given) if (Array.isArray(line)) addCondition(line.map(String));
    details.open = conditions.childElementCount > 0 || threshold.value !== '' || byDocument.checked || exact.checked;

    const form = h('form', { class: 'card search', role: 'search', on: {
        submit: (event) => {
            event.preventDefault();
            const now = new URLSearchParams();
            now.set('q', input.value.trim());
            now.set('mode', form.elements.mode.value);
            now.set('k', k.value);
            if (threshold.value.trim() !== '') now.set('threshold', threshold.value.trim());
            if (byDocument.checked) now.set('group', '1');
            if (exact.checked) now.set('exact', '1');
            const lines = readConditions().filter(([name]) => name !== '');
            if (lines.length > 0) now.set('filter', JSON.stringify(lines));
            // Kept in the address without building the view anew.
            history.replaceState(null, '', `${libraryLink(library.id, '/search')}?${now}`);
            ask();
        },
    } },
    h('div', { class: 'search-line' }, h('label', { class: 'visually-hidden', for: 'query' }, 'Query'), input, go),
    h('div', { class: 'row' }, modeChoice, h('span', { class: 'inline' }, h('label', { for: 'k' }, 'Hits'), k)),
    details);

    let asking = null;
    async function ask() {
        const text = input.value.trim();
        asking?.abort();
        asking = new AbortController();
        signal.addEventListener('abort', () => asking.abort(), { once: true });
        if (text === '') {
            fill(results);
            fill(summary, 'Type what you are looking for.');
            input.focus();
            return;
        }
        const body = { query: text, mode: form.elements.mode.value, k: Number(k.value), explain: true };
        const filter = filterOf(readConditions());
        if (filter) body.filter = filter;
        if (threshold.value.trim() !== '') body.distance_threshold = Number.isNaN(Number(threshold.value)) ? threshold.value : Number(threshold.value);
        if (byDocument.checked) body.group_by = 'document';
        if (exact.checked) body.exact = true;
        results.setAttribute('aria-busy', 'true');
        const mine = asking.signal;
        try {
            const reply = await call(libraryPath(library.id, '/search'), { body, signal: mine });
            trouble(trouble_, null);
            const mark = highlighter(text, library.metadata.language);
            fill(results, reply.results.map((result, i) => hit(library, result, i + 1, mark)));
            const { mode, model, coverage, exact: wasExact } = reply.index;
            fill(summary, counted(reply.results.length, 'hit'), ` in ${seconds(reply.query_time_ms / 1000)} · ${mode}`, model && ` · ${model}`, mode !== 'lexical' && (wasExact ? ' · exact' : ' · approximate'),
                coverage < 1 && ` · ${percent(coverage)} of the chunks have their vector`);
            if (reply.results.length === 0) add(results, h('li', { class: 'muted' }, 'Nothing that matches.'));
        } catch (error) {
            if (mine.aborted) return;
            fill(results);
            fill(summary);
            trouble(trouble_, error, { retry: ask });
        } finally {
            if (!mine.aborted) results.removeAttribute('aria-busy');
        }
    }

    fill(place, form, trouble_, summary, results);
    if (library.num_documents === 0) fill(summary, 'This library is empty. ', h('a', { href: libraryLink(library.id, '/import') }, 'Bring it some documents.'));
    if (input.value !== '') await ask();
    else input.focus({ preventScroll: true });
}
