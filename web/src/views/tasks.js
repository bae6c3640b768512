// tasks.js - long work of the server: how far it is, how it ended, and stopping it.
import { call } from '../lib/api.js';
import { fill, h } from '../lib/dom.js';
import { count, percent, seconds, time } from '../lib/format.js';
import { head, repeatedly, say, trouble } from '../ui.js';

const kinds = { rebuild: 'Rebuild of an index', snapshot: 'Snapshot', reembed: 'Change of a model', optimize: 'Reclaiming of what is deleted', verify: 'Verification of a snapshot' };
const badges = { succeeded: 'good', failed: 'bad', running: 'info', pending: 'info', cancelled: 'warn' };

export function isOver({ state }) {
    return ['succeeded', 'failed', 'cancelled'].includes(state);
}

/** One task; `update` takes it as it is now. The parts stay, so that the focus on its button does. */
function row(task, cancel) {
    const badge = h('span');
    const progress = h('progress', { 'aria-label': `Progress of ${kinds[task.kind] ?? task.kind}` });
    const done = h('span', { class: 'muted small' });
    const times = h('p', { class: 'muted small' });
    const error = h('p', { class: 'anywhere bad-text' });
    const button = h('button', { type: 'button', class: 'small', 'aria-label': `Cancel: ${kinds[task.kind] ?? task.kind}`, on: { click: () => cancel(task.id, button) } }, 'Cancel');
    const element = h('li', { class: 'card task', data: { id: task.id } },
        h('div', { class: 'row between' }, h('h2', null, kinds[task.kind] ?? task.kind), h('div', { class: 'row' }, badge, button)), h('div', { class: 'row progress-line' }, progress, done), times, error);
    return {
        element,
        update: (now) => {
            badge.className = `badge ${badges[now.state] ?? ''}`;
            fill(badge, now.state);
            button.hidden = isOver(now);
            if (now.total > 0 || isOver(now)) {
                progress.max = Math.max(now.total, 1);
                progress.value = now.total > 0 ? Math.min(now.done, now.total) : Number(now.state === 'succeeded');
            } else progress.removeAttribute('value');
            fill(done, now.total > 0 && `${count(now.done)} of ${count(now.total)}`);
            const took = now.finished_at && now.started_at ? (new Date(now.finished_at) - new Date(now.started_at)) / 1000 : null;
            fill(times, 'Begun ', now.started_at ? time(now.started_at) : 'not yet', took !== null && `, took ${seconds(took)}`,
                now.overlap_queries > 0 && `. Both models agree on ${percent(now.overlap_at_10)} of the ten nearest (${count(now.overlap_queries)} queries)`);
            error.hidden = !now.error;
            fill(error, now.error);
        },
    };
}

export async function tasks({ main, signal }) {
    const problem = h('div');
    const list = h('ul', { class: 'plain-list stack' });
    const empty = h('p', { class: 'muted' }, 'No task since the server started. Snapshots, rebuilds and changes of a model show here.');
    const rows = new Map();
    const look = async () => {
        const all = await call('/v1/tasks', { signal });
        trouble(problem, null);
        const there = new Set(all.map(({ id }) => id));
        for (const [id, { element }] of rows) {
            if (there.has(id)) continue;
            element.remove();
            rows.delete(id);
        }
        // The newest stands first.
        for (const task of [...all].reverse()) {
            if (!rows.has(task.id)) {
                rows.set(task.id, row(task, cancel));
                list.prepend(rows.get(task.id).element);
            }
            rows.get(task.id).update(task);
        }
        empty.hidden = all.length > 0;
        return all.every(isOver) ? 3000 : 500;
    };
    async function cancel(id, button) {
        button.disabled = true;
        try {
            await call(`/v1/tasks/${encodeURIComponent(id)}`, { method: 'DELETE' });
            say('The task is asked to stop.');
            await look();
        } catch (error) {
            trouble(problem, error);
        } finally {
            button.disabled = false;
        }
    }
    fill(main, head('Tasks'), problem, empty, list);
    repeatedly(signal, look, (error) => trouble(problem, error), await look());
}
