// A stage's log: a window of its lines, wherever the log is long; it follows, is searched, and goes to the next error.

import { ask, throttled } from './api.js';
import { el, news } from './dom.js';

const PIECE = 60_000; // bytes that are asked for at once
const MOST_LINES = 2000; // in the page
const MISTAKE = /(?:^|[\s:])(?:fatal )?error(?::|\[)|^FAILED:|undefined reference|Guru Meditation|panic'ed|^\s*AssertionError|Traceback \(most recent/i;

export class LogView {
  constructor(build, stage) {
    this.base = `/api/builds/${build}/log/${encodeURIComponent(stage)}`;
    [this.from, this.to, this.whole, this.at] = [0, 0, true, -1];
    [this.starts, this.ended] = [[], false]; // the first lines of pieces, with their bytes
    this.list = el('ol', null);
    this.box = el('div', { class: 'log', tabindex: 0, role: 'region', 'aria-label': `Log of stage ${stage}` }, this.list);
    this.earlier = el('button', { type: 'button', hidden: true, onclick: () => this.loadEarlier() }, 'Load earlier lines');
    this.follows = el('input', { type: 'checkbox', checked: true });
    this.field = el('input', { 'data-search': true, size: 18, placeholder: 'search  ( / )', 'aria-label': 'Search in the lines shown' });
    this.said = el('span', { class: 'soft', role: 'status' });
    const bar = el('form', { class: 'bar', onsubmit: (event) => { event.preventDefault(); this.find(); } },
      this.earlier, el('button', { type: 'button', onclick: () => this.nextError() }, 'Next error'), this.field,
      el('button', { type: 'submit' }, 'Find'), el('label', null, this.follows, 'follow'), this.said);
    this.node = el('div', null, bar, this.box);
    this.more = throttled(() => this.read(), 250);
    // Scrolling up ends following, so that what is read stays where it is.
    this.box.addEventListener('wheel', (event) => { if (event.deltaY < 0) this.follows.checked = false; }, { passive: true });
    this.box.addEventListener('keydown', (event) => {
      if (['ArrowUp', 'PageUp', 'Home'].includes(event.key)) this.follows.checked = false;
    });
  }

  stop() { this.more.stop(); }

  async slice(offset, bytes) {
    const answer = await ask('GET', `${this.base}?offset=${offset}&max_bytes=${bytes}`);
    const next = answer.headers.get('X-Next-Offset');
    return { text: await answer.text(), end: Number(answer.headers.get('X-End-Offset') ?? offset), more: next !== null };
  }

  // Where the last piece begins: no question is for more than one byte.
  async lastPiece() {
    const beyond = async (offset) => !(await this.slice(offset, 1)).more;
    let [low, high] = [0, PIECE];
    while (!(await beyond(high)) && high < 2 ** 34) [low, high] = [high, high * 4];
    while (high - low > PIECE / 2) {
      const middle = Math.floor((low + high) / 2);
      if (await beyond(middle)) high = middle; else low = middle;
    }
    return Math.max(0, high - PIECE);
  }

  // At the end of what a good or an open build says, at the first mistake of a bad one.
  async begin(atEnd) {
    this.from = this.to = await this.lastPiece();
    this.follows.checked = atEnd;
    await this.read();
    if (!atEnd) { this.nextError(); this.box.scrollTop ||= this.at < 0 ? this.box.scrollHeight : 0; }
  }

  async read() {
    while (!this.ended) {
      const got = await this.slice(this.to, PIECE);
      this.add(got.text, this.to);
      this.to = got.end;
      if (!got.more) break;
    }
    if (this.from > 0 && this.list.firstChild) this.earlier.hidden = false;
    if (this.follows.checked) this.box.scrollTop = this.box.scrollHeight;
  }

  item(text) { return el('li', { class: MISTAKE.test(text) ? 'error' : null }, text || ' '); }

  // A piece that began at this byte; its first line may go on where the one before ended.
  add(text, offset) {
    if (!text) return;
    const lines = text.split('\n');
    const unfinished = this.list.lastChild;
    if (!this.whole && unfinished) {
      lines[0] = unfinished.textContent + lines[0];
      if (this.starts.at(-1)?.node === unfinished) this.starts.pop();
      unfinished.remove();
    }
    this.whole = lines.at(-1) === '';
    if (this.whole) lines.pop();
    const items = lines.map((line) => this.item(line));
    if (items.length) this.starts.push({ node: items[0], offset });
    this.list.append(...items);
    // Whole pieces go, as only of their beginnings the byte is known: a line has lost its colours.
    while (this.list.childElementCount > MOST_LINES && this.starts.length > 1) {
      this.starts.shift();
      while (this.list.firstChild !== this.starts[0].node) this.list.firstChild.remove();
      this.from = this.starts[0].offset;
    }
  }

  async loadEarlier() {
    this.follows.checked = false;
    const [start, before] = [Math.max(0, this.from - PIECE), this.box.scrollHeight];
    try {
      const got = await this.slice(start, this.from - start);
      const lines = got.text.split('\n');
      const rest = lines.pop(); // the beginning of the first line that is shown, unless that has it already
      const first = this.list.firstChild;
      if (rest && first && !first.textContent.startsWith(rest)) first.textContent = rest + first.textContent;
      const items = lines.map((line) => this.item(line));
      this.list.prepend(...items);
      if (items.length) this.starts.unshift({ node: items[0], offset: start });
      this.from = start;
      this.earlier.hidden = start === 0;
      while (this.list.childElementCount > MOST_LINES * 3) { // what was asked for last stays
        this.list.lastChild.remove();
        this.ended = true;
        this.said.textContent = 'the end is not shown: open the log again for it';
      }
      this.box.scrollTop = this.box.scrollHeight - before;
    } catch (error) { news(error.message); }
  }

  go(matches, what) {
    const lines = [...this.list.children];
    if (!lines.length) return;
    for (let step = 1; step <= lines.length; step += 1) {
      const at = (this.at + step + lines.length) % lines.length;
      if (!matches(lines[at].textContent)) continue;
      this.list.querySelector('.here')?.classList.remove('here');
      lines[at].classList.add('here');
      [this.at, this.follows.checked] = [at, false];
      this.box.scrollTop = lines[at].offsetTop - this.box.offsetTop - this.box.clientHeight / 3;
      this.said.textContent = `line ${at + 1} of ${lines.length} shown`;
      return;
    }
    this.said.textContent = `no ${what} in the lines shown${this.from > 0 ? '; there are earlier ones' : ''}`;
  }

  nextError() { this.go((text) => MISTAKE.test(text), 'error'); }

  find() {
    const wanted = this.field.value.toLowerCase();
    if (wanted) this.go((text) => text.toLowerCase().includes(wanted), `“${wanted}”`);
  }
}
