// api.js - calls of Quire's HTTP interface from a page of the same origin.
//
// Where the server wants a key, the page asks for one. It stays in sessionStorage: it ends with the tab, no other origin sees it, and it goes nowhere but into the
// Authorization header of calls of this server.

const keyName = 'quire.key';

/** An error of the interface (problem+json), or a network that does not answer (status 0). */
export class Problem extends Error {
    constructor(status, document) {
        super(document.detail || document.title || `The server answered with status ${status}.`);
        this.name = 'Problem';
        this.status = status;
        this.title = document.title ?? (status ? `Status ${status}` : 'No answer');
        this.errorType = document.error_type ?? null;
        this.requestId = document.request_id ?? null;
        this.errors = Array.isArray(document.errors) ? document.errors : [];
    }
}

/** Whether an error is one of a server that is away, starting or being replaced: the same call may succeed in a moment. */
export function isPassing({ status }) {
    return [0, 502, 503, 504].includes(status);
}

export function apiKey() {
    return sessionStorage.getItem(keyName);
}

/** Keeps a key, or forgets it (null). */
export function setApiKey(key) {
    if (key) sessionStorage.setItem(keyName, key);
    else sessionStorage.removeItem(keyName);
    document.dispatchEvent(new CustomEvent('quire:key'));
}

/** The error that a reply brings. */
export async function problemOf(response) {
    let document = {};
    try {
        document = await response.json();
    } catch {
        // Not Quire's own form: a proxy's page, say. The status has to do.
    }
    const problem = new Problem(response.status, document ?? {});
    problem.requestId ??= response.headers.get('X-Request-Id');
    problem.retryAfter = Number(response.headers.get('Retry-After')) || null;
    return problem;
}

/**
 * One call. `body`: an object, sent as JSON, or anything else that fetch takes, with `type` as its media type. Resolves to the response when its status is 2xx,
 * rejects with a Problem otherwise. Of a 401 listeners of `quire:unauthorized` on the document learn, too, and those of `quire:failed` of one that
 * is passing.
 */
export async function send(path, { method, body, type, headers = {}, signal } = {}) {
    const all = { ...headers };
    const key = apiKey();
    if (key) all.Authorization = `Bearer ${key}`;
    let payload;
    if (body !== undefined) {
        all['Content-Type'] = type ?? 'application/json';
        payload = type ? body : JSON.stringify(body);
    }
    let response;
    try {
        response = await fetch(path, {
            method: method ?? (body === undefined ? 'GET' : 'POST'), headers: all, body: payload, signal, credentials: 'omit', redirect: 'error', cache: 'no-store',
        });
    } catch (error) {
        if (error.name === 'AbortError') throw error;
        document.dispatchEvent(new CustomEvent('quire:failed', { detail: 0 }));
        throw new Problem(0, { title: 'No answer', detail: 'The server cannot be reached. It may be starting anew, or the network is away.' });
    }
    if (response.ok) return response;
    const problem = await problemOf(response);
    if (response.status === 401) document.dispatchEvent(new CustomEvent('quire:unauthorized', { detail: problem }));
    if (isPassing(problem)) document.dispatchEvent(new CustomEvent('quire:failed', { detail: problem.status }));
    throw problem;
}

/** The JSON of a reply; null of an empty one. */
export async function call(path, options) {
    const response = await send(path, options);
    return response.status === 204 ? null : response.json();
}

/** A page of a list: its items, and the path of the next page (null at the end), from the Link header. */
export async function page(path, options) {
    const response = await send(path, options);
    const next = /<([^>]+)>\s*;\s*rel="?next"?/.exec(response.headers.get('Link') ?? '');
    let following = null;
    if (next) {
        const url = new URL(next[1], location.href);
        following = url.pathname + url.search;
    }
    return { items: await response.json(), next: following };
}
