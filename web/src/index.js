// index.js - the page at /: its frame, and which view is shown. The address after # names the view: #/library/ID/search?q=...
//
// A view is a function of {main, params, query, signal}: it fills `main` and ends all that it does when `signal` aborts, that is when another view is shown.
import { apiKey, call, isPassing, setApiKey } from './lib/api.js';
import { fill, h } from './lib/dom.js';
import { problemBox, repeatedly } from './ui.js';
import { activity } from './views/activity.js';
import { document as documentView, documents } from './views/documents.js';
import { importing } from './views/import.js';
import { keys } from './views/keys.js';
import { libraries } from './views/libraries.js';
import { models } from './views/models.js';
import { overview } from './views/overview.js';
import { search } from './views/search.js';
import { signIn } from './views/signin.js';
import { snapshots } from './views/snapshots.js';
import { tasks } from './views/tasks.js';

const routes = [
    [/^\/$/, libraries, 'Libraries'],
    [/^\/library\/([^/]+)\/search$/, search, 'Search'],
    [/^\/library\/([^/]+)\/documents$/, documents, 'Documents'],
    [/^\/library\/([^/]+)\/document\/([^/]+)$/, documentView, 'Document'],
    [/^\/library\/([^/]+)\/import$/, importing, 'Import'],
    [/^\/library\/([^/]+)$/, overview, 'Overview'],
    [/^\/tasks$/, tasks, 'Tasks'],
    [/^\/activity$/, activity, 'Activity'],
    [/^\/snapshots$/, snapshots, 'Snapshots'],
    [/^\/models$/, models, 'Models'],
    [/^\/keys$/, keys, 'Keys'],
];
const places = [['#/', 'Libraries'], ['#/tasks', 'Tasks'], ['#/activity', 'Activity'], ['#/snapshots', 'Snapshots'], ['#/models', 'Models'], ['#/keys', 'Keys']];

const main = document.getElementById('main');
const links = places.map(([href, text]) => h('a', { href }, text));
const interfaceLink = h('a', { href: '/docs', title: 'Every call of the interface, to read and to try' }, 'API');
const state = h('span', { class: 'state' }, h('span', { class: 'dot' }), h('span', { class: 'state-text' }, '…'));
const signOut = h('button', { type: 'button', class: 'small', on: { click: () => setApiKey(null) } }, 'Sign out');
let leaving = new AbortController();
let first = true;
let away = false; // at the last look
let lookNow = () => {};

function decoded(part) {
    try {
        return decodeURIComponent(part);
    } catch {
        return part;
    }
}

async function show(view, title, params, query, focus) {
    leaving.abort();
    leaving = new AbortController();
    document.title = `${title} – Quire`;
    fill(main);
    document.querySelector('dialog[open]')?.close();
    const { signal } = leaving;
    try {
        await view({ main, params, query, signal });
    } catch (error) {
        if (signal.aborted || error.name === 'AbortError' || error.status === 401) return;
        fill(main, h('h1', { tabindex: '-1' }, title), problemBox(error, { retry: route, itself: isPassing(error) }));
    }
    if (signal.aborted || !focus) return;
    // What a view has put the focus on keeps it.
    if (main.contains(document.activeElement) && document.activeElement !== main) return;
    (main.querySelector('h1') ?? main).focus({ preventScroll: true });
}

function route() {
    const [path, query] = (location.hash.slice(1) || '/').split('?');
    const focus = !first;
    first = false;
    for (const link of links) {
        const place = link.getAttribute('href').slice(1);
        const here = place === '/' ? path === '/' || path.startsWith('/library/') : path === place;
        if (here) {
            link.setAttribute('aria-current', 'page');
            link.scrollIntoView({ block: 'nearest', inline: 'center' }); // on a narrow screen the menu is wider than that
        } else link.removeAttribute('aria-current');
    }
    signOut.hidden = !apiKey();
    if (focus) window.scrollTo(0, 0);
    for (const [pattern, view, title] of routes) {
        const match = pattern.exec(path);
        if (match) {
            show(view, title, match.slice(1).map(decoded), new URLSearchParams(query ?? ''), focus);
            return;
        }
    }
    show(({ main: place }) => fill(place, h('h1', { tabindex: '-1' }, 'Nothing here'), h('p', null, 'There is no such view. ', h('a', { href: '#/' }, 'To the libraries'))), 'Nothing here', [], new URLSearchParams(), focus);
}

/** How the server is, beside the menu. /readiness needs no key. */
async function look() {
    let ready = false;
    let text;
    try {
        const reply = await call('/readiness');
        ready = reply.ready;
        text = reply.ready ? 'Ready' : reply.message;
    } catch (error) {
        text = error.status === 503 ? 'Not ready' : 'No answer';
    }
    tell(ready, text);
    if (ready && away) for (const button of main.querySelectorAll('.problem[data-itself] button')) button.click();
    away = !ready;
    return ready ? 20000 : 3000;
}

function tell(ready, text) {
    state.classList.toggle('good', ready);
    fill(state.querySelector('.state-text'), text);
}

fill(document.getElementById('top'), h('div', { class: 'bar' },
    h('a', { class: 'brand', href: '#/' }, h('img', { src: '/web/icon.svg', alt: '', width: 26, height: 26 }), 'Quire'),
    h('nav', { 'aria-label': 'Views' }, links, interfaceLink),
    h('div', { class: 'side' }, state, signOut)));
// Where its link would lead is an address of this page's own kind.
document.querySelector('.skip').addEventListener('click', (event) => {
    event.preventDefault();
    main.focus();
});
window.addEventListener('hashchange', route);
document.addEventListener('quire:key', route);
document.addEventListener('quire:again', route);
document.addEventListener('quire:unauthorized', ({ detail }) => {
    // Several calls of a view may be refused at once.
    if (!main.querySelector('form.sign-in')) show((context) => signIn(context, detail), 'Sign in', [], new URLSearchParams(), true);
});
// A call that has failed says it first; how the server is now is looked at without waiting for the next time.
document.addEventListener('quire:failed', ({ detail: status }) => {
    if (status === 0) tell(false, 'No answer');
    lookNow();
});
route();
lookNow = repeatedly(new AbortController().signal, look, () => {});
