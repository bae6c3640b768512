// docs.test.mjs - /docs: it shows every call of the description, a call is tried and answered, with a key and without, and nothing of it leaves the server.
import assert from 'node:assert/strict';

/** Swagger UI is large: on a busy machine it takes a while. */
async function visit(harness, server, options) {
    const page = await harness.page(server, options);
    page.setDefaultTimeout(40000);
    await page.goto(`${server.url}/docs`);
    return page;
}

const settle = (page) => page.waitForSelector('#swagger .opblock');

/** Opens a call, fills its form in, sends it, and gives what the server answered: [status, body]. */
async function tried(page, operation, body) {
    const block = page.locator(`#operations-${operation}`);
    await block.locator('.opblock-summary-control').click();
    await block.locator('.try-out__btn').click();
    if (body !== undefined) await block.locator('textarea.body-param__text').fill(JSON.stringify(body));
    await block.locator('.execute').click();
    const answer = block.locator('.live-responses-table tbody tr').first();
    await answer.waitFor();
    return [Number(await answer.locator('.response-col_status').innerText().then((text) => text.trim().split(/\s/)[0])), await answer.locator('.response-col_description pre').first().innerText()];
}

export default async function tests(harness) {
    const open = await harness.server();
    const description = await open.must('GET', '/openapi.json');
    const operations = Object.entries(description.paths).flatMap(([path, methods]) => Object.entries(methods).filter(([name]) => name !== 'parameters').map(([method, { operationId, tags }]) => ({ path, method, operationId, tag: tags[0] })));

    await harness.test('/docs: every call of the description is shown, by its method and path', async () => {
        const page = await visit(harness, open);
        await settle(page);
        const shown = await page.locator('.opblock').evaluateAll((blocks) => blocks.map((block) => `${block.querySelector('.opblock-summary-method').textContent.trim().toLowerCase()} ${block.querySelector('.opblock-summary-path').dataset.path}`));
        assert.deepEqual(shown.sort(), operations.map(({ method, path }) => `${method} ${path}`).sort());
        assert.equal(await page.locator('#key').isVisible(), false);
        assert.equal(await page.locator('.auth-wrapper .authorize').count(), 0);
        await harness.shot(page, 'docs');
        await page.close();
    });

    await harness.test('/docs: a library is made and listed by trying the calls', async () => {
        const page = await visit(harness, open);
        await settle(page);
        const [created, library] = await tried(page, 'Libraries-createLibrary', { name: 'made in <b>/docs</b>' });
        assert.equal(created, 201);
        assert.equal(JSON.parse(library).name, 'made in <b>/docs</b>');
        const [listed, libraries] = await tried(page, 'Libraries-listLibraries');
        assert.equal(listed, 200);
        assert.deepEqual(JSON.parse(libraries).map(({ id }) => id), [JSON.parse(library).id]);
        await page.locator('#operations-Libraries-createLibrary .live-responses-table').evaluate((table) => table.scrollIntoView({ block: 'center' }));
        await harness.shot(page, 'docs-tried');
        await page.close();
    });

    await harness.test('/docs: the body that stands in a form is one that works; on a dark system the page is light', async () => {
        const page = await visit(harness, open, { dark: true });
        await settle(page);
        const [status, library] = await tried(page, 'Libraries-createLibrary');
        assert.deepEqual([status, JSON.parse(library).name], [201, 'notes']);
        assert.equal(await page.locator('a[href="/"]').evaluate((link) => getComputedStyle(link).color), 'rgb(34, 89, 143)');
        await page.close();
    });

    await harness.test('/docs: calls open, with their examples and schemas, on a narrow screen', async () => {
        const page = await visit(harness, open, { phone: true });
        await settle(page);
        // Of each kind one: an upload of JSON, a search, streams in and out. All of them take minutes.
        for (const { tag, operationId } of operations.filter((each) => ['createDocument', 'search', 'streamDocuments', 'exportDocuments'].includes(each.operationId))) {
            const block = page.locator(`#operations-${tag}-${operationId}`);
            await block.locator('.opblock-summary-control').click();
            await block.locator('.responses-wrapper').waitFor();
            await block.locator('.opblock-summary-control').click();
        }
        await harness.shot(page, 'docs-phone');
        await page.close();
    });

    const closed = await harness.server('auth=on');
    await harness.test('/docs with keys on: none of it without a key, then a call with the key, which ends with the tab', async () => {
        const page = await visit(harness, closed, { allow: [/status of 401/] });
        await page.waitForSelector('.problem');
        assert.equal(await page.locator('.opblock').count(), 0);
        await page.fill('#secret', 'qk_wrong');
        await page.click('#key .primary');
        await page.waitForFunction(() => document.querySelector('.problem') !== null && document.querySelector('#secret').value === '');
        await page.fill('#secret', closed.key);
        await page.click('#key .primary');
        await settle(page);
        const [status] = await tried(page, 'Keys-listKeys');
        assert.equal(status, 200);
        await harness.shot(page, 'docs-key');
        assert.equal(await page.evaluate(() => localStorage.length), 0);
        await page.click('#forget');
        await page.waitForSelector('.problem');
        assert.equal(await page.locator('.opblock').count(), 0);
        await page.close();
    });
}
