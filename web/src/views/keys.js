// keys.js - API keys: who may do what. A new one's secret is shown once.
import { call } from '../lib/api.js';
import { fill, h, icon } from '../lib/dom.js';
import { time } from '../lib/format.js';
import { confirmed, dialog, facts, field, head, icons, say, trouble } from '../ui.js';

const scopes = [['read', 'searches, and reading what is stored'], ['write', 'documents and chunks: make, replace, delete'], ['admin', 'all of that, and whatever concerns libraries as a whole and the server']];

async function allLibraries(signal) {
    return call('/v1/libraries?limit=100', { signal }).catch(() => []);
}

export async function keys({ main, signal }) {
    const problem = h('div');
    const secret = h('div', { role: 'status' });
    const list = h('ul', { class: 'plain-list stack' });
    const names = new Map();

    const create = async () => {
        trouble(problem, null);
        const libraries = await allLibraries(signal);
        const made = await dialog({
            title: 'New key', action: 'Create', signal,
            content: [
                field('Name', h('input', { name: 'name', required: true, maxlength: 255, autocomplete: 'off' })),
                h('fieldset', null, h('legend', null, 'It may'), scopes.map(([scope, text]) => h('label', { class: 'check' }, h('input', { type: 'checkbox', name: 'scope', value: scope, checked: scope === 'read' }), h('span', null, h('b', null, scope), `: ${text}`)))),
                libraries.length > 0 && h('fieldset', null, h('legend', null, 'Only in these libraries (none chosen: in all)'),
                    h('div', { class: 'choices' }, libraries.map(({ id, name }) => h('label', { class: 'check' }, h('input', { type: 'checkbox', name: 'library', value: id }), h('span', { class: 'anywhere' }, name))))),
                field('Ends on', h('input', { name: 'expires', type: 'date' }), 'Left empty: never.'),
            ],
            submit: (data) => {
                const chosen = data.getAll('library');
                const expires = data.get('expires');
                return call('/v1/keys', { body: { name: data.get('name'), scopes: data.getAll('scope'), ...(chosen.length > 0 ? { libraries: chosen } : {}), ...(expires ? { expires_at: `${expires}T00:00:00Z` } : {}) } });
            },
        }).catch((error) => trouble(problem, error));
        if (!made) return;
        const shown = h('code', { class: 'anywhere secret' }, made.secret);
        const copy = h('button', { type: 'button', class: 'small', on: { click: async () => {
            try {
                await navigator.clipboard.writeText(made.secret);
                say('Copied.');
            } catch {
                getSelection().selectAllChildren(shown);
                say('The browser does not let this page copy: the key is selected, copy it by hand.');
            }
        } } }, 'Copy');
        fill(secret, h('div', { class: 'card notice' }, h('h2', null, `The key “${made.name}”`), h('p', null, 'It is shown here and never again. Keep it now.'), h('div', { class: 'row' }, shown, copy,
            h('button', { type: 'button', class: 'small', on: { click: () => fill(secret) } }, 'I have it'))));
        copy.focus();
        await draw();
    };

    const row = (key) => h('li', { class: 'card' },
        h('div', { class: 'row between' }, h('h2', { class: 'anywhere' }, key.name), h('button', { type: 'button', class: 'small danger', 'aria-label': `Revoke ${key.name}`, on: { click: async () => {
            const gone = await confirmed({ title: 'Revoke this key?', action: 'Revoke', signal, text: ['“', h('span', { class: 'anywhere' }, key.name), '” opens nothing any more from that moment on.'],
                submit: () => call(`/v1/keys/${encodeURIComponent(key.id)}`, { method: 'DELETE' }) });
            if (gone) await draw();
        } } }, 'Revoke')),
        facts([['May', key.scopes.map((scope) => h('span', { class: 'badge' }, scope))], ['Libraries', key.libraries === null ? 'all' : h('span', { class: 'anywhere' }, key.libraries.map((id) => names.get(id) ?? id).join(', '))],
            ['Made', time(key.created_at)], ['Ends', key.expires_at ? time(key.expires_at) : 'never'], ['Last used', key.last_used_at ? time(key.last_used_at) : 'never']]));

    async function draw() {
        try {
            const [all, libraries] = await Promise.all([call('/v1/keys', { signal }), allLibraries(signal)]);
            for (const { id, name } of libraries) names.set(id, name);
            fill(list, all.length > 0 ? all.map(row) : h('li', { class: 'muted' }, 'No key yet, but those of the configuration.'));
        } catch (error) {
            trouble(problem, error);
        }
    }

    const health = await call('/health/detailed', { signal });
    fill(main, head('Keys', h('button', { type: 'button', class: 'primary', on: { click: create } }, icon(icons.add), 'New key')),
        !health.authentication && h('p', { class: 'card notice' }, 'This server asks nobody for a key (auth = off): whoever reaches it may do everything. Keys made here count from the day on that auth is on.'), problem, secret, list);
    await draw();
}
