// harness.mjs - what the browser tests share: instances of Quire through scripts/serve, Chromium, and what must hold of every page that it shows.
//
// A test file exports a function of the harness. In it:
//   const server = await harness.server('auth=on')          an instance; ended by the harness
//   const page = await harness.page(server, { dark, phone })  a tab, watched
//   await harness.test('what holds', async () => {...})       prints ok or not ok
//   await harness.shot(page, 'name')                          a screenshot
//   await harness.accessible(page, 'where')                   axe-core has no serious finding
// Every tab is watched: an error on its console, an exception, a request to another host, or a violation of the content security policy fails the test in which it happens.
import { execFile, spawn } from 'node:child_process';
import assert from 'node:assert/strict';
import fs from 'node:fs/promises';
import https from 'node:https';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';

const run = promisify(execFile);
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const arguments_ = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** One instance of scripts/serve in a directory of its own. */
class Server {
    static async start(settings) {
        const server = new Server();
        server.directory = await fs.mkdtemp(path.join(os.tmpdir(), 'quire-web.'));
        // Its output goes to a file: what it starts would hold a pipe open.
        const log = path.join(server.directory, 'serve.log');
        const out = await fs.open(log, 'w');
        const child = spawn(path.join(root, 'scripts/serve'), [server.directory, 'start', ...settings.flatMap((setting) => ['--set', setting])], { stdio: ['ignore', out.fd, out.fd] });
        const code = await new Promise((resolve) => { child.on('exit', resolve); });
        await out.close();
        const said = await fs.readFile(log, 'utf8');
        assert.equal(code, 0, said);
        server.url = said.trim().split('\n').at(-1);
        server.agent = new https.Agent({ ca: await fs.readFile(path.join(server.directory, 'tls/cert.pem')), keepAlive: true });
        server.key = await fs.readFile(path.join(server.directory, 'admin_key'), 'utf8').then((key) => key.trim(), () => null);
        return server;
    }

    async stop() {
        this.agent.destroy();
        await run(path.join(root, 'scripts/serve'), [this.directory, 'stop']);
        await fs.rm(this.directory, { recursive: true, force: true });
    }

    /** A call beside the browser: {status, headers, text, json}. */
    call(method, target, body, headers = {}) {
        return new Promise((resolve, reject) => {
            const payload = body === undefined ? undefined : JSON.stringify(body);
            const request = https.request(this.url + target, {
                method, agent: this.agent,
                headers: {
                    ...(payload === undefined ? {} : { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(payload) }),
                    ...(this.key ? { Authorization: `Bearer ${this.key}` } : {}), ...headers,
                },
            }, (response) => {
                const pieces = [];
                response.on('data', (piece) => pieces.push(piece));
                response.on('error', reject);
                response.on('end', () => {
                    const bytes = Buffer.concat(pieces);
                    const text = bytes.toString();
                    let json = null;
                    if (/json/.test(response.headers['content-type'] ?? '') && !response.headers['content-encoding']) json = JSON.parse(text);
                    resolve({ status: response.statusCode, headers: response.headers, bytes: bytes.length, text, json });
                });
            });
            request.on('error', reject);
            request.end(payload);
        });
    }

    /** The JSON of a call that must succeed. */
    async must(method, target, body) {
        const reply = await this.call(method, target, body);
        assert.ok(reply.status < 300, `${method} ${target}: ${reply.status} ${reply.text.slice(0, 300)}`);
        return reply.json;
    }
}

export class Harness {
    constructor(screens) {
        this.screens = screens;
        this.passed = 0;
        this.failed = 0;
        this.servers = [];
        this.troubles = [];
        this.pages = [];
    }

    async server(...settings) {
        const server = await Server.start(settings);
        this.servers.push(server);
        return server;
    }

