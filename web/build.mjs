// build.mjs - makes web/dist from web/src: the same bytes from the same sources, on any machine.
//
//   node build.mjs [DIRECTORY]      (default: dist, beside this file)
//
// Each src/NAME.html is a page. It comes with src/NAME.js, a module that is bundled with all that it imports, and src/NAME.css, bundled likewise. nginx serves
// index.html as / and docs.html as /docs, all other files under /web/ (nginx/quire.conf.in). Names carry no hash: browsers ask by ETag whether a file is new.
import * as esbuild from 'esbuild';
import fs from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const source = path.join(here, 'src');
const target = path.resolve(process.argv[2] ?? path.join(here, 'dist'));

const files = (await fs.readdir(source)).sort();
const pages = files.filter((name) => name.endsWith('.html')).map((name) => name.slice(0, -5));

await fs.rm(target, { recursive: true, force: true });
await fs.mkdir(target, { recursive: true });
for (const name of files.filter((file) => /\.(html|svg)$/.test(file))) await fs.copyFile(path.join(source, name), path.join(target, name));

// What is bundled into docs.js names the licences of its parts in a file beside it.
await fs.copyFile(path.join(here, 'node_modules/swagger-ui-dist/swagger-ui-bundle.js.LICENSE.txt'), path.join(target, 'docs.licences.txt'));

const entries = pages.flatMap((page) => [`${page}.js`, `${page}.css`]).filter((file) => files.includes(file));
const result = await esbuild.build({
    absWorkingDir: here,
    entryPoints: entries.map((file) => `src/${file}`),
    outdir: target,
    bundle: true,
    minify: true,
    format: 'esm',
    charset: 'utf8',
    legalComments: 'inline',
    // What browsers of the last three years can do.
    target: ['chrome109', 'firefox115', 'safari16.4'],
    logLevel: 'warning',
});
if (result.warnings.length > 0) process.exit(1);
