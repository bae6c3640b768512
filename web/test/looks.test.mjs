// looks.test.mjs - how the page looks and is used: with many libraries, light and dark, on a telephone, by keyboard, by screen reader. Screenshots of all views.
import assert from 'node:assert/strict';
import * as hostile from './hostile.mjs';

export default async function tests(harness) {
    const server = await harness.server('max_libraries=200');
    const samples = [
        ['A country loaf', 'This bread needs time in place of strength. Mix flour, salt and a lively sourdough until no dry flour is left, and let the dough rise overnight.'],
        ['Keeping a sourdough starter alive', 'Stir flour with water in a jar, and feed it every day. Once it is steady it can live in the fridge and be fed once a week.'],
        ['Salt marshes', 'Where mud and sea meet, samphire and sea lavender stand in salt water twice a day.'],
        [hostile.name, hostile.text],
    ].map(([title, text], i) => ({ id: `doc-${i}`, title, text, tags: ['kitchen'], metadata: { page: i } }));
    const ids = [];
    for (let i = 0; i < 100; i += 1) ids.push((await server.must('POST', '/v1/libraries', { name: i === 1 ? hostile.name : `Library ${i}`, description: i % 3 ? null : 'What belongs together, and a little more than that' })).id);
    await server.must('POST', `/v1/libraries/${ids[0]}/documents/batch`, { documents: samples });
    await server.must('POST', '/v1/snapshots');

    await harness.test('the first view of 100 libraries asks for little, and is there at once', async () => {
        const page = await harness.page(server);
        const begin = Date.now();
        await page.goto(server.url);
        await page.getByRole('heading', { name: 'Library 99', exact: true }).waitFor({ state: 'attached' });
        const shown = Date.now() - begin;
        const first = page.quire.requests.length;
        await page.getByText('100 libraries').waitFor();
        await harness.until('those in sight have their figures', async () => /kB/.test(await page.locator('.library').first().textContent()));
        const { bytes, painted } = await page.evaluate(() => ({
            bytes: [...performance.getEntriesByType('resource'), ...performance.getEntriesByType('navigation')].reduce((sum, entry) => sum + entry.transferSize, 0),
            painted: performance.getEntriesByName('first-contentful-paint')[0]?.startTime,
        }));
        const statistics = page.quire.requests.filter((url) => url.endsWith('/statistics')).length;
        console.log(`# 100 libraries: shown after ${shown} ms, first paint after ${Math.round(painted)} ms; ${first} requests until then, ${statistics} for figures in sight; ${bytes} bytes in all`);
        assert.ok(first <= 30, `${first} requests`);
        assert.ok(statistics <= 40, `${statistics} requests for figures`);
        assert.ok(bytes < 150_000, `${bytes} bytes`);
        const [above, below] = await page.evaluate(() => [document.querySelector('.find').getBoundingClientRect().bottom, document.querySelector('.library').getBoundingClientRect().top]);
        assert.ok(below - above >= 8, `the field ends at ${above}, the first library begins at ${below}`);
        await page.getByLabel('Find a library').fill('library 4');
        await page.getByText('11 of 100 libraries').waitFor();
        await page.context().close();
    });

    const views = [
        ['libraries', '/', 'Libraries'], ['search', `/library/${ids[0]}/search?q=feed+the+sourdough+heron&filter=%5B%5B%22tags%22%2C%22eq%22%2C%22kitchen%22%5D%5D`, 'Library 0'], ['documents', `/library/${ids[0]}/documents`, 'Library 0'],
        ['document', `/library/${ids[0]}/document/doc-3`, hostile.name], ['import', `/library/${ids[0]}/import`, 'Library 0'], ['overview', `/library/${ids[1]}`, hostile.name], ['tasks', '/tasks', 'Tasks'],
        ['activity', '/activity', 'Activity'], ['snapshots', '/snapshots', 'Snapshots'], ['models', '/models', 'Models'], ['keys', '/keys', 'Keys'],
    ];
    for (const [look, options] of [['light', {}], ['dark', { dark: true }], ['phone', { phone: true }]]) {
        await harness.test(`every view, ${look}: axe-core has no serious finding, nothing is wider than the screen`, async () => {
            const page = await harness.page(server, options);
            for (const [name, path, heading] of views) {
                await page.goto(`${server.url}/#${path}`);
                await page.getByRole('heading', { name: heading, exact: true }).first().waitFor();
                if (name === 'search') await page.getByText(/^\d+ hits in/).waitFor();
                if (name === 'activity') await page.getByRole('img', { name: /Requests a second, now: 2xx \d/ }).waitFor();
                await harness.accessible(page, `${name}, ${look}`);
                const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
                assert.ok(wide <= 0, `${name} is ${wide} pixels too wide`);
                await harness.shot(page, `${name}-${look}`);
            }
            await page.context().close();
        });
    }

    await harness.test('the system decides between light and dark, also while the page is open', async () => {
        const page = await harness.page(server);
        const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
        await page.goto(`${server.url}/#/activity`);
        await page.getByRole('img', { name: /Requests a second, now: 2xx \d/ }).waitFor();
        const light = await ground();
        await page.emulateMedia({ colorScheme: 'dark' });
        assert.notEqual(await ground(), light);
        await harness.until('the charts are drawn anew', async () => (await page.locator('.plot canvas').count()) >= 4);
        await page.context().close();
    });

    await harness.test('the keyboard reaches everything, and the focus follows', async () => {
        const page = await harness.page(server);
        const active = () => page.evaluate(() => document.activeElement.textContent.trim() || document.activeElement.getAttribute('aria-label') || document.activeElement.name);
        await page.goto(server.url);
        await page.getByRole('heading', { name: 'Library 0', exact: true }).waitFor();
        const order = [];
        for (let i = 0; i < 12; i += 1) {
            await page.keyboard.press('Tab');
            order.push(await active());
        }
        assert.deepEqual(order, ['Skip to the content', 'Quire', 'Libraries', 'Tasks', 'Activity', 'Snapshots', 'Models', 'Keys', 'API', 'New library', 'Find a library', 'Library 0']);
        await page.keyboard.press('Enter');
        await harness.until('the query has the focus', async () => (await active()) === 'q');
        await page.getByRole('link', { name: 'Documents', exact: true }).press('Enter');
        await page.getByText('Documents 1 to 4').waitFor();
        assert.equal(await active(), 'Library 0');
        await page.goBack();
        await harness.until('the query has the focus again', async () => (await active()) === 'q');
        await page.getByRole('link', { name: 'Snapshots', exact: true }).press('Enter');
        await harness.until('the heading has the focus', async () => (await active()) === 'Snapshots');
        for (const [role, name] of [['banner', ''], ['main', ''], ['navigation', 'Views'], ['status', '']]) assert.ok(await page.getByRole(role, name ? { name } : {}).count() > 0, role);
        await page.getByRole('link', { name: 'Skip to the content' }).press('Enter');
        assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
        await page.getByRole('heading', { name: 'Snapshots', exact: true }).waitFor();
        await page.getByRole('link', { name: 'API', exact: true }).press('Enter');
        await page.waitForURL(/\/docs$/);
        assert.match(await page.title(), /Quire/);
        await page.context().close();
    });
}