    /** A tab in a browser profile of its own. `allow`: patterns of console errors that the test provokes (a browser notes each reply of 4xx). */
    async page(server, { dark = false, phone = false, allow = [], headers = undefined } = {}) {
        this.browser ??= await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: arguments_ });
        const context = await this.browser.newContext({
            ignoreHTTPSErrors: true, colorScheme: dark ? 'dark' : 'light', extraHTTPHeaders: headers, acceptDownloads: true,
            viewport: phone ? { width: 375, height: 720 } : { width: 1200, height: 850 }, hasTouch: phone, reducedMotion: 'reduce', locale: 'en-GB',
        });
        const page = await context.newPage();
        page.setDefaultTimeout(8000);
        page.quire = { server, requests: [], allow };
        await page.exposeFunction('quireViolation', (what) => { if (!page.quire.allow.some((pattern) => pattern.test(what))) this.troubles.push(`policy violated: ${what}`); });
        await page.addInitScript(() => {
            document.addEventListener('securitypolicyviolation', (event) => window.quireViolation(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
        });
        page.on('console', (message) => {
            const text = `${message.text()} ${message.location().url}`;
            if (['error', 'warning'].includes(message.type()) && !page.quire.allow.some((pattern) => pattern.test(text))) this.troubles.push(`console: ${text}`);
        });
        page.on('dialog', (dialog) => {
            this.troubles.push(`a script of the data ran: ${dialog.message()}`);
            dialog.dismiss().catch(() => {});
        });
        page.on('pageerror', (error) => this.troubles.push(`exception: ${error.stack ?? error}`));
        page.on('request', (request) => {
            page.quire.requests.push(request.url());
            if (!request.url().startsWith(`${server.url}/`) && !/^(blob|data):/.test(request.url())) this.troubles.push(`a request to elsewhere: ${request.url()}`);
        });
        this.pages.push(page);
        return page;
    }

    async test(name, body) {
        const begin = Date.now();
        this.troubles.length = 0;
        try {
            await body();
            assert.deepEqual(this.troubles, []);
            this.passed += 1;
            console.log(`ok ${name} # ${Date.now() - begin} ms`);
        } catch (error) {
            this.failed += 1;
            console.log(`not ok ${name}\n${String(error.stack ?? error).replace(/^/gm, '# ')}`);
            for (const trouble of this.troubles) console.log(`# ${trouble}`);
            const open = this.pages.filter((page) => !page.isClosed());
            for (const [i, page] of open.entries()) await page.screenshot({ path: path.join(this.screens, `failed-${this.failed}-${i}.png`) }).catch(() => {});
        }
    }

    async run(file, tests) {
        const begin = Date.now();
        try {
            await tests(this);
        } catch (error) {
            this.failed += 1;
            console.log(`not ok ${file} came to its end\n${String(error.stack ?? error).replace(/^/gm, '# ')}`);
        }
        for (const page of this.pages.splice(0)) await page.context().close();
        for (const server of this.servers.splice(0)) await server.stop();
        console.log(`# ${file}: ${Date.now() - begin} ms`);
    }

    /** Waits until a condition holds. */
    async until(what, condition, milliseconds = 8000) {
        const deadline = Date.now() + milliseconds;
        for (;;) {
            const is = await condition();
            if (is) return is;
            assert.ok(Date.now() < deadline, `not in time: ${what}`);
            await new Promise((resolve) => { setTimeout(resolve, 50); });
        }
    }

    async shot(page, name, options = {}) {
        await page.screenshot({ path: path.join(this.screens, `${name}.png`), ...options });
    }

    /** axe-core over the tab as it stands. */
    async accessible(page, where) {
        this.axe ??= await fs.readFile(path.join(root, 'web/node_modules/axe-core/axe.min.js'), 'utf8');
        if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(this.axe);
        const found = await page.evaluate(async () => {
            const { violations } = await window.axe.run(document, { resultTypes: ['violations'] });
            return violations.map(({ id, impact, help, nodes }) => ({ id, impact, help, nodes: nodes.slice(0, 5).map((node) => `${node.html.slice(0, 200)} ${node.failureSummary ?? ''}`) }));
        });
        for (const { id, impact, help } of found) console.log(`# axe, ${where}: ${impact} ${id}: ${help}`);
        assert.deepEqual(found.filter(({ impact }) => ['serious', 'critical'].includes(impact)), [], where);
    }

    async end() {
        await this.browser?.close();
    }
}
