// docs.js - /docs: openapi.json to read and to try, by Swagger UI (from npm, bundled; it asks no other host for anything).
//
// Where the server wants a key, so does its description: until there is one, the page has a form and nothing else. The key is the one of the page at / (lib/api.js): it ends with the
// tab. It is added to each call that Swagger UI makes, so its own form for keys is not shown.
import SwaggerUIBundle from 'swagger-ui-dist/swagger-ui-bundle.js';
import { apiKey, call, setApiKey } from './lib/api.js';
import { fill, h } from './lib/dom.js';

const main = document.querySelector('#calls');
const form = document.querySelector('#key');
const secret = document.querySelector('#secret');
const state = document.querySelector('#state');

/** Not to be shown: the form above is for keys, and calls go to this server only. */
function WithoutKeysAndServers() {
    return { wrapComponents: { authorizeBtn: () => () => null, authorizeOperationBtn: () => () => null, ServersContainer: () => () => null } };
}

/** A key goes with every call; what the browser has of its own (cookies) with none. */
function asCaller(request) {
    const key = apiKey();
    if (key) request.headers.Authorization = `Bearer ${key}`;
    request.credentials = 'omit';
    return request;
}

function show(spec) {
    fill(main, h('div', { id: 'swagger' }));
    SwaggerUIBundle({
        spec,
        dom_id: '#swagger',
        deepLinking: true,
        docExpansion: 'list',
        defaultModelsExpandDepth: 0,
        displayRequestDuration: true,
        filter: true,
        validatorUrl: null,
        requestInterceptor: asCaller,
        // Of the command for curl that it shows: the key is nobody's who looks over a shoulder.
        showMutatedRequest: false,
        plugins: [WithoutKeysAndServers],
        // Examples in colours are made for each call that is opened, and take a second each of large replies.
        syntaxHighlight: { activated: false },
    });
}

function tell() {
    state.textContent = apiKey() ? 'A key is in use until this tab is closed.' : '';
    document.querySelector('#forget').hidden = !apiKey();
}

async function load() {
    try {
        tell();
        const spec = await call('/openapi.json');
        show(spec);
        form.hidden = !apiKey(); // it came without one: the server wants none
    } catch (problem) {
        const wanted = problem.status === 401;
        if (wanted && apiKey()) setApiKey(null);
        tell();
        fill(main, h('div', { class: 'problem', role: 'alert' }, h('strong', {}, wanted ? 'This server wants an API key.' : problem.title), ' ',
            wanted ? 'Give one above; any that is valid shows the description, and what it may do can be tried.' : problem.message));
        form.hidden = false;
        if (wanted) secret.focus();
    }
}

form.addEventListener('submit', (event) => {
    event.preventDefault();
    setApiKey(secret.value.trim() || null);
    secret.value = '';
    load();
});
document.querySelector('#forget').addEventListener('click', () => {
    setApiKey(null);
    load();
});
load();
