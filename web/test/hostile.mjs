// hostile.mjs - what may stand in names and texts, and must stay text.

export const script = '<script>alert("script")</script><img src=x onerror=alert("image")>';
export const name = `<b onmouseover=alert(1)>Birds</b> & "co" '${'x'.repeat(60)}`;
export const id = 'a/b?c#d%2F & "e" <i>';
export const text = `${script} The heron {{7*7}} waits. \u202eright to left\u202c ${'long'.repeat(60)} javascript:alert(1)`;

/** A document all of whose members try. */
export const document = {
    id, title: `${script} Herons`, author: script, document_type: '<u>type</u>', source_url: 'javascript:alert("link")', tags: ['<i>tag</i>', 'wading'],
    metadata: { '<b>member</b>': script, section: '<h1>part</h1>' }, texts: [text, 'An owl hunts at night.'],
};
