// format.js - numbers, sizes and times as people read them.
import { h } from './dom.js';

const whole = new Intl.NumberFormat('en');

export function count(n) {
    return n === null || n === undefined ? '–' : whole.format(n);
}

/** "1 document", "2,000 documents". */
export function counted(n, one, many = `${one}s`) {
    return `${count(n)} ${n === 1 ? one : many}`;
}

/** A number with three digits that matter. */
export function figure(n) {
    if (n === null || n === undefined || Number.isNaN(n)) return '–';
    if (Math.abs(n) >= 1000) return whole.format(Math.round(n));
    return String(Number(n.toPrecision(3)));
}

export function bytes(n) {
    if (n === null || n === undefined) return '–';
    let unit = 0;
    let value = n;
    while (value >= 999.5 && unit < 4) {
        value /= 1000;
        unit += 1;
    }
    return `${unit === 0 ? value : Number(value.toPrecision(3))} ${['B', 'kB', 'MB', 'GB', 'TB'][unit]}`;
}

/** A duration in seconds. */
export function seconds(s) {
    if (s === null || s === undefined || Number.isNaN(s)) return '–';
    if (s < 0.001) return `${figure(s * 1e6)} µs`;
    if (s < 1) return `${figure(s * 1000)} ms`;
    if (s < 90) return `${figure(s)} s`;
    if (s < 5400) return `${Math.round(s / 60)} min`;
    if (s < 172800) return `${Math.round(s / 3600)} h`;
    return `${Math.round(s / 86400)} days`;
}

/** A share, 0 to 1. It says 100 % of nothing less. */
export function percent(share) {
    const p = share * 100;
    return `${p >= 99.95 && p < 100 ? 99.9 : Number(p.toPrecision(3))} %`;
}

const day = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium' });
const clock = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });

/** When something was, "5 min ago"; the time itself stands in the title. */
export function time(text) {
    if (!text) return '–';
    const at = new Date(text);
    const past = (Date.now() - at) / 1000;
    let words;
    if (past < -172800) words = day.format(at);
    else if (past < 0) words = past > -2 ? 'now' : `in ${seconds(-past)}`;
    else words = past < 2 ? 'just now' : `${seconds(Math.floor(past))} ago`;
    return h('time', { datetime: text, title: clock.format(at) }, words);
}

/** The time itself, to the second. */
export function moment(text) {
    return text ? h('time', { datetime: text }, clock.format(new Date(text))) : '–';
}
