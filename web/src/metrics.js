// metrics.js - reading Prometheus text, and what can be told from two readings of it.
//
// Nothing here knows Quire's names: families are found by their type and labels, so that those which a later version adds are shown, too.

function readLabels(text) {
    const labels = {};
    for (const [, name, value] of text.matchAll(/([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"/g)) {
        labels[name] = value.replace(/\\(.)/g, (_, c) => (c === 'n' ? '\n' : c));
    }
    return labels;
}

function number(text) {
    if (text === '+Inf') return Infinity;
    if (text === '-Inf') return -Infinity;
    return Number(text);
}

/** A Map from the name of a family to {type, help, samples: [{name, labels, value}]}. */
export function parse(text) {
    const families = new Map();
    const family = (name) => {
        if (!families.has(name)) families.set(name, { type: 'untyped', help: '', samples: [] });
        return families.get(name);
    };
    for (const line of text.split('\n')) {
        const about = /^# (HELP|TYPE) (\S+) ?(.*)$/.exec(line);
        if (about) {
            family(about[2])[about[1].toLowerCase()] = about[3];
            continue;
        }
        const sample = /^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})? (\S+)/.exec(line);
        if (!sample) continue;
        const [, name, labels, value] = sample;
        const base = name.replace(/_(bucket|sum|count)$/, '');
        const owner = families.get(base)?.type === 'histogram' ? base : name;
        family(owner).samples.push({ name, labels: labels ? readLabels(labels) : {}, value: number(value) });
    }
    return families;
}

/** The sum over all labels of a counter or gauge. */
export function total(families, name) {
    return (families.get(name)?.samples ?? []).reduce((sum, sample) => sum + sample.value, 0);
}

/** How much a counter grew. After a restart it begins at 0 again. */
function growth(before, after) {
    return after >= before ? after - before : after;
}

/** A Map from what stands in the label to the rate a second of a counter, summed over its other labels. */
export function rates(before, after, name, label, seconds) {
    const totals = new Map();
    const key = ({ labels }) => JSON.stringify(Object.entries(labels).sort());
    const old = new Map((before.get(name)?.samples ?? []).map((sample) => [key(sample), sample.value]));
    for (const sample of after.get(name)?.samples ?? []) {
        const at = label ? sample.labels[label] ?? '' : '';
        totals.set(at, (totals.get(at) ?? 0) + growth(old.get(key(sample)) ?? 0, sample.value) / seconds);
    }
    return totals;
}

/** The histograms of a reading, each set of labels by itself: a Map from an id to {id, name, labels, bounds, counts}, the bounds ascending, the counts cumulative. */
export function histograms(families) {
    const found = new Map();
    for (const [name, { type, samples }] of families) {
        if (type !== 'histogram') continue;
        for (const sample of samples) {
            if (sample.name !== `${name}_bucket`) continue;
            const { le, ...labels } = sample.labels;
            const id = name + JSON.stringify(Object.entries(labels).sort());
            if (!found.has(id)) found.set(id, { id, name, labels, pairs: [] });
            found.get(id).pairs.push([number(le), sample.value]);
        }
    }
    for (const histogram of found.values()) {
        histogram.pairs.sort(([a], [b]) => a - b);
        histogram.bounds = histogram.pairs.map(([bound]) => bound);
        histogram.counts = histogram.pairs.map(([, count]) => count);
        delete histogram.pairs;
    }
    return found;
}

/**
 * What a histogram gathered between two readings of it (`before` may be undefined: it was not there): {count, quantile(q)}. A quantile is taken from its bucket in proportion, as
 * Prometheus does (histogram_quantile); null where nothing was gathered.
 */
export function gathered(before, { bounds, counts: now }) {
    const comparable = before && before.bounds.length === bounds.length && before.counts.at(-1) <= now.at(-1);
    const counts = now.map((count, i) => count - (comparable ? before.counts[i] : 0));
    const count = counts.at(-1) ?? 0;
    return {
        count,
        quantile(q) {
            if (!(count > 0)) return null;
            const rank = q * count;
            const i = counts.findIndex((c) => c >= rank);
            if (bounds[i] === Infinity) return bounds.length > 1 ? bounds[i - 1] : null;
            const low = i > 0 ? bounds[i - 1] : 0;
            const below = i > 0 ? counts[i - 1] : 0;
            return low + (bounds[i] - low) * ((rank - below) / (counts[i] - below || 1));
        },
    };
}
