// parts.test.mjs - parts of the page that need no browser.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Problem } from '../../src/lib/api.js';

test('a problem says what it can', () => {
    assert.equal(new Problem(503, { detail: 'full', request_id: 'r' }).requestId, 'r');
    assert.equal(new Problem(502, {}).message, 'The server answered with status 502.');
    assert.equal(new Problem(0, { title: 'No answer' }).title, 'No answer');
});
