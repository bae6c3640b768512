// index.js - the page at /.
import { call } from './lib/api.js';
import { fill, h } from './lib/dom.js';

const health = await call('/health');
fill(document.getElementById('top'), h('h1', null, 'Quire'));
fill(document.getElementById('main'), h('p', { class: 'card' }, `Version ${health.version} is ${health.status}.`));
