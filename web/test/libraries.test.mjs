// libraries.test.mjs - libraries, their documents and searches, in a browser.
import assert from 'node:assert/strict';
import * as hostile from './hostile.mjs';

export default async function tests(harness) {
    const server = await harness.server();
    const page = await harness.page(server, { allow: [/status of (422|404)/] });
    const heading = (name) => page.getByRole('heading', { name, exact: true });
    let birds;

    await harness.test('without a library the page says what to do', async () => {
        await page.goto(server.url);
        await heading('No library yet').waitFor();
        assert.equal(await page.title(), 'Libraries – Quire');
    });

    await harness.test('a library is made with the keyboard alone, and the focus goes where one is', async () => {
        await page.getByRole('button', { name: 'New library' }).first().press('Enter');
        const dialog = page.getByRole('dialog', { name: 'New library' });
        await dialog.waitFor();
        assert.equal(await page.evaluate(() => document.activeElement.name), 'name');
        await harness.accessible(page, 'dialog of a new library');
        await page.keyboard.press('Escape');
        await dialog.waitFor({ state: 'detached' });
        assert.equal(await page.evaluate(() => document.activeElement.textContent), 'New library');
        await page.keyboard.press('Enter');
        await dialog.waitFor();
        await page.keyboard.type(hostile.name);
        await page.keyboard.press('Tab');
        await page.keyboard.type(hostile.script);
        await page.keyboard.press('Enter');
        await page.waitForURL(/\/import$/);
        await heading(hostile.name).waitFor();
        assert.ok((await page.title()).startsWith('<b onmouseover'));
        [birds] = await server.must('GET', '/v1/libraries');
        assert.equal(birds.name, hostile.name);
        assert.equal(birds.metadata.description, hostile.script);
    });

    await harness.test('what the server refuses stands in the dialog, with what is wrong and the request id', async () => {
        await page.goto(`${server.url}/#/`);
        await page.getByRole('button', { name: 'New library' }).click();
        const dialog = page.getByRole('dialog');
        await dialog.getByLabel('Name').fill('ä'.repeat(200));
        await dialog.getByLabel('Embedding model').selectOption('none');
        await dialog.getByLabel('Language of the texts').selectOption('german');
        await dialog.getByLabel('Index').selectOption('flat');
        await dialog.getByRole('button', { name: 'Create' }).click();
        const alert = dialog.getByRole('alert');
        await alert.getByText('/name: has 400 bytes').waitFor();
        assert.match(await alert.textContent(), /ValidationError request [0-9a-f]{32}/);
        await dialog.getByLabel('Name').fill('Vögel');
        await dialog.getByRole('button', { name: 'Create' }).click();
        await heading('Vögel').waitFor();
        const made = (await server.must('GET', '/v1/libraries')).find((library) => library.name === 'Vögel');
        assert.deepEqual([made.metadata.index_type, made.metadata.language, made.metadata.embedding_model], ['flat', 'german', 'none']);
        await server.must('DELETE', `/v1/libraries/${made.id}`);
    });

    await harness.test('a library shows its state, coverage, tail and bytes', async () => {
        await server.must('POST', `/v1/libraries/${birds.id}/documents`, hostile.document);
        const documents = Array.from({ length: 30 }, (_, i) => ({ id: `n${i}`, title: `Note ${i}`, author: i % 2 ? 'Ida' : 'Jon', texts: [`Crusts of bread number ${i} feed the ducks.`, `A second part of ${i}.`] }));
        assert.equal((await server.must('POST', `/v1/libraries/${birds.id}/documents/batch`, { documents })).failed, 0);
        await page.goto(`${server.url}/#/`);
        const row = page.getByRole('listitem').filter({ has: heading(hostile.name) });
        await row.getByText('complete', { exact: true }).waitFor();
        const fact = (name) => row.locator('.facts > div').filter({ has: page.getByText(name, { exact: true }) }).locator('dd').textContent();
        await harness.until('size is there', async () => /^\d[\d.]* kB$/.test(await fact('Size')));
        assert.deepEqual([await fact('Documents'), await fact('Chunks'), await fact('Vectors')], ['31', '62', '100 %']);
        assert.match(await fact('Index tail'), /^\d+$/);
        await row.getByText(hostile.script).waitFor();
    });

    await harness.test('a hybrid search shows both ranks, distance, score, and the words that match', async () => {
        await page.getByRole('link', { name: hostile.name }).click();
        await page.waitForURL(/\/search$/);
        await harness.until('the focus is in the query', () => page.evaluate(() => document.activeElement.id === 'query'));
        await page.keyboard.type('crust');
        await page.keyboard.press('Enter');
        await page.getByText(/^10 hits in .* hybrid · static-en · /).waitFor();
        const first = page.getByRole('list', { name: 'Hits' }).getByRole('listitem').first();
        const said = await first.textContent();
        assert.match(said, /score [\d.]+/);
        assert.match(said, /distance \d\.\d{3}/);
        assert.match(said, /dense #\d+ at \d\.\d{3}/);
        assert.match(said, /lexical #\d+ BM25 [\d.]+/);
        assert.match(said, /fused weighted/);
        assert.deepEqual(await first.locator('mark').allTextContents(), ['Crusts']);
        await page.reload();
        await page.getByText(/^10 hits/).waitFor();
        assert.equal(await page.getByLabel('Query').inputValue(), 'crust');
    });

    await harness.test('mode, number of hits, grouping, exactness and threshold do what they say', async () => {
        const submit = () => page.getByRole('button', { name: 'Search', exact: true }).click();
        await page.getByRole('radio', { name: 'Lexical' }).check();
        await page.getByRole('combobox', { name: 'Hits' }).selectOption('5');
        await submit();
        await page.getByText(/^5 hits in .* lexical/).waitFor();
        await page.getByRole('radio', { name: 'Dense' }).check();
        await submit();
        await page.getByText(/^5 hits in .* dense/).waitFor();
        assert.match(await page.getByRole('list', { name: 'Hits' }).getByRole('listitem').first().textContent(), /dense #1 at/);
        await page.getByText('Filter and more').click();
        await page.getByLabel('The best chunk of each document only').check();
        await page.getByLabel('Look at every vector (exact)').check();
        await page.getByRole('combobox', { name: 'Hits' }).selectOption('50');
        await submit();
        await page.getByText(/^31 hits in .* dense .* exact/).waitFor();
        await page.getByLabel('Nothing farther than').fill('0.0001');
        await submit();
        await page.getByText('Nothing that matches.').waitFor();
        await page.getByLabel('Nothing farther than').fill('near');
        await submit();
        await page.getByRole('alert').getByText('/distance_threshold').waitFor();
        await page.getByLabel('Nothing farther than').fill('');
    });

    await harness.test('conditions filter, can be taken away, and are kept in the address', async () => {
        await page.getByRole('radio', { name: 'Hybrid' }).check();
        await page.getByRole('button', { name: 'Condition', exact: true }).click();
        await page.keyboard.type('author');
        await page.getByLabel('Value').fill('Ida');
        await page.getByRole('button', { name: 'Condition', exact: true }).click();
        await page.getByLabel('Field').nth(1).fill('title');
        await page.getByLabel('Operator').nth(1).selectOption('in');
        await page.getByLabel('Value').nth(1).fill('Note 1, Note 2, "Note 3"');
        await page.getByLabel('Query').press('Enter');
        await page.getByText(/^2 hits/).waitFor();
        await page.reload();
        await page.getByText(/^2 hits/).waitFor();
        await page.getByRole('button', { name: 'Remove this condition' }).first().click();
        await page.getByLabel('Query').press('Enter');
        await page.getByText(/^3 hits/).waitFor();
    });

    await harness.test('a long chunk is shown around the word, and whole when asked for', async () => {
        await server.must('POST', `/v1/libraries/${birds.id}/documents`, { id: 'long', title: 'Long', texts: [`${'Nothing of note. '.repeat(150)}Here a kingfisher dives. ${'And so on. '.repeat(200)}`] });
        await page.goto(`${server.url}/#/library/${birds.id}/search?q=kingfishers&mode=lexical`);
        await page.getByText(/^1 hit in/).waitFor();
        const article = page.getByRole('article');
        assert.deepEqual(await article.locator('mark').allTextContents(), ['kingfisher']);
        assert.ok((await article.textContent()).length < 1400);
        await article.getByRole('button', { name: 'Show all of it' }).click();
        assert.ok((await article.textContent()).length > 4500);
        await server.must('DELETE', `/v1/libraries/${birds.id}/documents/long`);
    });

    await harness.test('documents come page by page, are found by title, and are deleted after asking', async () => {
        await page.getByRole('link', { name: 'Documents' }).click();
        await page.getByText('Documents 1 to 25').waitFor();
        assert.ok(await page.getByRole('button', { name: 'Previous' }).isDisabled());
        await page.getByRole('button', { name: 'Next' }).click();
        await page.getByText('Documents 26 to 31').waitFor();
        await page.getByRole('link', { name: 'Note 29' }).waitFor();
        await page.getByRole('button', { name: 'Previous' }).click();
        await page.getByText('Documents 1 to 25').waitFor();
        await page.getByLabel('Part of the title').fill('Note 7');
        await page.keyboard.press('Enter');
        await page.getByText('Documents 1 to 1').waitFor();
        await page.getByRole('button', { name: 'Delete Note 7' }).click();
        const dialog = page.getByRole('dialog', { name: 'Delete this document?' });
        await dialog.getByRole('button', { name: 'Cancel' }).click();
        await dialog.waitFor({ state: 'detached' });
        await server.must('GET', `/v1/libraries/${birds.id}/documents/n7`);
        await page.getByRole('button', { name: 'Delete Note 7' }).click();
        await dialog.getByRole('button', { name: 'Delete' }).click();
        await page.getByText('No document has this in its title.').waitFor();
        assert.equal((await server.call('GET', `/v1/libraries/${birds.id}/documents/n7`)).status, 404);
    });

    await harness.test('a document whose every member is hostile is shown as text, and deleted by an id of any form', async () => {
        await page.goto(`${server.url}/#/library/${birds.id}/search?q=heron+waits`);
        await page.getByRole('link', { name: hostile.document.title }).first().click();
        await page.getByRole('heading', { name: hostile.document.title }).waitFor();
        await page.locator('dd', { hasText: hostile.document.author }).waitFor();
        await page.getByText(hostile.document.document_type, { exact: true }).waitFor();
        await page.getByText('<i>tag</i>', { exact: true }).waitFor();
        await page.getByText(hostile.id, { exact: true }).waitFor();
        assert.equal(await page.getByRole('link', { name: /javascript/ }).count(), 0, 'an address that is a script is no link');
        await page.getByText('Metadata', { exact: true }).click();
        assert.match(await page.locator('pre').textContent(), /<b>member<\/b>/);
        assert.equal(await page.locator('.chunk .text').first().textContent(), hostile.text);
        assert.equal(await page.locator('main script, main b, main i, main u, main img').count(), 0);
        await page.locator('main').getByRole('button', { name: 'Delete' }).click();
        await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
        await page.waitForURL(/\/documents$/);
        assert.equal((await server.must('GET', `/v1/libraries/${birds.id}`)).num_documents, 29);
    });

    await harness.test('a library that is gone, a document that is gone, and a view that never was', async () => {
        await page.goto(`${server.url}/#/library/01a229fa-08b6-71a2-a061-000000000000/search`);
        await page.getByRole('alert').getByText('LibraryNotFoundError').waitFor();
        await page.goto(`${server.url}/#/library/${birds.id}/document/none`);
        await page.getByRole('alert').getByText('DocumentNotFoundError').waitFor();
        await page.goto(`${server.url}/#/nowhere`);
        await heading('Nothing here').waitFor();
    });

    await harness.test('a name that is taken is told before a second library gets it', async () => {
        await page.goto(`${server.url}/#/`);
        await page.getByRole('button', { name: 'New library' }).first().click();
        const dialog = page.getByRole('dialog', { name: 'New library' });
        await dialog.getByLabel('Name').fill(hostile.name.toUpperCase());
        await dialog.getByText('There is a library of this name').waitFor();
        await dialog.getByLabel('Name').fill('Another name');
        assert.equal(await dialog.getByText('There is a library of this name').count(), 0);
        await page.keyboard.press('Escape');
    });

    await harness.test('a hit says its file, and leads to its chunk, marked and in sight', async () => {
        const long = await server.must('POST', '/v1/libraries', { name: 'Long' });
        const texts = Array.from({ length: 130 }, (_, i) => `${i === 120 ? 'A quokka' : 'A goose'} is number ${i} of many that came to the river in the spring of that year.`);
        await server.must('PUT', `/v1/libraries/${long.id}/documents/${encodeURIComponent('file:notes/river.md')}`, { title: 'River', texts });
        await page.goto(`${server.url}/#/library/${long.id}/search?q=quokka&mode=lexical`);
        const hit = page.getByRole('list', { name: 'Hits' }).getByRole('listitem').first();
        await hit.getByText('notes/river.md', { exact: true }).waitFor();
        await hit.getByRole('link', { name: 'River' }).click();
        const found = page.locator('.chunk.found');
        await found.getByText('A quokka is number 120').waitFor();
        await harness.until('it is in sight', () => found.evaluate((chunk) => chunk.getBoundingClientRect().top >= 0 && chunk.getBoundingClientRect().bottom <= window.innerHeight));
        assert.equal(await page.locator('.chunk.found').count(), 1);
        await harness.shot(page, 'document-found');
        await page.goBack();
        await hit.waitFor();
        await server.must('DELETE', `/v1/libraries/${long.id}`);
    });

    await harness.test('a server that is away is said to be at once, and what failed is tried again when it is back', async () => {
        page.quire.allow.push(/ERR_FAILED/);
        await page.goto(`${server.url}/#/library/${birds.id}/search`);
        await page.getByLabel('Query', { exact: true }).fill('crust');
        await page.getByText('Ready', { exact: true }).waitFor();
        const away = (route) => route.abort();
        for (const path of ['**/v1/**', '**/readiness']) await page.route(path, away);
        const looked = page.waitForEvent('requestfailed', (request) => request.url().endsWith('/readiness'));
        await page.keyboard.press('Enter');
        const alert = page.getByRole('alert');
        await alert.getByRole('button', { name: 'Try again' }).waitFor();
        await looked; // without waiting for the next time
        await page.locator('.state').getByText('No answer').waitFor({ timeout: 1000 });
        for (const path of ['**/v1/**', '**/readiness']) await page.unroute(path);
        await page.getByText(/^10 hits/).waitFor();
        assert.equal(await alert.count(), 0);
        await page.locator('.state').getByText('Ready', { exact: true }).waitFor();
    });

    await harness.test('a server that does not answer is said to, and asked again', async () => {
        page.quire.allow.push(/ERR_FAILED/);
        await page.route('**/v1/libraries?*', (route) => route.abort());
        await page.goto(`${server.url}/#/`);
        const alert = page.getByRole('alert');
        await alert.getByText('The server cannot be reached.').waitFor();
        await page.unroute('**/v1/libraries?*');
        await alert.getByRole('button', { name: 'Try again' }).click();
        await heading(hostile.name).waitFor();
    });
}
