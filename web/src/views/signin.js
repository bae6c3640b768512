// signin.js - asks for an API key where the server wants one.
import { apiKey, setApiKey } from '../lib/api.js';
import { fill, h } from '../lib/dom.js';
import { field, problemBox } from '../ui.js';

export function signIn({ main }, problem) {
    const input = h('input', { type: 'password', name: 'key', id: 'api-key', autocomplete: 'off', spellcheck: 'false', required: true, placeholder: 'qk_…' });
    const refused = apiKey() !== null;
    fill(main, h('form', { class: 'card sign-in', on: {
        submit: (event) => {
            event.preventDefault();
            const key = input.value.trim();
            if (key) setApiKey(key);
        },
    } },
    h('h1', { tabindex: '-1' }, 'Sign in'),
    h('p', { class: 'muted' }, 'This server answers to those who have an API key.'),
    refused && problemBox(problem),
    field('API key', input, 'It is kept in this tab until you close it or sign out, and sent to this server only.'),
    h('div', { class: 'row end' }, h('button', { type: 'submit', class: 'primary' }, 'Sign in'))));
    input.focus();
}
