// activity.js - what the server does right now: requests, latencies, the queue. It reads /metrics while it is shown, and draws what it finds there; figures that this
// version does not have leave their chart out.
import uPlot from 'uplot';
import { call, send } from '../lib/api.js';
import { fill, h } from '../lib/dom.js';
import { bytes, count, figure, seconds, time } from '../lib/format.js';
import { gathered, histograms, parse, rates, total } from '../metrics.js';
import { facts, head, repeatedly, row, select, table, trouble } from '../ui.js';

const interval = 2000;
const kept = 300;
const quantiles = [['p50', 0.5], ['p95', 0.95], ['p99', 0.99]];
const responses = 'quire_http_responses_total';
const colours = ['--chart-1', '--chart-2', '--chart-3', '--chart-4', '--chart-5'];

// What was read outlives the view: who comes back finds it, with a gap. Of all readings but the last only what charts show is kept: a column of numbers for each key, beside the times.
const times = [];
const history = new Map();
let last = null;

/** Takes the figures of one moment, a Map from key to number, into the columns. */
function keep(at, row) {
    times.push(at / 1000);
    for (const [key, figureThere] of row) {
        if (!history.has(key)) history.set(key, Array.from({ length: times.length - 1 }, () => null));
        history.get(key).push(figureThere);
    }
    for (const column of history.values()) {
        if (column.length < times.length) column.push(null);
        if (times.length > kept) column.shift();
    }
    if (times.length > kept) times.shift();
}

function columns(keys) {
    return [times, ...keys.map((key) => history.get(key) ?? times.map(() => null))];
}

/** All that a chart may show of two readings. */
function figuresOf(before, now) {
    const figures = new Map();
    const span = (now.at - before.at) / 1000;
    for (const [name, { type, samples }] of now.families) {
        if (type === 'counter') figures.set(name, [...rates(before.families, now.families, name, null, span).values()][0] ?? null);
        else if (type === 'gauge') figures.set(name, samples.reduce((sum, sample) => sum + sample.value, 0));
    }
    const label = statusLabel(now.families);
    if (label) {
        for (const one of ['2xx', '4xx', '5xx']) figures.set(one, 0);
        for (const [status, rate] of rates(before.families, now.families, responses, label, span)) figures.set(`${status[0]}xx`, (figures.get(`${status[0]}xx`) ?? 0) + rate);
    }
    for (const [id, histogram] of now.histograms) {
        const part = gathered(before.histograms.get(id), histogram);
        for (const [name, q] of quantiles) figures.set(id + name, part.quantile(q));
    }
    return figures;
}

/** The label by which responses are told apart: a class of status, or a status. */
function statusLabel(families) {
    const labels = families.get(responses)?.samples[0]?.labels ?? {};
    return ['class', 'status', 'code'].find((label) => label in labels);
}

const clock = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' });

function nameOf({ name, labels }) {
    const plain = name.replace(/^quire_/, '').replace(/_(duration_)?seconds$/, '').replaceAll('_', ' ');
    const own = Object.values(labels);
    return own.length > 0 ? `${plain}: ${own.join(', ')}` : plain;
}

/** What the charts span: all that is kept, and at least a minute. */
function timeRange() {
    const end = times.at(-1) ?? Date.now() / 1000;
    return [Math.min(times[0] ?? end, end - 60), end];
}

/** A chart: a canvas, and below it what its lines are and say at the cursor, or at the end. `lines`: [name]. */
class Chart {
    constructor(title, lines, format, signal) {
        Object.assign(this, { lines, format });
        this.place = h('div', { class: 'plot', role: 'img', 'aria-label': title });
        this.values = lines.map(() => h('span', { class: 'number' }));
        this.legend = h('ul', { class: 'legend' }, lines.map((name, i) => h('li', null, h('span', { class: `swatch swatch-${i + 1}` }), ` ${name} `, this.values[i])));
        this.title = title;
        this.element = h('section', { class: 'card chart' }, h('h2', null, title), this.place, this.legend);
        this.data = [[], ...lines.map(() => [])];
        const size = new ResizeObserver(() => this.plot?.setSize({ width: this.place.clientWidth, height: 200 }));
        const dark = matchMedia('(prefers-color-scheme: dark)');
        const anew = () => {
            this.plot?.destroy();
            this.plot = null;
            this.draw(this.data);
        };
        dark.addEventListener('change', anew, { signal });
        signal.addEventListener('abort', () => {
            size.disconnect();
            this.plot?.destroy();
            this.plot = null;
        });
        size.observe(this.place);
    }

