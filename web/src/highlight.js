// highlight.js - which words of a hit are words of the query.
//
// The server looks words up without their endings (Snowball stems of the library's language). Here it is told by looking at both words: English endings are taken off by a
// few rules, of other languages words are the same that share all but their last three letters. That marks now and then a word too many or too few; nothing else goes by it.

const stopWords = new Set(('a about above after again against all am an and any are as at be because been before being below between both but by can could did do does doing down during each few for from ' +
    'further had has have having he her here hers him his how i if in into is it its itself just me more most my no nor not now of off on once only or other our out over own same she should so some such ' +
    'than that the their them then there these they this those through to too under until up very was we were what when where which while who whom why will with would you your').split(' '));
const unspaced = /[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmer}\p{sc=Myanmar}]/u;

export function fold(word) {
    return word.normalize('NFKD').replace(/\p{M}+/gu, '').toLowerCase();
}

function englishStem(word) {
    let stem = word.replace(/'s$/, '');
    if (stem.length > 4) stem = stem.replace(/(ies|ied)$/, 'y').replace(/(sses|shes|ches|xes|zes)$/, (end) => end.slice(0, -2));
    if (stem.length > 3) stem = stem.replace(/([^s])s$/, '$1');
    const cut = stem.replace(/(ingly|edly|ing|ed|ly|er|est)$/, '');
    if (cut !== stem && cut.length >= 3 && /[aeiouy]/.test(cut)) stem = cut.replace(/([bdfgmnprt])\1$/, '$1');
    if (stem.length > 3) stem = stem.replace(/e$/, '');
    return stem.length > 2 ? stem.replace(/y$/, 'i') : stem;
}

function alike(a, b) {
    if (a === b) return true;
    const least = Math.max(4, Math.max(a.length, b.length) - 3);
    return a.length >= least && b.length >= least && a.slice(0, least) === b.slice(0, least);
}

/** A function that cuts a text into pieces [text, whether it is a word of the query]. */
export function highlighter(query, language = 'english') {
    const english = language === 'english';
    const words = query.match(/[\p{L}\p{N}\p{M}]+/gu) ?? [];
    const parts = words.filter((word) => unspaced.test(word));
    let plain = words.filter((word) => !unspaced.test(word)).map(fold);
    if (english && plain.some((word) => !stopWords.has(word))) plain = plain.filter((word) => !stopWords.has(word));
    const stems = new Set(plain.map(englishStem));
    const isWanted = (word) => {
        const folded = fold(word);
        if (language === 'none') return plain.includes(folded);
        return english ? stems.has(englishStem(folded)) : plain.some((wanted) => alike(wanted, folded));
    };
    return (text) => {
        const pieces = [];
        const put = (piece, wanted) => {
            if (piece === '') return;
            if (pieces.length > 0 && pieces.at(-1)[1] === wanted) pieces.at(-1)[0] += piece;
            else pieces.push([piece, wanted]);
        };
        let at = 0;
        for (const match of text.matchAll(/[\p{L}\p{N}\p{M}]+/gu)) {
            put(text.slice(at, match.index), false);
            at = match.index + match[0].length;
            if (parts.length > 0 && unspaced.test(match[0])) markParts(match[0], parts, put);
            else put(match[0], isWanted(match[0]));
        }
        put(text.slice(at), false);
        return pieces;
    };
}

function markParts(run, parts, put) {
    for (let i = 0; i < run.length;) {
        const part = parts.find((candidate) => run.startsWith(candidate, i));
        put(part ?? run[i], part !== undefined);
        i += part?.length ?? 1;
    }
}
