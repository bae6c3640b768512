// import.js - brings files into a library: dropped, or chosen.
import { isPassing } from '../lib/api.js';
import { fill, h, icon } from '../lib/dom.js';
import { bytes, count, counted } from '../lib/format.js';
import { dropped, picked } from '../files.js';
import { Importer } from '../importer.js';
import { frame, libraryLink } from '../library.js';
import { bar, field, hush, icons, problemBox, row, say, select, table, trouble } from '../ui.js';

const rowsShown = 100;

function stateText({ state, sent, failed }) {
    switch (state) {
    case 'waiting':
        return ['waiting', ''];
    case 'reading':
        return ['reading', 'info'];
    case 'done':
        return [counted(sent, 'document'), 'good'];
    case 'empty':
        return ['without text', ''];
    default:
        return [failed === 1 && sent <= 1 ? 'failed' : `${count(failed)} failed`, 'bad'];
    }
}

/** The table of files: those that failed first, then those with a warning, then those under way, then the others, up to a number. */
function fileTable(importer) {
    const order = { failed: 0, reading: 2, waiting: 3, empty: 4, done: 5 };
    const placeOf = ({ state, warning }) => (warning && state !== 'failed' ? 1 : order[state]);
    const entries = [...importer.files].sort((a, b) => placeOf(a) - placeOf(b)).slice(0, rowsShown);
    return [
        table('Files', ['File', '#Size', 'State'], h('tbody', null, entries.map((entry) => {
            const [text, kind] = stateText(entry);
            return row([h('span', { class: 'anywhere' }, entry.path), entry.warning && h('p', { class: 'warning small anywhere' }, entry.warning),
                entry.errors.length > 0 && h('ul', { class: 'errors anywhere' }, [...entry.errors].sort(([a], [b]) => a - b).map(([, error]) => h('li', null, error)), entry.failed > entry.errors.length && h('li', null, `and ${count(entry.failed - entry.errors.length)} more`))],
            [bytes(entry.file.size), 'number'], [h('span', { class: `badge ${kind}` }, text)]);
        }))),
        importer.files.length > rowsShown && h('p', { class: 'muted small pad' }, `${count(importer.files.length - rowsShown)} more files are not listed.`),
    ];
}

const namesShown = 10;

function namesOf(paths) {
    return [...paths].sort().slice(0, namesShown).join(', ') + (paths.length > namesShown ? ` and ${count(paths.length - namesShown)} more` : '');
}

