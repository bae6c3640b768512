// import.test.mjs - bringing files into a library in a browser.
import assert from 'node:assert/strict';
import fs from 'node:fs/promises';
import path from 'node:path';

const file = (name, content, mimeType = 'text/plain') => ({ name, mimeType, buffer: Buffer.from(content) });

export default async function tests(harness) {
    const server = await harness.server();
    const page = await harness.page(server);
    const library = await server.must('POST', '/v1/libraries', { name: 'Notes' });
    const counts = async () => {
        const { num_documents: documents } = await server.must('GET', `/v1/libraries/${library.id}`);
        return documents;
    };
    const open = async () => {
        await page.goto(`${server.url}/#/library/${library.id}/import`);
        await page.getByText('Drop files or folders here').waitFor();
    };
    const row = (name) => page.getByRole('row').filter({ hasText: name });

    await harness.test('files of all kinds are taken, and each says what is wrong with it', async () => {
        await open();
        await page.locator('#files').setInputFiles([
            file('bread.md', '# Bread\n\n## Rising\n\nDough rises slowly in a cold kitchen.\n\n## Baking\n\nSteam makes the crust.\n'),
            file('pans.txt', 'A cast-iron pan wants oil, not soap.'),
            file('more.ndjson', '{"id":"tea","title":"Tea","texts":["Green tea wants water below the boil."]}\n\n{"title":"Rice","text":"Rinse the rice."}\nnot json\n{"title":"Nothing in it"}\n[1]\n'),
            file('picture.bin', Buffer.from([0xff, 0xd8, 0, 1])), file('empty.txt', ' \n'),
        ]);
        await page.getByRole('heading', { name: 'Imported' }).waitFor();
        await page.getByText(/^4 documents in \d+ new chunks, 4 failed; 1 file without text passed over$/).waitFor();
        await row('bread.md').getByText('1 document').waitFor();
        assert.match(await row('more.ndjson').textContent(), /line 4: not JSON.*line 5: .*line 6: not a JSON object/);
        await row('picture.bin').getByText('not UTF-8 text').waitFor();
        await row('empty.txt').getByText('without text', { exact: true }).waitFor();
        const bread = await server.must('GET', `/v1/libraries/${library.id}/documents/file%3Abread.md`);
        assert.equal(bread.metadata.title, 'Bread');
        assert.equal(bread.metadata.document_type, 'markdown');
        assert.equal(bread.chunks[0].metadata.section, 'Bread > Rising');
        assert.equal(await counts(), 4);
        await page.getByText('4 documents, 4 chunks').waitFor();
        await harness.accessible(page, 'an import with errors');
        await harness.shot(page, 'import-errors', { fullPage: true });
    });

    await harness.test('a page of HTML becomes its text, scripts and menus left out; nothing of it runs or is loaded', async () => {
        await open();
        // The browser notes what it does not let the parsed page do.
        page.quire.allow.push(/Applying inline style|Executing inline event handler/, /^(style-src-elem|script-src-attr) inline /);
        const html = `<!doctype html><title>The  mill &amp; its pond</title><style>p{}</style><script>alert(1)</script><body onload="alert(2)"><nav>Home</nav>
            <h1>The mill</h1><p>Two <b>wheels</b>,\n one race.<img src="https://elsewhere.test/x.png" onerror="alert(3)"></p><h2>Stones</h2><ul><li>French burr<ul><li>hard</li></ul></li><li>Peak</li></ul><pre>a\n\n  b</pre>
            <table><tr><td>x</td><td>y</td></tr><tr><td>z</td></tr></table><svg><title>no</title></svg></body>`;
        await page.locator('#files').setInputFiles([file('mill.html', html, 'text/html'), file('old.htm', Buffer.from('<meta charset=iso-8859-1><p>M\xfchle', 'latin1')), file('none.html', '<script>alert(4)</script>'), file('paper.pdf', '%PDF-1.7')]);
        await page.getByText(/^2 documents in \d+ new chunks, 1 failed; 1 file without text passed over$/).waitFor();
        await row('paper.pdf').getByText('PDF: bring it in with the command quire import').waitFor();
        const { chunks, metadata } = await server.must('GET', `/v1/libraries/${library.id}/documents/file%3Amill.html`);
        assert.deepEqual([metadata.title, metadata.document_type, metadata.format], ['The mill & its pond', 'markdown', 'html']);
        assert.equal(chunks.map(({ text }) => text.trim()).join('\n\n'), '# The mill & its pond\n\n# The mill\n\nTwo wheels, one race.\n\n## Stones\n\n- French burr\n- hard\n- Peak\n\n```\na\n\n  b\n```\n\nx y\nz');
        const old = await server.must('GET', `/v1/libraries/${library.id}/documents/file%3Aold.htm`);
        assert.deepEqual([old.metadata.title, old.chunks[0].text.trim()], ['old', 'Mühle']);
        for (const name of ['mill.html', 'old.htm']) await server.must('DELETE', `/v1/libraries/${library.id}/documents/${encodeURIComponent(`file:${name}`)}`);
        page.quire.allow.length = 0;
    });

    await harness.test('front matter that is not whole is told beside its file; a title of front matter is found by words', async () => {
        await open();
        await page.locator('#files').setInputFiles([file('broken.md', '---\ntitle: "Broken\n---\nStill here.\n'), file('titled.md', '---\ntitle: Zanzibar\n---\nCloves and nutmeg.\n'), file('only.md', '---\ntitle: T\n---\n')]);
        await page.getByText(/^2 documents in 2 new chunks, 0 failed; 1 file without text passed over$/).waitFor();
        await row('broken.md').getByText('its front matter cannot be read whole and stays in the text: the value of \'title\' has a quotation mark or a bracket that is not closed').waitFor();
        const { results } = await server.must('POST', `/v1/libraries/${library.id}/search`, { query: 'zanzibar', mode: 'lexical' });
        assert.deepEqual(results.map(({ document_id: id }) => id), ['file:titled.md']);
        for (const name of ['broken.md', 'titled.md']) await server.must('DELETE', `/v1/libraries/${library.id}/documents/${encodeURIComponent(`file:${name}`)}`);
    });

    await harness.test('what comes again replaces what is there, or leaves it', async () => {
        await open();
        await page.locator('#files').setInputFiles([file('pans.txt', 'An enamelled pot can be washed like any other.'), file('again.ndjson', '{"title":"Rice","text":"Rinse the rice."}')]);
        await page.getByText(/^2 documents in .* 2 replaced, 0 failed$/).waitFor();
        assert.equal(await counts(), 4);
        const pans = `/v1/libraries/${library.id}/documents/file%3Apans.txt`;
        assert.match((await server.must('GET', pans)).chunks[0].text, /enamelled/);
        await page.getByText('How', { exact: true }).click();
        await page.getByLabel('When a document with this id is there').selectOption('skip');
        await page.locator('#files').setInputFiles([file('pans.txt', 'Something else.')]);
        await page.getByText(/^1 document in .* 1 kept, 0 failed$/).waitFor();
        assert.match((await server.must('GET', pans)).chunks[0].text, /enamelled/);
    });

    await harness.test('chunks are as large as was asked for', async () => {
        await page.getByLabel('When a document with this id is there').selectOption('replace');
        await page.getByLabel('Tokens in a chunk, at most').fill('12');
        await page.getByLabel('Tokens repeated').fill('0');
        await page.locator('#files').setInputFiles([file('long.txt', 'The first sentence says something. The second one adds to it. A third one ends the matter. And a fourth.')]);
        await row('long.txt').getByText('1 document').waitFor();
        await page.getByRole('heading', { name: 'Imported' }).waitFor();
        assert.ok((await server.must('GET', `/v1/libraries/${library.id}/documents/file%3Along.txt`)).chunks.length >= 3);
    });

    await harness.test('dropped files are taken, beside the field nothing happens', async () => {
        await open();
        const drop = (selector, name) => page.evaluate(([where, called]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File(['Dropped from the sky.'], called, { type: 'text/plain' }));
            for (const type of ['dragover', 'drop']) document.querySelector(where).dispatchEvent(new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true }));
        }, [selector, name]);
        await drop('h1', 'beside.txt');
        await drop('.drop', 'dropped.log');
        await row('dropped.log').getByText('1 document').waitFor();
        await page.getByRole('heading', { name: 'Imported' }).waitFor();
        assert.equal(await row('beside.txt').count(), 0);
        await page.getByRole('link', { name: 'Search it' }).click();
        await page.waitForURL(/\/search$/);
    });

    await harness.test('a folder is taken with what lies below it, hidden and unknown files left out', async () => {
        const folder = path.join(server.directory, 'tmp/folder');
        await fs.mkdir(path.join(folder, 'deep/er'), { recursive: true });
        for (const [name, content] of [['top.md', '# Top\n\nOn the hill.'], ['deep/er/well.txt', 'Deep in the well.'], ['.hidden.txt', 'secret'], ['image.png', 'png'], ['paper.pdf', '%PDF-1.7']]) await fs.writeFile(path.join(folder, name), content);
        await open();
        await page.locator('#folder').setInputFiles(folder);
        await page.getByText(/^2 documents in 2 new chunks, 0 failed; 2 files of other kinds left out: folder\/image\.png, folder\/paper\.pdf$/).waitFor();
        assert.equal((await server.must('GET', `/v1/libraries/${library.id}/documents/${encodeURIComponent('file:folder/deep/er/well.txt')}`)).metadata.path, 'folder/deep/er/well.txt');
    });

    await harness.test('thousands of lines go in batches, with progress; a busy server is asked again', async () => {
        page.quire.allow.push(/status of 503/);
        let refused = 0;
        await page.route('**/documents/stream?*', async (route) => {
            if (refused === 0) {
                refused += 1;
                await route.fulfill({ status: 503, headers: { 'Retry-After': '1' }, contentType: 'application/problem+json', body: '{"title":"Too busy","detail":"Too many streams.","status":503,"error_type":"OverloadedError"}' });
            } else await route.continue();
        });
        const before = await counts();
        const lines = Array.from({ length: 2500 }, (_, i) => JSON.stringify({ id: `line-${i}`, title: `Line ${i}`, texts: [`The ${i}th of many, about geese and rivers.`] }));
        await open();
        await page.locator('#files').setInputFiles([file('many.jsonl', lines.join('\n'))]);
        await page.getByRole('progressbar', { name: 'Import' }).waitFor();
        await harness.until('all are in', async () => /^2,500 documents in 2,500 new chunks, 0 failed$/.test(await page.locator('main p.small').filter({ hasText: 'new chunks' }).textContent()), 20000);
        await page.unroute('**/documents/stream?*');
        assert.equal(refused, 1);
        assert.equal(await counts(), before + 2500);
    });

    await harness.test('an import can be stopped, and one that is refused for good says why', async () => {
        await page.route('**/documents/stream?*', () => {}); // never answered
        await open();
        await page.locator('#files').setInputFiles([file('held.txt', 'Held up.')]);
        await page.getByRole('button', { name: 'Stop' }).click();
        await page.getByRole('heading', { name: 'Stopped' }).waitFor();
        await page.unroute('**/documents/stream?*');
        page.quire.allow.push(/status of 404/);
        const gone = await server.must('POST', '/v1/libraries', { name: 'Soon gone' });
        await page.goto(`${server.url}/#/library/${gone.id}/import`);
        await page.getByRole('heading', { name: 'Soon gone' }).waitFor();
        await server.must('DELETE', `/v1/libraries/${gone.id}`);
        await page.locator('#files').setInputFiles([file('late.txt', 'Too late.')]);
        await page.getByRole('alert').getByText('LibraryNotFoundError').waitFor();
        await page.getByRole('heading', { name: 'Ended early' }).waitFor();
    });
}
