// service.test.mjs - what a library as a whole and the server offer: overview, tasks, snapshots, models, activity, in a browser.
import assert from 'node:assert/strict';
import fs from 'node:fs/promises';

export default async function tests(harness) {
    const server = await harness.server('reembed_keep_seconds=3600');
    const page = await harness.page(server);
    const library = await server.must('POST', '/v1/libraries', { name: 'Ducks & co', description: 'Water birds', metadata: { shelf: '<b>3</b>' } });
    const documents = Array.from({ length: 60 }, (_, i) => ({ id: `d${i}`, title: `Duck ${i}`, texts: [`Duck number ${i} swims on the pond.`] }));
    await server.must('POST', `/v1/libraries/${library.id}/documents/batch`, { documents });
    await server.must('DELETE', `/v1/libraries/${library.id}/documents/d0`);
    const open = async (view, heading) => {
        await page.goto(`${server.url}/#${view}`);
        await page.getByRole('heading', { name: heading, exact: true }).first().waitFor();
    };
    const message = (text) => page.locator('#messages').getByText(text);
    const overview = `/library/${library.id}`;
    const saved = async (download) => fs.readFile(await download.path());
    const downloaded = async (click) => (await Promise.all([page.waitForEvent('download'), click()]))[0];

    await harness.test('the overview has all figures of a library', async () => {
        await open(overview, 'Ducks & co');
        const facts = await page.locator('main').textContent();
        for (const part of ['Coverage100 %', 'Modelstatic-en', 'Dimension256', 'Deleted, not reclaimed1', 'Typehnsw', 'Documents59', '"shelf": "<b>3</b>"']) assert.ok(facts.includes(part), `${part} in ${facts}`);
        assert.match(facts, /Linked\d+Tail\d+Levels\d/);
        assert.match(facts, /Graph[\d.]+ k?BTexts[\d.]+ kB/);
        await harness.shot(page, 'overview', { fullPage: true });
    });

    await harness.test('name and description are changed, the index rebuilt, deleted slots reclaimed', async () => {
        await page.getByRole('button', { name: 'Edit' }).click();
        const dialog = page.getByRole('dialog', { name: 'Name and description' });
        await dialog.getByLabel('Name').fill('Ducks and geese');
        await dialog.getByLabel('Description').fill('');
        await dialog.getByRole('button', { name: 'Save' }).click();
        await page.getByRole('heading', { name: 'Ducks and geese' }).waitFor();
        assert.equal((await server.must('GET', `/v1/libraries/${library.id}`)).metadata.description, null);
        await page.getByRole('button', { name: 'Rebuild the index' }).click();
        await message('Rebuilding the index has begun').waitFor();
        await harness.until('the rebuild is over', async () => (await server.must('GET', '/v1/tasks'))[0].state === 'succeeded');
        await page.getByRole('button', { name: 'Reclaim deleted' }).click();
        await message('Making the files anew has begun').waitFor();
        await harness.until('nothing deleted is left', async () => (await server.must('GET', `/v1/libraries/${library.id}/statistics`)).vector_store_stats.deleted === 0);
    });

    await harness.test('a library gets another model, goes back, and lets the other side go', async () => {
        await page.getByRole('button', { name: 'Another model' }).click();
        const dialog = page.getByRole('dialog', { name: 'Another model' });
        await dialog.getByLabel('Embedding model').selectOption('hash-384');
        await dialog.getByRole('button', { name: 'Begin' }).click();
        await page.getByText('The model before, static-en, is kept.').waitFor({ timeout: 15000 });
        await page.getByRole('button', { name: 'Back to the model before' }).click();
        await harness.until('the first model serves', async () => {
            const { metadata } = await server.must('GET', `/v1/libraries/${library.id}`);
            return metadata.embedding_model === 'static-en' && metadata.exchange === null;
        });
        await page.getByText('is kept.').waitFor({ state: 'hidden' });
        await page.getByRole('button', { name: 'Another model' }).click();
        await dialog.getByLabel('Embedding model').selectOption('hash-384');
        await dialog.getByRole('button', { name: 'Begin' }).click();
        await page.getByText('The model before, static-en, is kept.').waitFor({ timeout: 15000 });
        await page.getByRole('button', { name: 'Let the other side go' }).click();
        await page.getByRole('dialog').getByRole('button', { name: 'Let go' }).click();
        await harness.until('nothing is kept', async () => (await server.must('GET', `/v1/libraries/${library.id}`)).metadata.exchange === null);
    });

    await harness.test('a library is exported to a file', async () => {
        await open(overview, 'Ducks and geese');
        const download = await downloaded(() => page.getByRole('link', { name: 'Export' }).click());
        assert.equal(download.suggestedFilename(), 'Ducks_and_geese.ndjson');
        assert.equal((await saved(download)).toString().trim().split('\n').length, 59);
    });

    await harness.test('tasks show how far they are and how they ended', async () => {
        await page.getByLabel('Views', { exact: true }).getByRole('link', { name: 'Tasks' }).click();
        await page.getByRole('heading', { name: 'Rebuild of an index' }).waitFor();
        const reembed = page.getByRole('listitem').filter({ hasText: 'Change of a model' }).first();
        await reembed.getByText('succeeded').waitFor();
        assert.match(await reembed.textContent(), /(59 of 59|118 of 118).*took .*Both models agree on \d[\d.]* % of the ten nearest/);
        await harness.accessible(page, 'tasks');
        await harness.shot(page, 'tasks', { fullPage: true });
    });

    await harness.test('a task under way has a bar, and is cancelled', async () => {
        // One that is slow enough to be caught is made up: the page cannot tell.
        const task = { id: '01a229fa-08b6-71a2-a061-00000000000a', kind: 'reembed', state: 'running', done: 250, total: 1000, started_at: new Date(Date.now() - 5000).toISOString(), finished_at: null, error: null };
        await page.route('**/v1/tasks', (route) => route.fulfill({ json: [task] }));
        await page.route(`**/v1/tasks/${task.id}`, (route) => {
            assert.equal(route.request().method(), 'DELETE');
            Object.assign(task, { state: 'cancelled', finished_at: new Date().toISOString(), error: 'cancelled <b>by</b> a client' });
            return route.fulfill({ status: 202, json: task });
        });
        const bar = page.getByRole('progressbar', { name: 'Progress of Change of a model' });
        await harness.until('the bar is at a quarter', async () => (await bar.count()) === 1 && (await bar.evaluate((element) => element.value / element.max)) === 0.25);
        await page.getByRole('button', { name: 'Cancel: Change of a model' }).click();
        await page.getByText('cancelled <b>by</b> a client').waitFor();
        await message('The task is asked to stop.').waitFor();
        await page.getByRole('button', { name: 'Cancel: Change of a model' }).waitFor({ state: 'hidden' });
        await page.unroute('**/v1/tasks');
    });

    await harness.test('a snapshot is taken, verified, and downloaded', async () => {
        await open('/snapshots', 'Snapshots');
        await page.getByRole('button', { name: 'Take a snapshot' }).click();
        await message('The snapshot is taken.').waitFor();
        const [{ name, bytes }] = await server.must('GET', '/v1/snapshots');
        const row = page.getByRole('row').filter({ hasText: name });
        await row.getByText('59 documents').waitFor();
        await page.getByRole('button', { name: `Verify ${name}` }).click();
        await row.getByText('holds', { exact: true }).waitFor({ timeout: 15000 });
        await message('The snapshot holds').waitFor();
        const download = await downloaded(() => page.getByRole('link', { name: `Download ${name}` }).click());
        const content = await saved(download);
        assert.equal(download.suggestedFilename(), name);
        assert.equal(content.length, bytes);
        assert.equal(content.readUInt32LE(0), 0xfd2fb528);
        await harness.accessible(page, 'snapshots');
        await harness.shot(page, 'snapshots', { fullPage: true });
    });

    await harness.test('a task that fails says so', async () => {
        const task = { id: '01a229fa-08b6-71a2-a061-00000000000b', kind: 'snapshot', state: 'running', done: 0, total: 0, started_at: null, finished_at: null, error: null };
        await page.route('**/v1/snapshots', (route) => (route.request().method() === 'POST' ? route.fulfill({ status: 202, json: task }) : route.continue()));
        await page.route('**/v1/tasks/*', (route) => route.fulfill({ json: { ...task, state: 'failed', error: 'no space left on the device' } }));
        await page.getByRole('button', { name: 'Take a snapshot' }).click();
        await page.getByRole('alert').getByText('Snapshot: no space left on the device').waitFor();
        await page.unroute('**/v1/snapshots');
        await page.unroute('**/v1/tasks/*');
    });

    await harness.test('models are listed with what is known of them', async () => {
        await open('/models', 'Models');
        const preset = page.getByRole('listitem').filter({ hasText: 'static-en' });
        await preset.getByText('for new libraries').waitFor();
        assert.match(await preset.textContent(), /Dimension256.*in process/);
        await page.getByRole('heading', { name: 'hash-384' }).waitFor();
        await page.route('**/v1/models', (route) => route.fulfill({ json: [{ name: '<i>far</i>', dimension: 0, fingerprint: '', where: 'https://embed.example', state: 'away', error: 'does not answer', default: false }] }));
        await page.reload();
        await page.getByRole('heading', { name: '<i>far</i>' }).waitFor();
        await page.getByText('away', { exact: true }).waitFor();
        await page.unroute('**/v1/models');
    });

    await harness.test('activity draws requests and latencies while it is shown, and stops when it is not', async () => {
        const asked = () => page.quire.requests.filter((url) => url.endsWith('/metrics')).length;
        await open('/activity', 'Activity');
        await page.getByRole('heading', { name: 'Requests a second' }).waitFor();
        const busy = (async () => {
            for (let i = 0; i < 40; i += 1) await server.must('POST', `/v1/libraries/${library.id}/search`, { query: `pond ${i}` });
        })();
        const p99 = page.getByRole('img', { name: /^Latency, now: p50 [\d.]+ (µs|ms|s), p95 [\d.]+ (µs|ms|s), p99 / });
        await p99.waitFor({ timeout: 15000 });
        await busy;
        assert.ok(await page.locator('.plot canvas').count() >= 4);
        await page.getByRole('img', { name: /^Requests a second, now: 2xx [\d.]+, 4xx 0, 5xx 0$/ }).waitFor();
        const choice = page.getByLabel('Latency of');
        const other = (await choice.locator('option').allTextContents()).find((text) => /wal sync/.test(text));
        await choice.selectOption({ label: other });
        await page.getByRole('img', { name: /^Latency, now: / }).waitFor();
        await page.locator('.plot').first().hover();
        await page.locator('summary', { hasText: 'All figures' }).click();
        await page.getByLabel('Find a figure').fill('searches_total');
        await page.getByRole('row').filter({ hasText: 'quire_searches_total' }).first().waitFor();
        assert.equal(await page.getByRole('row').filter({ hasText: /quire_wal/ }).count(), 0);
        await harness.until('a third reading', () => asked() >= 3);
        await harness.accessible(page, 'activity');
        await harness.shot(page, 'activity', { fullPage: true });
        await open('/models', 'Models');
        const then = asked();
        // The page asks every two seconds where it asks: the moment of a whole interval is what is waited for.
        await page.evaluate(() => new Promise((resolve) => { setTimeout(resolve, 2300); }));
        assert.equal(asked(), then);
    });

    await harness.test('figures that a later version may have, or this one not, do no harm', async () => {
        const buckets = (route, n) => ['0.001', '0.1', '+Inf'].map((le, i) => `quire_http_request_duration_seconds_bucket{route="${route}",status="2xx",le="${le}"} ${n * (i + 1)}`).join('\n');
        let n = 0;
        await page.route('**/metrics', (route) => {
            n += 10;
            return route.fulfill({ contentType: 'text/plain', body: `# TYPE quire_http_request_duration_seconds histogram\n# HELP quire_http_request_duration_seconds <b>By</b> route.\n${buckets('GET /v1/libraries', n)}\n${buckets('a \\"quoted\\" <i>', n)}\n# TYPE quire_searches_total counter\nquire_searches_total{mode="hybrid"} ${n}\nquire_searches_total{mode="dense"} ${n}\n` });
        });
        await page.reload();
        await open('/activity', 'Activity');
        await page.getByRole('img', { name: /^Latency, now: p50 \d/ }).waitFor();
        assert.ok((await page.getByLabel('Latency of').locator('option').allTextContents()).includes('http request: a "quoted" <i>, 2xx'));
        assert.equal(await page.getByRole('heading', { name: 'Requests a second' }).count(), 0);
        await page.unroute('**/metrics');
    });

    await harness.test('a library is deleted when its name is typed, not before', async () => {
        await open(overview, 'Ducks and geese');
        await page.getByRole('button', { name: 'Delete', exact: true }).click();
        const dialog = page.getByRole('dialog', { name: 'Delete this library?' });
        await dialog.getByLabel(/to confirm/).fill('Ducks');
        await dialog.getByRole('button', { name: 'Delete' }).click();
        await dialog.getByRole('alert').getByText('What you typed is not the name.').waitFor();
        await server.must('GET', `/v1/libraries/${library.id}`);
        await dialog.getByLabel(/to confirm/).fill('Ducks and geese');
        await dialog.getByRole('button', { name: 'Delete' }).click();
        await page.getByRole('heading', { name: 'No library yet' }).waitFor();
        assert.equal((await server.call('GET', `/v1/libraries/${library.id}`)).status, 404);
    });
}