export async function importing(context) {
    const { signal } = context;
    const { library, place, refresh } = await frame(context, '/import');
    const problem = h('div');
    const progress = h('div', { class: 'stack', 'aria-live': 'polite' });
    const list = h('div', { class: 'card flush' });
    list.hidden = true;
    const conflict = select({ name: 'conflict' }, [['replace', 'replace it'], ['skip', 'keep the one that is there']], 'replace');
    const tokens = h('input', { name: 'tokens', type: 'number', min: 1, max: 65536, placeholder: '256' });
    const overlap = h('input', { name: 'overlap', type: 'number', min: 0, placeholder: '32' });
    const files = h('input', { type: 'file', multiple: true, class: 'visually-hidden', id: 'files', tabindex: -1, 'aria-label': 'Files' });
    const folder = h('input', { type: 'file', webkitdirectory: true, class: 'visually-hidden', id: 'folder', tabindex: -1, 'aria-label': 'Folder' });
    let running = null;

    const begin = async ({ files: found, skipped }) => {
        if (running || found.length === 0) {
            if (running) say('An import is under way here: wait for its end, or stop it.');
            else say(`There is no text, Markdown, HTML or NDJSON in this${skipped.length > 0 ? `. Left out: ${namesOf(skipped)}` : '.'}`);
            return;
        }
        hush();
        running = new AbortController();
        const mine = running.signal;
        const stop = () => running?.abort();
        signal.addEventListener('abort', stop, { once: true });
        const chunking = tokens.value === '' && overlap.value === '' ? null : {
            ...(tokens.value === '' ? {} : { max_tokens: Number(tokens.value) }), ...(overlap.value === '' ? {} : { overlap: Number(overlap.value) }) };
        const line = h('p', { class: 'small' });
        const whole = bar('Import', 0, 1);
        const end = h('button', { type: 'button', class: 'small', on: { click: stop } }, 'Stop');
        let due = 0;
        const draw = (now) => {
            if (!now && Date.now() < due) return;
            due = Date.now() + 200;
            whole.max = Math.max(importer.totalBytes, 1);
            whole.value = importer.doneBytes;
            fill(line, `${counted(importer.successful, 'document')} in ${counted(importer.chunks, 'new chunk')}`, importer.replaced > 0 && `, ${count(importer.replaced)} replaced`, importer.skipped > 0 && `, ${count(importer.skipped)} kept`,
                `, ${count(importer.failed)} failed`, importer.empty > 0 && `; ${counted(importer.empty, 'file')} without text passed over`,
                skipped.length > 0 && h('span', { class: 'anywhere' }, `; ${counted(skipped.length, 'file')} of other kinds left out: ${namesOf(skipped)}`));
            fill(list, fileTable(importer));
            list.hidden = false;
        };
        const importer = new Importer({ library: library.id, files: found, onConflict: conflict.value, chunking, signal: mine, changed: () => draw(false) });
        trouble(problem, null);
        const title = h('h2', null, 'Importing');
        fill(progress, h('div', { class: 'card' }, h('div', { class: 'row between' }, title, end), whole, line));
        try {
            await importer.run();
            if (signal.aborted) return;
            fill(title, mine.aborted ? 'Stopped' : 'Imported');
            if (!mine.aborted) whole.value = whole.max;
        } catch (error) {
            if (signal.aborted) return;
            fill(title, 'Ended early');
            fill(problem, problemBox(error, isPassing(error) ? { retry: () => begin({ files: found, skipped }) } : {}));
        } finally {
            running = null;
        }
        draw(true);
        refresh().catch(() => {}); // the head stays as it was
        end.replaceWith(h('a', { class: 'button', href: libraryLink(library.id, '/search') }, icon(icons.search), 'Search it'));
    };

    const zone = h('div', { class: 'drop', on: {
        dragover: (event) => {
            event.preventDefault();
            zone.classList.add('over');
        },
        dragleave: () => zone.classList.remove('over'),
        drop: async (event) => {
            event.preventDefault();
            zone.classList.remove('over');
            begin(await dropped(event.dataTransfer));
        },
    } },
    icon(icons.upload), h('p', null, h('strong', null, 'Drop files or folders here')),
    h('p', { class: 'muted small' }, 'Text, Markdown (.md), HTML, and NDJSON (.ndjson, .jsonl: one document a line). For PDF take the command quire import.'),
    h('div', { class: 'row center' }, h('button', { type: 'button', on: { click: () => files.click() } }, 'Choose files'), h('button', { type: 'button', on: { click: () => folder.click() } }, 'Choose a folder'), files, folder));
    for (const input of [files, folder]) {
        input.addEventListener('change', () => {
            begin(picked([...input.files]));
            input.value = '';
        });
    }
    // A file that is dropped beside the field would else be opened in place of this page.
    for (const type of ['dragover', 'drop']) window.addEventListener(type, (event) => event.preventDefault(), { signal });

    fill(place, zone, h('details', { class: 'more' }, h('summary', null, 'How'), h('div', { class: 'two' },
        field('When a document with this id is there', conflict, 'A file is known by its path from the folder on, a line by its id or content. quire import goes by the whole path of a file: what comes by both ways is there twice.'),
        field('Tokens in a chunk, at most', tokens, 'Texts are cut by the server, at headings, paragraphs and sentences.'),
        field('Tokens repeated from the chunk before', overlap))),
    problem, progress, list);
}
