// models.js - the embedding models that are configured.
import { call } from '../lib/api.js';
import { fill, h } from '../lib/dom.js';
import { count } from '../lib/format.js';
import { facts, head } from '../ui.js';

const states = { ready: ['ready', 'good'], away: ['away', 'bad'], unknown: ['not asked yet', ''] };

export async function models({ main, signal }) {
    const all = await call('/v1/models', { signal });
    fill(main, head('Models'), h('p', { class: 'muted' }, 'A library keeps the model that it was made with, until it is given another one.'),
        h('ul', { class: 'plain-list stack' }, all.map(({ name, dimension, where, fingerprint, state, error, default: preset }) => {
            const [text, kind] = states[state] ?? [state, ''];
            return h('li', { class: 'card' },
                h('div', { class: 'row' }, h('h2', { class: 'anywhere' }, name), preset && h('span', { class: 'badge info' }, 'for new libraries'), state && h('span', { class: `badge ${kind}` }, text)),
                facts([['Dimension', dimension ? count(dimension) : 'not known yet'], ['Runs', where], ['Fingerprint', h('code', { class: 'anywhere' }, fingerprint || '–')]]),
                error && h('p', { class: 'anywhere' }, error));
        })));
}
