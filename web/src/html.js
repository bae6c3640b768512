// html.js - from a page of HTML to text with its headings, lists and code as Markdown, as `quire import` does it (src/cli/import_html.c).
//
// The browser's own parser makes the tree. It is a document beside this page: no script of it runs, nothing of it is loaded, and of its nodes only texts are taken.

const depthMax = 250;
const unread = new Set(['script', 'style', 'noscript', 'template', 'nav', 'form', 'button', 'select', 'svg', 'iframe', 'object', 'head', 'title']);
const blocks = new Set(['p', 'div', 'section', 'article', 'main', 'header', 'footer', 'aside', 'blockquote', 'ul', 'ol', 'dl', 'table', 'figure', 'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'pre', 'hr', 'address', 'figcaption', 'body']);
const rows = new Set(['li', 'dt', 'dd', 'tr', 'br', 'caption']);
const cells = new Set(['td', 'th']);
const lists = new Set(['ul', 'ol']);

// nginx's policy lets no text become markup but by this rule, whose result goes to the parser below and nowhere else.
let policy;
function parse(html) {
    policy ??= globalThis.trustedTypes?.createPolicy('quire-page', { createHTML: (text) => text }) ?? { createHTML: (text) => text };
    return new DOMParser().parseFromString(policy.createHTML(html), 'text/html');
}

class Writer {
    out = [];
    newlines = 0; // owed before the next word
    blank = false; // a blank is owed
    code = 0; // within so many <pre>
    lists = 0;

    owe(newlines) {
        if (this.out.length > 0) this.newlines = Math.max(this.newlines, newlines);
    }

    put(text) {
        if (this.newlines > 0) this.out.push('\n'.repeat(this.newlines));
        else if (this.blank && this.out.length > 0) this.out.push(' ');
        this.newlines = 0;
        this.blank = false;
        this.out.push(text);
    }

    text(text) {
        if (this.code > 0) {
            text.split(/\r?\n/).forEach((line, i) => {
                if (i > 0) this.newlines += 1;
                if (line !== '') this.put(line);
            });
            return;
        }
        for (const [piece] of text.matchAll(/[ \t\r\n\v\f]+|[^ \t\r\n\v\f]+/g)) {
            if (/^[ \t\r\n\v\f]/.test(piece)) this.blank = this.newlines === 0;
            else this.put(piece.replace(/\p{Cc}/gu, ''));
        }
    }

    around(name) {
        if (blocks.has(name)) this.owe(this.lists > 0 && lists.has(name) ? 1 : 2);
        else if (rows.has(name)) this.owe(1);
    }

    enter(name) {
        this.around(name);
        if (cells.has(name) && this.newlines === 0) this.blank = true;
        if (lists.has(name)) this.lists += 1;
        if (/^h[1-6]$/.test(name)) this.put(`${'#'.repeat(Number(name[1]))} `);
        else if (name === 'li') this.put('- ');
        else if (name === 'pre') {
            this.put('```');
            this.newlines = 1;
            this.code += 1;
        }
    }

    leave(name) {
        if (name === 'pre') {
            this.code -= 1;
            this.newlines = 1;
            this.put('```');
        }
        if (lists.has(name)) this.lists -= 1;
        this.around(name);
    }
}

function walk(node, writer, depth) {
    for (const child of node.childNodes) {
        if (child.nodeType === Node.TEXT_NODE || child.nodeType === Node.CDATA_SECTION_NODE) writer.text(child.data);
        else if (child.nodeType === Node.ELEMENT_NODE && depth < depthMax && !unread.has(child.localName)) {
            writer.enter(child.localName);
            walk(child, writer, depth + 1);
            writer.leave(child.localName);
        }
    }
}

const plain = (element) => (element?.textContent ?? '').replace(/\s+/g, ' ').replace(/\p{Cc}/gu, '').trim();

/** {text, title} of a page; the title is empty where it has none. */
export function readPage(html) {
    const page = parse(html);
    const writer = new Writer();
    walk(page, writer, 0);
    return { text: writer.out.length > 0 ? `${writer.out.join('')}\n` : '', title: plain([...page.querySelectorAll('title')].find((title) => !title.closest('svg'))) || plain(page.querySelector('h1')) };
}
