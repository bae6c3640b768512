// snapshots.js - the snapshots that there are: taking one, restoring one on trial, and bringing one home.
import { apiKey, call, send } from '../lib/api.js';
import { fill, h, icon } from '../lib/dom.js';
import { bytes, counted, time } from '../lib/format.js';
import { bar, head, icons, offer, repeatedly, row, say, table, trouble, wait } from '../ui.js';
import { isOver } from './tasks.js';

/** Waits for the end of a task, showing its progress. */
async function follow(task, place, label, signal) {
    const progress = bar(label, 0, 0);
    fill(place, h('div', { class: 'card row progress-line' }, h('span', null, label), progress));
    try {
        let now = task;
        while (!isOver(now)) {
            await wait(300, signal);
            if (signal.aborted) return null;
            now = await call(`/v1/tasks/${encodeURIComponent(task.id)}`, { signal });
            if (now.total > 0) {
                progress.max = now.total;
                progress.value = Math.min(now.done, now.total);
            }
        }
        return now;
    } finally {
        fill(place);
    }
}

export async function snapshots({ main, signal }) {
    const problem = h('div');
    const progress = h('div', { 'aria-live': 'polite' });
    const body = h('tbody');
    const list = h('div', { class: 'card flush' }, table('Snapshots', ['Name', '#Size', 'Holds', 'Verified', ''], body));
    const empty = h('p', { class: 'muted' }, 'No snapshot yet. The server takes one by itself when there is something new, and when it stops.');
    let drawn = '';

    const fetchSnapshot = async (name, button) => {
        button.disabled = true;
        const said = h('p', { class: 'card row progress-line' });
        fill(progress, said);
        try {
            const response = await send(`/v1/snapshots/${encodeURIComponent(name)}`, { signal });
            const length = Number(response.headers.get('Content-Length'));
            const shown = bar(`Download of ${name}`, 0, length || 0);
            fill(said, h('span', null, `Fetching ${name}`), shown);
            const pieces = [];
            let got = 0;
            const reader = response.body.getReader();
            for (;;) {
                const { done, value } = await reader.read();
                if (done) break;
                pieces.push(value);
                got += value.length;
                if (length > 0) shown.value = got;
            }
            offer(new Blob(pieces, { type: 'application/zstd' }), name);
            say(`${name}: ${bytes(got)} fetched.`);
        } catch (error) {
            trouble(problem, error);
        } finally {
            fill(progress);
            button.disabled = false;
        }
    };
    const work = async (button, path, label, ended) => {
        button.disabled = true;
        trouble(problem, null);
        try {
            const task = await follow(await call(path, { method: 'POST' }), progress, label, signal);
            if (!task) return;
            if (task.state === 'succeeded') say(ended);
            else trouble(problem, new Error(`${label}: ${task.error ?? task.state}`));
            await look();
        } catch (error) {
            trouble(problem, error);
        } finally {
            button.disabled = false;
        }
    };
    const line = ({ name, created_at: at, bytes: size, libraries, documents, chunks, base, depth, verified }) => {
        const path = `/v1/snapshots/${encodeURIComponent(name)}`;
        const verify = h('button', { type: 'button', class: 'small', 'aria-label': `Verify ${name}`, on: { click: () => work(verify, `${path}/verify`, 'Verification', 'The snapshot holds: it was restored on trial.') } }, 'Verify');
        const contents = [icon(icons.download), 'Download'];
        // A link streams to the disk; it cannot carry a key.
        const download = apiKey() === null
            ? h('a', { class: 'button small', href: path, download: name, 'aria-label': `Download ${name}` }, contents)
            : h('button', { type: 'button', class: 'small', 'aria-label': `Download ${name}`, on: { click: () => fetchSnapshot(name, download) } }, contents);
        return row([h('code', { class: 'anywhere' }, name), h('div', { class: 'muted small' }, time(at), base && ` · what changed, on ${counted(depth, 'other')}`)],
            [bytes(size), 'number'],
            [[counted(documents, 'document'), h('div', { class: 'muted small' }, counted(chunks, 'chunk'), ` in ${counted(libraries, 'library', 'libraries')}`)]],
            [verified ? [h('span', { class: `badge ${verified.good ? 'good' : 'bad'}` }, verified.good ? 'holds' : 'does not hold'), h('div', { class: 'muted small' }, time(verified.at))] : h('span', { class: 'muted' }, 'never verified')],
            [h('div', { class: 'row end' }, verify, download), 'actions']);
    };
    async function look() {
        const all = await call('/v1/snapshots', { signal });
        // Drawn anew only when something changed, so that the focus stays where it is.
        const now = JSON.stringify(all);
        if (now !== drawn) {
            const focused = document.activeElement?.getAttribute('aria-label');
            fill(body, all.map(line));
            list.hidden = all.length === 0;
            empty.hidden = all.length > 0;
            if (focused && !main.contains(document.activeElement)) [...body.querySelectorAll('[aria-label]')].find((element) => element.getAttribute('aria-label') === focused)?.focus();
            drawn = now;
        }
        return 5000;
    }
    const take = h('button', { type: 'button', class: 'primary', on: { click: () => work(take, '/v1/snapshots', 'Snapshot', 'The snapshot is taken.') } }, icon(icons.add), 'Take a snapshot');
    fill(main, head('Snapshots', take), h('p', { class: 'muted' }, 'A snapshot is a tar of texts and settings: tar, jq and sha256sum read it. To verify one, the server restores it on trial, with all that it rests on.'),
        problem, progress, empty, list);
    repeatedly(signal, look, (error) => trouble(problem, error), await look());
}
