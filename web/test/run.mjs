// run.mjs - runs the browser tests: web/test/*.test.mjs, each a function that gets a harness (harness.mjs).
//
//   node test/run.mjs SCREENS [NAME]
import fs from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Harness } from './harness.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));
const [screens, only] = process.argv.slice(2);
const files = (await fs.readdir(here)).filter((name) => name.endsWith('.test.mjs') && (!only || name === `${only}.test.mjs`)).sort();
const harness = new Harness(screens);
try {
    for (const file of files) {
        const { default: tests } = await import(path.join(here, file));
        await harness.run(file, tests);
    }
} finally {
    await harness.end();
}
process.exit(harness.failed > 0 || harness.passed === 0 ? 1 : 0);
