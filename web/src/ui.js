// ui.js - parts that several views use: messages, dialogs, errors, and doing something again and again while a view is shown.
import { Problem, isPassing } from './lib/api.js';
import { add, fill, h, icon } from './lib/dom.js';

export const icons = {
    add: 'M10 4v12M4 10h12',
    back: 'M12 4l-6 6 6 6',
    close: 'M5 5l10 10M15 5L5 15',
    download: 'M10 3v10M6 9l4 4 4-4M4 17h12',
    file: 'M5 3h7l3 3v11H5zM12 3v3h3',
    search: 'M9 15a6 6 0 1 0 0-12 6 6 0 0 0 0 12zM13.5 13.5 17 17',
    trash: 'M4 6h12M8 6V4h4v2M6 6l.7 10h6.6L14 6',
    upload: 'M10 14V4M6 8l4-4 4 4M4 17h12',
};

/** An error as the server gave it: what, why, and the request id by which the server's log has it. `retry`: what "Try again" does; with `itself` it is done, too, when the server is back. */
export function problemBox(error, { retry, itself = false } = {}) {
    const problem = error instanceof Problem ? error : new Problem(0, { title: 'Error in this page', detail: String(error?.message ?? error) });
    // The detail often says what the only error says.
    const errors = problem.errors.filter(({ pointer, detail }) => problem.message !== `${pointer}: ${detail}`);
    return h('div', { class: 'problem', role: 'alert', data: itself ? { itself: '' } : {} },
        h('strong', null, problem.title), problem.message.toLowerCase() !== problem.title.toLowerCase() && [' ', h('span', null, problem.message)],
        errors.length > 0 && h('ul', null, errors.map(({ pointer, detail }) => h('li', null, pointer && h('code', null, pointer), pointer && ': ', detail))),
        h('div', { class: 'muted small' }, problem.errorType && h('code', null, problem.errorType), problem.requestId && [' request ', h('code', null, problem.requestId)]),
        retry && h('button', { type: 'button', class: 'small', on: { click: retry } }, 'Try again'));
}

/** Says something to those who look and to those who listen; it goes by itself. */
export function say(...what) {
    const box = document.getElementById('messages');
    const message = h('div', { class: 'message' }, h('span', null, what),
        h('button', { type: 'button', class: 'plain small', 'aria-label': 'Dismiss', on: { click: () => message.remove() } }, icon(icons.close)));
    while (box.childElementCount >= 3) box.firstElementChild.remove();
    box.append(message);
    setTimeout(() => message.remove(), 8000);
}

/** Takes away what was said. */
export function hush() {
    fill(document.getElementById('messages'));
}

/** A link to the tasks, for messages. */
export function tasksLink() {
    return h('a', { href: '#/tasks' }, 'Tasks');
}

/**
 * A dialog: a title, content, and a form around both. `submit` gets the form's data; while it runs the buttons rest, and what it throws stands in the dialog.
 * Resolves to what `submit` gave, or to undefined when the dialog was left.
 */
export function dialog({ title, content, action, danger = false, submit, signal }) {
    return new Promise((resolve) => {
        let result;
        const trouble = h('div');
        const go = h('button', { type: 'submit', class: danger ? 'danger' : 'primary' }, action);
        const heading = h('h2', { id: `dialog-${Math.random().toString(36).slice(2)}` }, title);
        const form = h('form', { on: {
            submit: async (event) => {
                event.preventDefault();
                go.disabled = true;
                fill(trouble);
                try {
                    result = await submit(new FormData(form), form);
                    element.close();
                } catch (error) {
                    if (error.name !== 'AbortError') fill(trouble, problemBox(error));
                } finally {
                    go.disabled = false;
                }
            },
        } }, heading, trouble, content,
        h('div', { class: 'row end' }, h('button', { type: 'button', on: { click: () => element.close() } }, 'Cancel'), go));
        const element = h('dialog', { 'aria-labelledby': heading.id }, form);
        element.addEventListener('close', () => {
            element.remove();
            resolve(result);
        });
        signal?.addEventListener('abort', () => element.close());
        document.body.append(element);
        element.showModal();
        form.querySelector('input:not([type=hidden]), select, textarea, button')?.focus();
    });
}

/** A dialog that asks before something is lost. `word`: to be typed first. Resolves to true when it was done. */
export function confirmed({ title, text, action, word, submit, signal }) {
    const field = word === undefined ? null : h('p', null, h('label', { for: 'confirm-word' }, 'Type ', h('strong', { class: 'anywhere' }, word), ' to confirm'),
        h('input', { id: 'confirm-word', name: 'word', autocomplete: 'off', spellcheck: 'false' }));
    return dialog({
        title, action, danger: true, signal, content: [h('p', null, text), field],
        submit: async (data) => {
            if (word !== undefined && data.get('word') !== word) throw new Problem(0, { title: 'Not done.', detail: 'What you typed is not the name.' });
            await submit();
            return true;
        },
    });
}

