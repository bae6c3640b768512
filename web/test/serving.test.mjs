// serving.test.mjs - how nginx serves the pages: what stands in their headers, how large they are, and what is not there.
import assert from 'node:assert/strict';
import fs from 'node:fs/promises';
import path from 'node:path';
import zlib from 'node:zlib';

const dist = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), '../dist');
const policy = ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self' data:", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"];

export default async function tests(harness) {
    const server = await harness.server();
    const files = await fs.readdir(dist);

    await harness.test('every file is served with its type, the policy, an ETag, and packed', async () => {
        for (const [target, type] of [['/', 'text/html'], ...files.map((name) => [`/web/${name}`, { html: 'text/html', js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml', txt: 'text/plain' }[name.split('.').at(-1)]])]) {
            const { status, headers } = await server.call('GET', target);
            assert.equal(status, 200, target);
            assert.equal(headers['content-type'], `${type}; charset=utf-8`, target);
            for (const part of policy) assert.ok(headers['content-security-policy'].split('; ').includes(part), `${target}: ${part}`);
            assert.equal(headers['x-content-type-options'], 'nosniff');
            assert.equal(headers['referrer-policy'], 'no-referrer');
            assert.equal(headers['cache-control'], 'no-cache');
            assert.match(headers['strict-transport-security'], /^max-age=\d+$/);
            const again = await server.call('GET', target, undefined, { 'If-None-Match': headers.etag });
            assert.equal(again.status, 304, target);
            const packed = await server.call('GET', target, undefined, { 'Accept-Encoding': 'gzip' });
            if (Number(headers['content-length']) > 1024) assert.equal(packed.headers['content-encoding'], 'gzip', target);
        }
    });

    await harness.test('all pages but /docs, which is made elsewhere, together are under 150 kB packed', async () => {
        let whole = 0;
        for (const name of files.filter((file) => !file.startsWith('docs.'))) whole += zlib.gzipSync(await fs.readFile(path.join(dist, name)), { level: 6 }).length;
        console.log(`# all files: ${whole} bytes packed`);
        assert.ok(whole < 150_000, `${whole} bytes`);
    });

    await harness.test('what is not there is 404, and what pages do not take 405, in the form of the API', async () => {
        for (const target of ['/web/none.js', '/web/', '/web/../nginx.conf', '/web/%2e%2e/package.json', '/web/src/index.js', '/index.html', '/none']) {
            const { status, headers, json } = await server.call('GET', target);
            assert.equal(status, 404, target);
            assert.match(headers['content-type'], /^application\/problem\+json/, target);
            assert.equal(json.error_type, 'RouteNotFoundError', target);
        }
        for (const method of ['POST', 'PUT', 'DELETE', 'PATCH']) {
            const { status, headers, json } = await server.call(method, '/', {});
            assert.equal(status, 405, method);
            assert.equal(headers.allow, 'GET, HEAD');
            assert.equal(json.error_type, 'MethodNotAllowedError');
        }
        const { status, text } = await server.call('HEAD', '/');
        assert.equal(status, 200);
        assert.equal(text, '');
    });
}
