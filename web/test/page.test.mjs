// page.test.mjs - the page at / in a browser.

export default async function tests(harness) {
    const server = await harness.server();

    await harness.test('the page opens', async () => {
        const page = await harness.page(server);
        await page.goto(server.url);
        await page.getByText('is healthy').waitFor();
        await harness.accessible(page, 'start');
        await harness.shot(page, 'start');
    });
}