    build() {
        const style = getComputedStyle(document.documentElement);
        const colour = (name) => style.getPropertyValue(name).trim();
        const axis = { stroke: colour('--muted'), grid: { stroke: colour('--line'), width: 1 }, ticks: { stroke: colour('--line'), width: 1 }, font: `12px ${getComputedStyle(document.body).fontFamily}` };
        this.plot = new uPlot({
            width: this.place.clientWidth || 300, height: 200, legend: { show: false }, cursor: { y: false, points: { size: 6 } },
            scales: { x: { range: timeRange }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
            axes: [{ ...axis, values: (_, ticks) => ticks.map((tick) => clock.format(new Date(tick * 1000))), space: 90 }, { ...axis, size: 66, values: (_, ticks) => ticks.map((tick) => (tick === 0 ? '0' : this.format(tick))) }],
            series: [{}, ...this.lines.map((label, i) => ({ label, stroke: colour(colours[i]), width: 2, points: { show: () => times.length < 3, size: 5 }, spanGaps: false }))],
            hooks: { setCursor: [({ cursor }) => this.tell(cursor.idx)] },
        }, this.data, this.place);
    }

    /** The figures at one place of the data; those of the end where there is none. */
    tell(index) {
        const at = index ?? this.data[0].length - 1;
        for (const [i, element] of this.values.entries()) {
            const figureThere = this.data[i + 1][at];
            fill(element, figureThere === null || figureThere === undefined ? '–' : this.format(figureThere));
        }
    }

    draw(data) {
        this.data = data;
        if (this.plot) this.plot.setData(data);
        else this.build();
        this.tell(this.plot.cursor.idx);
        this.place.setAttribute('aria-label', `${this.title}, now: ${this.lines.map((name, i) => `${name} ${this.values[i].textContent}`).join(', ')}`);
    }
}

/** A chart of figures that have names of their own, those which there are: [[key, text]]. Null where there is none. */
function plainChart(title, wanted, there, signal) {
    const lines = wanted.filter(([key]) => there(key));
    if (lines.length === 0) return null;
    const chart = new Chart(title, lines.map(([, text]) => text), figure, signal);
    return { chart, data: () => columns(lines.map(([key]) => key)) };
}

/** Quantiles of one histogram of times, which can be chosen. */
function latencyChart(all, signal) {
    const timed = [...all.values()].filter(({ name }) => name.endsWith('_seconds'));
    if (timed.length === 0) return null;
    const requests = timed.filter(({ name }) => name.startsWith('quire_http_request'));
    const preset = requests.find(({ labels }) => Object.values(labels).some((at) => at.includes('search'))) ?? requests[0] ?? timed[0];
    const chart = new Chart('Latency', quantiles.map(([name]) => name), seconds, signal);
    const choice = select({ 'aria-label': 'Latency of', class: 'of' }, timed.map((one) => [one.id, nameOf(one)]), preset.id);
    const data = () => columns(quantiles.map(([name]) => choice.value + name));
    choice.addEventListener('change', () => chart.draw(data()));
    chart.element.querySelector('h2').after(choice);
    return { chart, data };
}

/** Every figure that there is, with what it means. */
function allFigures() {
    const find = h('input', { type: 'search', placeholder: 'Part of a name', 'aria-label': 'Find a figure' });
    const body = h('tbody');
    const element = h('details', { class: 'more' }, h('summary', null, 'All figures'), find,
        h('div', { class: 'card flush' }, table('All figures', ['Figure', '#Value'], body)));
    const draw = () => {
        const families = last?.families;
        if (!element.open || !families) return;
        const text = find.value.trim().toLowerCase();
        const rows = [];
        for (const [name, { help, type, samples }] of families) {
            if (text !== '' && !name.includes(text) && !help.toLowerCase().includes(text)) continue;
            const shown = type === 'histogram' ? samples.filter((sample) => !sample.name.endsWith('_bucket')) : samples;
            rows.push(...shown.map((sample) => row([h('code', { class: 'anywhere' }, sample.name, Object.keys(sample.labels).length > 0 && ` ${Object.entries(sample.labels).map(([label, at]) => `${label}=${at}`).join(' ')}`), h('div', { class: 'muted small' }, help)],
                [figure(sample.value), 'number'])));
        }
        fill(body, rows.slice(0, 400));
    };
    find.addEventListener('input', draw);
    element.addEventListener('toggle', draw);
    return { element, draw };
}

export async function activity({ main, signal }) {
    const problem = h('div');
    const tiles = h('div', { class: 'card' });
    const charts = h('div', { class: 'charts' });
    const figures = allFigures();
    let shown = null;

    const look = async () => {
        const families = parse(await (await send('/metrics', { signal })).text());
        const now = { at: Date.now(), families, histograms: histograms(families) };
        if (last !== null) keep(now.at, now.at - last.at > 4 * interval ? new Map() : figuresOf(last, now));
        const pause = last === null ? 500 : interval;
        last = now;
        trouble(problem, null);
        const there = (name) => families.has(name);
        if (!shown) {
            shown = [
                plainChart('Requests a second', statusLabel(families) ? [['2xx', '2xx'], ['4xx', '4xx'], ['5xx', '5xx']] : [['quire_http_requests_total', 'all']], (key) => key.endsWith('xx') || there(key), signal),
                latencyChart(now.histograms, signal),
                plainChart('Work a second', [['quire_searches_total', 'searches'], ['quire_committed_ops_total', 'operations committed'], ['quire_commits_total', 'commits'], ['quire_embedded_texts_total', 'texts embedded']], there, signal),
                plainChart('Waiting', [['quire_queue_ops', 'for a commit'], ['quire_pending_vectors', 'for a vector'], ['quire_index_tail_chunks', 'for a link in the graph'], ['quire_workers_writing', 'workers that write']], there, signal),
            ].filter(Boolean);
            fill(charts, shown.map(({ chart }) => chart.element));
        }
        const tile = (text, name, shape) => there(name) && [text, shape(total(families, name))];
        fill(tiles, facts([
            tile('Up for', 'process_start_time_seconds', (began) => seconds(Math.max(0, Date.now() / 1000 - began))), tile('Requests', 'quire_http_requests_total', count), tile('Searches', 'quire_searches_total', count),
            tile('Workers', 'quire_workers', count), tile('Worker restarts', 'quire_worker_restarts_total', count), tile('Memory', 'process_resident_memory_bytes', bytes), tile('LSN', 'quire_wal_lsn', count),
            tile('Log', 'quire_wal_bytes', bytes), tile('Last snapshot', 'quire_snapshot_last_time_seconds', (at) => (at > 0 ? time(new Date(at * 1000).toISOString()) : 'none yet')),
            there('quire_disk_available_bytes') && ['Disk available', bytes(Math.min(...families.get('quire_disk_available_bytes').samples.map((sample) => sample.value)))],
        ]));
        for (const { chart, data } of shown) chart.draw(data());
        figures.draw();
        return pause;
    };
    const { version } = await call('/health', { signal });
    fill(main, head('Activity'), h('p', { class: 'muted' }, `Quire ${version}, asked every two seconds while this is open.`), problem, tiles, charts, figures.element);
    repeatedly(signal, look, (error) => trouble(problem, error), await look());
}
