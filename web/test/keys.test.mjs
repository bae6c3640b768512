// keys.test.mjs - a server that wants keys, in a browser.
import assert from 'node:assert/strict';
import fs from 'node:fs/promises';

export default async function tests(harness) {
    const server = await harness.server('auth=on');
    const page = await harness.page(server, { allow: [/status of (401|403)/] });
    const library = await server.must('POST', '/v1/libraries', { name: 'Locked' });
    await server.must('POST', '/v1/libraries', { name: 'Other' });
    await server.must('POST', `/v1/libraries/${library.id}/documents`, { title: 'Owls', texts: ['An owl hunts at night.'] });
    const heading = (name) => page.getByRole('heading', { name, exact: true });
    const signIn = async (key) => {
        await heading('Sign in').waitFor();
        await page.getByLabel('API key').fill(key);
        await page.getByRole('button', { name: 'Sign in' }).click();
    };
    let readOnly;

    await harness.test('without a key the page asks for one, and says when it is wrong', async () => {
        await page.goto(server.url);
        await heading('Sign in').waitFor();
        assert.equal(await page.evaluate(() => document.activeElement.id), 'api-key');
        await harness.accessible(page, 'sign in');
        await harness.shot(page, 'sign-in');
        await signIn('qk_wrong');
        await page.getByRole('alert').getByText('AuthenticationError').waitFor();
    });

    await harness.test('with a key everything is there, and the key lies in this tab only', async () => {
        await signIn(server.key);
        await heading('Locked').waitFor();
        const kept = await page.evaluate(() => ({ session: Object.values(sessionStorage), local: localStorage.length, cookie: document.cookie, markup: document.documentElement.outerHTML }));
        assert.deepEqual(kept.session, [server.key]);
        assert.equal(kept.local, 0);
        assert.equal(kept.cookie, '');
        assert.ok(!kept.markup.includes(server.key));
        assert.ok(page.quire.requests.every((url) => !url.includes('qk_')));
        await page.reload();
        await heading('Locked').waitFor();
        await page.getByRole('link', { name: 'Locked' }).click();
        await page.getByLabel('Query').fill('owls');
        await page.keyboard.press('Enter');
        await page.getByText(/^1 hit in/).waitFor();
    });

    await harness.test('a key is made, shown once, and copied', async () => {
        await page.goto(`${server.url}/#/keys`);
        await page.getByText('No key yet, but those of the configuration.').waitFor();
        await page.getByRole('button', { name: 'New key' }).click();
        const dialog = page.getByRole('dialog', { name: 'New key' });
        await dialog.getByLabel('Name').fill('reader <b>');
        await dialog.getByLabel('Locked').check();
        await dialog.getByLabel('Ends on').fill('2099-12-31');
        await harness.accessible(page, 'dialog of a new key');
        await dialog.getByRole('button', { name: 'Create' }).click();
        await page.getByText('It is shown here and never again.').waitFor();
        readOnly = await page.locator('.secret').textContent();
        assert.match(readOnly, /^qk_[0-9A-Za-z]{36}$/);
        await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
        await page.getByRole('button', { name: 'Copy' }).click();
        await page.getByText(/Copied|copy it by hand/).waitFor();
        await harness.shot(page, 'keys', { fullPage: true });
        await page.getByRole('button', { name: 'I have it' }).click();
        assert.ok(!(await page.content()).includes(readOnly));
        const row = page.getByRole('listitem').filter({ has: heading('reader <b>') });
        assert.match(await row.textContent(), /Mayread.*LibrariesLocked.*Ends3[01] Dec 2099.*Last usednever/);
        await harness.accessible(page, 'keys');
    });

    await harness.test('downloads go with the key, through the page', async () => {
        await page.goto(`${server.url}/#/snapshots`);
        await page.getByRole('button', { name: 'Take a snapshot' }).click();
        await page.getByRole('button', { name: /^Download/ }).first().waitFor();
        const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: /^Download/ }).first().click()]);
        const content = await fs.readFile(await download.path());
        const [{ bytes, name }] = await server.must('GET', '/v1/snapshots');
        assert.equal(content.length, bytes);
        assert.equal(download.suggestedFilename(), name);
        await page.goto(`${server.url}/#/library/${library.id}`);
        const [exported] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Export' }).click()]);
        assert.equal(JSON.parse(await fs.readFile(await exported.path(), 'utf8')).title, 'Owls');
    });

    await harness.test('a key that may less sees less, and is told so', async () => {
        await page.getByRole('button', { name: 'Sign out' }).click();
        assert.equal(await page.evaluate(() => sessionStorage.length), 0);
        await signIn(readOnly);
        await page.goto(`${server.url}/#/`);
        await heading('Locked').waitFor();
        assert.equal(await heading('Other').count(), 0);
        for (const [place, title] of [['snapshots', 'Snapshots'], ['activity', 'Activity'], ['keys', 'Keys']]) {
            await page.goto(`${server.url}/#/${place}`);
            await heading(title).waitFor();
            await page.getByRole('alert').getByText('PermissionDeniedError').waitFor();
        }
        await page.goto(`${server.url}/#/library/${library.id}/documents`);
        await page.getByRole('button', { name: 'Delete Owls' }).click();
        const dialog = page.getByRole('dialog');
        await dialog.getByRole('button', { name: 'Delete' }).click();
        await dialog.getByRole('alert').getByText('PermissionDeniedError').waitFor();
        await dialog.getByRole('button', { name: 'Cancel' }).click();
    });

    await harness.test('a key that is revoked opens nothing any more, and the page asks for another', async () => {
        const admin = await harness.page(server, { allow: [/status of 401/] });
        await admin.goto(`${server.url}/#/keys`);
        await admin.getByLabel('API key').fill(server.key);
        await admin.keyboard.press('Enter');
        await admin.getByRole('button', { name: 'Revoke reader <b>' }).click();
        await admin.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click();
        await admin.getByText('No key yet, but those of the configuration.').waitFor();
        await page.goto(`${server.url}/#/models`);
        await heading('Sign in').waitFor();
    });

    await harness.test('where keys are off the view of keys says what that means', async () => {
        const open = await harness.server();
        const other = await harness.page(open);
        await other.goto(`${open.url}/#/keys`);
        await other.getByText('This server asks nobody for a key').waitFor();
        assert.ok(await other.getByRole('button', { name: 'Sign out' }).isHidden());
    });
}
