// importer.js - brings files into a library: reads them one after the other, sends their documents in batches, and tells how it goes.
//
// Batches go to documents/stream, each a request of bounded size, whose reply has a line for each document. A document whose id is there is replaced or kept. What could not be sent because
// the server was busy, or away for a moment, is sent again: ids make that safe.
import { Problem, isPassing, send } from './lib/api.js';
import { libraryPath } from './library.js';
import { kindOf, lineDocument, linesOf, textDocument } from './files.js';
import { wait } from './ui.js';

const batchDocuments = 200;
const batchChars = 1024 * 1024;
const attempts = 6;

export class Importer {
    /** `onConflict`: replace or skip. `changed` is called when there is something new to show. */
    constructor({ library, files, onConflict, chunking, signal, changed }) {
        Object.assign(this, { library, onConflict, chunking, signal, changed });
        this.files = files.map(({ file, path }) => ({ file, path, state: 'waiting', sent: 0, failed: 0, errors: [] }));
        this.totalBytes = files.reduce((sum, { file }) => sum + file.size, 0);
        this.doneBytes = 0;
        this.successful = 0;
        this.skipped = 0;
        this.replaced = 0;
        this.failed = 0;
        this.empty = 0; // files without text, passed over
        this.chunks = 0;
        this.batch = [];
        this.batchSize = 0;
    }

    /** `line`: of NDJSON, or null. */
    complain(entry, line, detail) {
        entry.failed += 1;
        this.failed += 1;
        if (entry.errors.length < 20) entry.errors.push(line === null ? [0, detail] : [line, `line ${line}: ${detail}`]);
    }

    async run() {
        let before = 0;
        for (const entry of this.files) {
            if (this.signal.aborted) break;
            entry.state = 'reading';
            this.changed();
            try {
                if (kindOf(entry.file.name) === 'ndjson') await this.readLines(entry, before);
                else {
                    const made = await textDocument(entry);
                    if (made) {
                        entry.warning = made.warning;
                        await this.add(entry, null, JSON.stringify(this.chunking ? { ...made.document, chunking: this.chunking } : made.document));
                    }
                }
            } catch (error) {
                if (this.signal.aborted) break;
                if (error.fatal) throw error;
                this.complain(entry, null, error.message);
            }
            entry.read = true;
            if (entry.sent === 0 && entry.failed === 0) this.empty += 1;
            before += entry.file.size;
            this.doneBytes = before;
            this.settle(entry);
            this.changed();
        }
        if (!this.signal.aborted) await this.flush();
        this.changed();
    }

    async readLines(entry, before) {
        for await (const { text, number, end } of linesOf(entry.file)) {
            if (this.signal.aborted) return;
            let line = null;
            try {
                line = await lineDocument(text);
            } catch (error) {
                this.complain(entry, number, error.message);
            }
            if (line !== null) await this.add(entry, number, line);
            this.doneBytes = before + end;
        }
    }

    async add(entry, number, line) {
        if (this.batch.length > 0 && (this.batch.length >= batchDocuments || this.batchSize + line.length > batchChars)) await this.flush();
        entry.sent += 1;
        entry.open = (entry.open ?? 0) + 1;
        this.batch.push({ entry, number, line });
        this.batchSize += line.length;
    }

    /** A file is done when it is read and all of its documents have their result. */
    settle(entry) {
        if (!entry.read || entry.open) return;
        if (entry.failed > 0) entry.state = 'failed';
        else entry.state = entry.sent > 0 ? 'done' : 'empty';
    }

    async flush() {
        let items = this.batch.splice(0);
        this.batchSize = 0;
        for (let attempt = 1; items.length > 0; attempt += 1) {
            try {
                items = await this.post(items);
                // What the server did not come to (it is being replaced, say) is sent again after a moment.
                if (items.length > 0 && attempt >= attempts) throw new Problem(0, { title: 'Not whole', detail: 'The server did not take all documents.' });
                if (items.length > 0) await wait(500 * attempt, this.signal);
            } catch (problem) {
                if (this.signal.aborted) return;
                const passing = problem.status === 429 || isPassing(problem);
                if (!passing || attempt >= attempts) throw Object.assign(problem, { fatal: true });
                await wait((problem.retryAfter ?? 2 ** (attempt - 1)) * 1000, this.signal);
            }
            if (this.signal.aborted) return;
        }
        this.changed();
    }

    /** Sends some, takes their results, gives those back that have none. */
    async post(items) {
        const path = `${libraryPath(this.library, '/documents/stream')}?on_conflict=${this.onConflict}`;
        const response = await send(path, { method: 'POST', body: items.map(({ line }) => line).join('\n'), type: 'application/x-ndjson', signal: this.signal });
        const settled = new Set();
        for (const text of (await response.text()).split('\n')) {
            if (text === '') continue;
            const result = JSON.parse(text);
            if (result.summary) {
                this.chunks += result.summary.total_chunks_added;
                this.replaced += result.summary.replaced;
                continue;
            }
            const item = items[result.line - 1];
            if (!item || settled.has(item)) continue;
            settled.add(item);
            item.entry.open -= 1;
            if (result.success) this.successful += 1;
            else this.complain(item.entry, item.number, result.error?.detail ?? 'no reason given');
            if (result.skipped) this.skipped += 1;
            this.settle(item.entry);
        }
        return items.filter((item) => !settled.has(item));
    }
}