/** A labelled field. `control` gets an id; `hint` stands below. */
export function field(label, control, hint) {
    control.id ||= `field-${label.toLowerCase().replace(/[^a-z]+/g, '-')}`;
    if (hint) control.setAttribute('aria-describedby', `${control.id}-hint`);
    return h('div', { class: 'field' }, h('label', { for: control.id }, label), control, hint && h('div', { class: 'muted small', id: `${control.id}-hint` }, hint));
}

export function select(attributes, options, value) {
    return h('select', attributes, options.map((option) => {
        const [key, text] = Array.isArray(option) ? option : [option, option];
        return h('option', { value: key, selected: key === value }, text);
    }));
}

/** A bar with its label for screen readers. Without a total it only says that something goes on. */
export function bar(label, done, total) {
    return h('progress', { 'aria-label': label, max: total > 0 ? total : false, value: total > 0 ? Math.min(done, total) : undefined });
}

/**
 * A table: its caption, for screen readers; the names of its columns (with # in front: of numbers; '' has the actions); its body. On a narrow screen each row becomes a block, for which the roles
 * are given by name.
 */
export function table(caption, columns, body) {
    body.setAttribute('role', 'rowgroup');
    return h('table', { class: 'table', role: 'table' }, h('caption', { class: 'visually-hidden' }, caption),
        h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, columns.map((name) => h('th', { scope: 'col', role: 'columnheader', class: name.startsWith('#') && 'number' },
            name === '' ? h('span', { class: 'visually-hidden' }, 'Actions') : name.replace('#', ''))))), body);
}

/** A row: the content of its first cell, which heads it, and of the others ([content, class]). */
export function row(heading, ...cells) {
    return h('tr', { role: 'row' }, h('th', { scope: 'row', role: 'rowheader' }, heading), cells.map(([content, kind]) => h('td', { class: kind, role: 'cell' }, content)));
}

/** name and value pairs. */
export function facts(entries) {
    return h('dl', { class: 'facts' }, entries.filter(Boolean).map(([name, ...value]) => h('div', null, h('dt', null, name), h('dd', null, value))));
}

/** A head of a view: the title, which takes the focus when one comes here, and actions beside it. */
export function head(title, ...actions) {
    return h('div', { class: 'head' }, h('h1', { tabindex: '-1' }, title), actions.length > 0 && h('div', { class: 'row' }, actions));
}

export function wait(milliseconds, signal) {
    return new Promise((resolve) => {
        const done = () => {
            clearTimeout(timer);
            resolve();
        };
        const timer = setTimeout(() => {
            signal?.removeEventListener('abort', done);
            resolve();
        }, milliseconds);
        signal?.addEventListener('abort', done, { once: true });
    });
}

/** Until the page is looked at. */
function shown(signal) {
    if (!document.hidden) return Promise.resolve();
    return new Promise((resolve) => {
        const look = () => {
            if (document.hidden && !signal.aborted) return;
            document.removeEventListener('visibilitychange', look);
            resolve();
        };
        document.addEventListener('visibilitychange', look);
        signal.addEventListener('abort', look, { once: true });
    });
}

/**
 * Does something now and again and again, until the signal aborts: `work` gives the milliseconds until the next time. Nothing is done while the page is hidden. What it throws goes
 * to `failed`, and it is tried again after five seconds. `first`: milliseconds before the first time. Gives a function that makes the next time now.
 */
export function repeatedly(signal, work, failed, first = 0) {
    let hurry = () => {};
    const pause = async (milliseconds) => {
        await Promise.race([wait(milliseconds, signal), new Promise((resolve) => { hurry = resolve; })]);
        await shown(signal);
    };
    const run = async () => {
        if (first > 0) await pause(first);
        while (!signal.aborted) {
            let next = 5000;
            try {
                next = await work();
            } catch (error) {
                if (signal.aborted || error.name === 'AbortError' || error.status === 401) return;
                failed(error);
            }
            await pause(next);
        }
    };
    run();
    return () => hurry();
}

/** Runs `work` for many things, a few at a time, in the order in which they come. */
export function queue(atOnce, work) {
    const waiting = [];
    let running = 0;
    const next = async () => {
        if (running >= atOnce || waiting.length === 0) return;
        running += 1;
        try {
            await work(waiting.shift());
        } finally {
            running -= 1;
            next();
        }
    };
    return (item) => {
        waiting.push(item);
        next();
    };
}

/** Builds the view that is shown anew. */
export function again() {
    document.dispatchEvent(new CustomEvent('quire:again'));
}

/** Shows a problem at the top of a view, or takes it away (null). Of one that is passing `retry` is what tries again: the view built anew, where nothing else is given. */
export function trouble(place, error, { retry = again } = {}) {
    fill(place);
    if (error && error.name !== 'AbortError') add(place, problemBox(error, isPassing(error) ? { retry, itself: true } : {}));
}

/** A file to the user's disk. Where a key is needed it goes through this page, since a link cannot carry one. */
export function offer(blob, name) {
    const url = URL.createObjectURL(blob);
    const link = h('a', { href: url, download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
}
