// dom.js - elements from data. Whatever comes from the server becomes a text node or the value of an attribute, never markup.

/**
 * An element. `properties`: `class`, `on` (an object of listeners), `data` (for dataset), names of attributes; false, null and undefined leave one out, true
 * is an attribute without a value. Children: nodes, strings and numbers (text), arrays of them; null and false are passed over.
 */
export function h(tag, properties, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties ?? {})) {
        if (value === false || value === null || value === undefined) continue;
        if (name === 'on') for (const [type, listener] of Object.entries(value)) element.addEventListener(type, listener);
        else if (name === 'data') Object.assign(element.dataset, value);
        else if (name === 'class') element.className = value;
        else if (name === 'value') element.value = value;
        else element.setAttribute(name, value === true ? '' : String(value));
    }
    return add(element, children);
}

/** Appends children as `h` takes them; gives the parent back. */
export function add(parent, ...children) {
    for (const child of children.flat(Infinity)) {
        if (child === null || child === undefined || child === false) continue;
        parent.append(child instanceof Node ? child : String(child));
    }
    return parent;
}

/** Puts children in the place of what the parent has. */
export function fill(parent, ...children) {
    parent.replaceChildren();
    return add(parent, ...children);
}

const svgNamespace = 'http://www.w3.org/2000/svg';

/** A drawing of 20 x 20 from one path, hidden from screen readers: what it says is said in words beside it. */
export function icon(path) {
    const svg = document.createElementNS(svgNamespace, 'svg');
    svg.setAttribute('viewBox', '0 0 20 20');
    svg.setAttribute('class', 'icon');
    svg.setAttribute('aria-hidden', 'true');
    const line = document.createElementNS(svgNamespace, 'path');
    line.setAttribute('d', path);
    svg.append(line);
    return svg;
}
