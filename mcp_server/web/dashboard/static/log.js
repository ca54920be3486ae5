// A stage's log: a window of its lines, wherever the log is long. It follows, and goes to matches and mistakes of all of it.

import { ask, throttled } from './api.js';
import { count, el, plural } from './dom.js';

const LEAST = 4000; // bytes that are asked for at once, and the most
const MOST = 60_000;
const LINES = 600; // about as many are wanted in a piece
const PIECES = 6; // in the page at a time
const FOUND = 200_000; // bytes of a search's answer
const THE_END = 2 ** 53 - 1;
// Both languages read it: the page marks what the service finds. Plain words only, so that a far host looks for them itself.
export const MISTAKE = String.raw` error:|:error:|^error:|^error\[|^Error: |ERROR: |CMake Error|undefined reference to|Guru Meditation|panic'ed|AssertionError|Traceback \(most recent|:FAIL`;
const MISTAKES = new RegExp(MISTAKE);
const quoted = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

export class LogView {
  constructor(build, stage) {
    this.base = `/api/builds/${build}/log/${encodeURIComponent(stage)}`;
    [this.pieces, this.atEnd, this.bytes, this.busy, this.stopped] = [[], false, MOST / 2, false, false];
    [this.line, this.wanted, this.found] = [0, '', null]; // the marked line, what is looked for, and where it is
    this.box = el('div', { class: 'log', tabindex: 0, role: 'region', 'aria-label': `Log of stage ${stage}` });
    this.follows = el('input', { type: 'checkbox', checked: true, 'data-key': 'f', onchange: () => this.more() });
    this.field = el('input', { 'data-search': true, type: 'search', size: 22, maxlength: 200, placeholder: 'search the whole log', 'aria-label': 'Search the whole log' });
    this.said = el('span', { class: 'soft grow', role: 'status' });
    const button = (text, key, title, does) => el('button', { type: 'button', 'data-key': key, 'aria-label': title, title: `${title} (${key})`, onclick: does }, text);
    const bar = el('form', { class: 'bar', role: 'search', 'aria-label': 'Log', onsubmit: (event) => { event.preventDefault(); this.find(1); } }, this.field,
      button('‹', 'p', 'Match before', () => this.find(-1)), button('›', 'n', 'Next match', () => this.find(1)),
      button('Next error', 'e', 'Next error', () => this.nextError(1)), button('Error before', 'E', 'Error before', () => this.nextError(-1)),
      el('label', null, this.follows, 'follow'), this.said);
    this.field.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && event.shiftKey) { event.preventDefault(); this.find(-1); }
      if (event.key === 'Escape') { event.stopPropagation(); this.box.focus({ preventScroll: true }); }
    });
    this.note = el('p', { class: 'note soft', role: 'status' });
    this.node = el('div', null, bar, this.note, this.box);
    this.more = throttled(() => this.poll(), 250);
    this.near = throttled(() => this.scrolled(), 60);
    this.box.addEventListener('scroll', () => {
      const { scrollTop, scrollHeight, clientHeight } = this.box;
      if (scrollTop + clientHeight < scrollHeight - 60 && scrollTop < this.top) this.follows.checked = false; // what is read stays
      this.top = scrollTop;
      this.near();
    }, { passive: true });
    this.top = 0;
  }

  stop() {
    this.stopped = true;
    this.more.stop();
    this.near.stop();
  }

  async slice(query) {
    const answer = await ask('GET', `${this.base}?${new URLSearchParams({ max_bytes: this.bytes, ...query })}`);
    const number = (name) => (answer.headers.has(name) ? Number(answer.headers.get(name)) : null);
    const text = await answer.text();
    if (!query.grep) this.tell(decodeURIComponent(answer.headers.get('X-Log-Note') ?? ''));
    return { text, from: number('X-Start-Offset'), to: number('X-End-Offset'), more: number('X-Next-Offset') !== null,
      matches: number('X-Log-Matches'), lines: number('X-Log-Lines') };
  }

  // At the end of what a good or an open build says, at the first mistake of a bad one.
  async begin(atEnd) {
    this.follows.checked = atEnd;
    await this.had(async () => { if (atEnd || !await this.nextError(1)) await this.showEnd(); });
  }

  // What is to be known of the log; said once, however often it comes.
  tell(said) { if (this.note.textContent !== said) this.note.textContent = said; }

  // A log that is not to be had here, as another machine has it, is no fault of the page: why is said in its place.
  async had(work) {
    try {
      await work();
      this.box.hidden = false;
    } catch (error) {
      if (error.status !== 404) throw error;
      this.tell(error.message);
      this.box.hidden = true;
    }
  }

  async showEnd() {
    const got = await this.slice({ before: THE_END });
    this.replace(got, got.from === 0 ? 1 : null);
    this.atEnd = true;
    await this.fill();
    this.box.scrollTop = this.box.scrollHeight;
  }

  // What does not fill its box cannot be scrolled, and only scrolling brings what lies before.
  async fill() {
    for (let tries = 0; tries < 4 && this.pieces[0]?.from > 0 && this.box.scrollHeight < 2 * this.box.clientHeight; tries += 1) await this.earlier();
  }

  replace(got, start) {
    this.box.replaceChildren();
    this.pieces = [];
    this.append(got, start);
  }

  item(text) { return el('li', { class: MISTAKES.test(text) ? 'error' : null, dir: 'ltr' }, text || ' '); }

  // A piece of the log as a list whose numbers are the lines' own, where they are known.
  piece(got, start) {
    const lines = got.text.split('\n');
    if (lines.at(-1) === '') lines.pop();
    this.bytes = Math.round(Math.min(MOST, Math.max(LEAST, (got.text.length / Math.max(1, lines.length)) * LINES)));
    return { node: el('ol', { start, class: start === null ? 'unnumbered' : null }, ...lines.map((line) => this.item(line))),
      from: got.from, to: got.to, start, size: lines.length, open: got.text !== '' && !got.text.endsWith('\n') && !got.more };
  }

  append(got, start) {
    const made = this.piece(got, start);
    if (made.size) {
      this.pieces.push(made);
      this.box.append(made.node);
    }
    this.atEnd = !got.more;
  }

  // What follows what is shown. A line that was not finished is there again, so it goes first.
  async later() {
    const last = this.pieces.at(-1);
    const got = await this.slice({ offset: last?.to ?? 0, whole: true });
    if (this.stopped || this.pieces.at(-1) !== last) return;
    if (last?.open) {
      last.node.lastChild?.remove();
      [last.size, last.open] = [last.size - 1, false];
      if (!last.size) { last.node.remove(); this.pieces.pop(); }
    }
    this.append(got, last ? last.start && last.start + last.size : 1);
    while (this.pieces.length > PIECES) {
      const before = this.box.scrollHeight;
      this.pieces.shift().node.remove();
      if (!this.follows.checked) this.box.scrollTop -= before - this.box.scrollHeight;
    }
    this.merge();
  }

  // Many small pieces, as a log that is followed has them, are one.
  merge() {
    const [one, two] = this.pieces.slice(-2);
    if (!two || one.size + two.size > LINES || one.to !== two.from) return;
    one.node.append(...two.node.childNodes);
    two.node.remove();
    this.pieces.pop();
    Object.assign(one, { to: two.to, size: one.size + two.size, open: two.open });
  }

  async earlier() {
    const first = this.pieces[0];
    if (!first || first.from === 0) return;
    const got = await this.slice({ before: first.from });
    if (this.stopped || this.pieces[0] !== first) return;
    const made = this.piece(got, null);
    if (first.start !== null && first.start > made.size) [made.start] = [first.start - made.size];
    if (got.from === 0) made.start = 1;
    if (made.start !== null) { made.node.start = made.start; made.node.classList.remove('unnumbered'); }
    const before = this.box.scrollHeight - this.box.scrollTop;
    this.box.prepend(made.node);
    this.pieces.unshift(made);
    this.box.scrollTop = this.top = this.box.scrollHeight - before;
    while (this.pieces.length > PIECES) {
      this.pieces.pop().node.remove();
      this.atEnd = false;
    }
  }

  async scrolled() {
    if (this.busy || this.stopped) return;
    this.busy = true;
    try {
      const { scrollTop, scrollHeight, clientHeight } = this.box;
      if (scrollTop < 400) await this.earlier();
      else if (!this.atEnd && scrollTop + clientHeight > scrollHeight - 400) await this.later();
    } finally { this.busy = false; }
  }

  // The log may have grown. Who follows sees its end, however much that is; who reads is left where he is.
  async poll() {
    if (this.stopped || this.busy || !this.follows.checked) return;
    this.busy = true;
    try {
      await this.had(async () => {
        if (this.pieces.length && this.atEnd) await this.later();
        if (!this.pieces.length || !this.atEnd) await this.showEnd();
      });
      this.box.scrollTop = this.box.scrollHeight;
    } finally { this.busy = false; }
  }

  // The element of a line that is shown, if it is.
  shown(line) {
    const piece = this.pieces.find((one) => one.start !== null && line >= one.start && line < one.start + one.size);
    return piece?.node.children[line - piece.start] ?? null;
  }

  async go(line) {
    this.follows.checked = false;
    if (!this.shown(line)) {
      const first = Math.max(1, line - 30);
      this.replace(await this.slice({ line: first }), first);
      while (!this.shown(line) && !this.atEnd) await this.later(); // lines may be long
    }
    await this.fill();
    const node = this.shown(line);
    for (const old of this.box.querySelectorAll('.here')) old.replaceWith(this.item(old.textContent));
    if (!node) return;
    const here = this.mark(node);
    this.line = line;
    this.box.scrollTop = this.top = here.offsetTop - this.box.clientHeight / 3;
  }

  // The line that was gone to; in it what was looked for.
  mark(node) {
    const [text, wanted] = [node.textContent, this.wanted.toLowerCase()];
    const parts = [];
    let at = 0;
    for (let next = wanted ? text.toLowerCase().indexOf(wanted) : -1; next >= 0 && parts.length < 200; next = text.toLowerCase().indexOf(wanted, at)) {
      parts.push(text.slice(at, next), el('mark', null, text.slice(next, next + wanted.length)));
      at = next + wanted.length;
    }
    node.replaceChildren(...parts, text.slice(at));
    node.classList.add('here');
    return node;
  }

  // Where a pattern is in all of the log, asked once as long as nothing was added.
  async search(pattern) {
    const end = this.pieces.at(-1)?.to;
    if (this.found?.pattern !== pattern || (this.atEnd && this.found.end !== end)) {
      const got = await this.slice({ grep: pattern, max_bytes: FOUND });
      const at = [...got.text.matchAll(/^(\d+): /gm)].map((match) => Number(match[1]));
      this.found = { pattern, end, at, matches: got.matches, lines: got.lines };
    }
    return this.found;
  }

  async step(pattern, way, what) {
    this.said.textContent = 'searching…';
    try {
      const { at, matches, lines } = await this.search(pattern);
      if (this.stopped) return false;
      if (!at.length) { this.said.textContent = `no ${what} in ${plural(lines, 'line')}`; return false; }
      const next = way > 0 ? at.findIndex((line) => line > this.line) : at.findLastIndex((line) => line < this.line);
      const index = next >= 0 ? next : way > 0 ? 0 : at.length - 1;
      await this.go(at[index]);
      const listed = at.length < matches ? ` (the first ${count(at.length)} of them can be gone to)` : '';
      this.said.textContent = `${what} ${count(index + 1)} of ${count(matches)}${listed} · line ${count(at[index])} of ${count(lines)}`;
      return true;
    } catch (error) {
      this.said.textContent = error.message;
      return false;
    }
  }

  nextError(way) {
    this.wanted = '';
    return this.step(MISTAKE, way, 'error');
  }

  async find(way) {
    const wanted = this.field.value;
    if (!wanted) { this.field.focus(); return; }
    if (wanted !== this.wanted) this.line = 0;
    this.wanted = wanted;
    await this.step(`(?ai)${quoted(wanted)}`, way, 'match');
  }
}
