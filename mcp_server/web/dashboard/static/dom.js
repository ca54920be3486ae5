// Elements and words. Whatever is shown is set as text: log lines, branch and file names are not ours.

const LONG = 160; // letters of a name; longer ones are cut where sentences are not meant
const SVG = 'http://www.w3.org/2000/svg';

const UNSEEN = /[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;
// What turns writing around or cannot be seen is seen: a name is to look like what it is.
export const plain = (text) => text.replace(UNSEEN, '\ufffd');

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? '' : plain(String(value)));
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false && child !== '') node.append(typeof child === 'string' ? plain(child) : child);
  }
  return node;
}

// The names of tags and attributes are ours; href is only ever given what begins with '#' or '/'.
export const el = (tag, props, ...children) => fill(document.createElement(tag), props, children);
export const svg = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);
export const byId = (id) => document.getElementById(id);
// A sentence of others, of any length.
export const sentence = (text, props) => el('bdi', props, text);
// A word of others: its own direction of writing, and nothing around it is turned.
export const word = (text, props) => (text.length > LONG ? el('bdi', { title: text.slice(0, 1000), ...props }, `${text.slice(0, LONG - 1)}…`) : el('bdi', props, text));

const MARKS = { success: '✓', failed: '✗', running: '▶', pending: '◷', cancelled: '■', skipped: '–', waiting: '◷', active: '✓', error: '✗', warning: '!' };
const LOOKS = { active: 'success', error: 'failed' };

// A status is a sign and a word; its colour only helps.
export function badge(status, text) {
  const known = status in MARKS ? LOOKS[status] ?? status : 'other';
  return el('span', { class: `badge ${known}` }, el('span', { 'aria-hidden': 'true' }, MARKS[status] ?? '?'), ` ${text ?? status}`);
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  if (seconds < 0.995) return seconds < 0.005 ? '0 s' : `${seconds.toFixed(2)} s`;
  if (seconds < 9.95) return `${seconds.toFixed(1).replace('.0', '')} s`;
  if (seconds < 59.5) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  if (hours) return minutes ? `${hours} h ${minutes} min` : `${hours} h`;
  return rest ? `${minutes} min ${rest} s` : `${minutes} min`;
}

export function size(bytes) {
  if (bytes === null || bytes === undefined) return '–';
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let at = 0;
  let value = bytes;
  while (value >= 1000 && at < units.length - 1) [value, at] = [value / 1000, at + 1];
  return `${at && value < 100 ? value.toFixed(1).replace('.0', '') : Math.round(value)} ${units[at]}`;
}

export function when(text) {
  if (!text) return el('span', null, '–');
  const then = new Date(text);
  const ago = (Date.now() - then.getTime()) / 1000;
  let said = then.toLocaleDateString();
  if (ago < -60) said = then.toLocaleString([], { dateStyle: 'short', timeStyle: 'short' });
  else if (ago < 60) said = 'just now';
  else if (ago < 3600) said = `${Math.floor(ago / 60)} min ago`;
  else if (ago < 86400) said = `${Math.floor(ago / 3600)} h ago`;
  else if (ago < 7 * 86400) said = `${Math.floor(ago / 86400)} d ago`;
  return el('time', { datetime: text, title: then.toLocaleString() }, said);
}

export const clock = (text) => new Date(text).toLocaleTimeString([], { hour12: false });
export const count = (number) => number.toLocaleString();
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

const NUMBERS = new Set(['Build', 'Duration', 'Size', 'Times', 'Median', 'Runs', 'Jobs', 'Failed', 'Value', 'Position', 'Seconds', 'Last took', 'Lines', 'Functions', 'Branches', 'Ran', 'Round', 'Builds']);
const kind = (name) => (NUMBERS.has(name) ? 'number' : null);

export function table(caption, heads, rows, props) {
  const head = el('tr', null, ...heads.map((name) => el('th', { scope: 'col', class: kind(name) }, name)));
  return el('table', props, el('caption', null, caption), el('thead', null, head), el('tbody', null, ...rows));
}

// Cells carry their column's name: on a phone rows become cards, without what is empty.
export const row = (heads, cells, props) =>
  el('tr', props, ...cells.map((cell, at) => el('td', { 'data-name': heads[at] || null, class: [cell === '' || cell === '–' ? 'none' : '', kind(heads[at]) ?? ''].join(' ').trim() || null }, cell)));

// Puts others in the place of what is there; where the focus was inside, it is on what stands in the same place then.
export function keepFocus(node, children) {
  const places = () => [...node.querySelectorAll('a, button, input, select, summary, [tabindex]')];
  const at = places().indexOf(document.activeElement);
  node.replaceChildren(...children.flat().filter((child) => child !== '' && child !== null));
  if (at >= 0) places()[at]?.focus({ preventScroll: true });
}

const drawn = new WeakMap();
// One child an item, in their order. Only what says something else than before is made anew: the others keep their
// node, and with it focus, selection and place.
export function keyed(parent, items, keyOf, make) {
  const known = drawn.get(parent) ?? new Map();
  const now = new Map();
  for (const item of items) {
    const [key, said] = [keyOf(item), JSON.stringify(item)];
    let entry = known.get(key);
    if (!entry || entry.said !== said) {
      const node = make(item);
      if (entry?.node.parentNode === parent) {
        const places = (one) => [...one.querySelectorAll('a, button, input, summary, [tabindex]')];
        const at = places(entry.node).indexOf(document.activeElement);
        entry.node.replaceWith(node);
        if (at >= 0) places(node)[at]?.focus({ preventScroll: true });
      }
      entry = { node, said };
    }
    now.set(key, entry);
  }
  for (const [key, entry] of known) if (!now.has(key)) entry.node.remove();
  let at = parent.firstChild;
  for (const { node } of now.values()) {
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
  drawn.set(parent, now);
}

export function progress(value, total, name) {
  return el('progress', { max: total || 100, value: total ? value : null, 'aria-label': name });
}

// How much of a whole, beside the words that say it.
export function level(part) {
  const node = el('span', { class: 'level', 'aria-hidden': 'true' });
  node.style.setProperty('--part', String(Math.max(0, Math.min(1, part || 0))));
  return node;
}

const MOST_NEWS = 3;
let [newsTimer, told, collecting] = [0, [], 0];
// What comes in one second is said at once, and no more than a few of it: a screen reader is to keep up.
export function news(text) {
  told.push(text);
  if (collecting) return;
  collecting = setTimeout(() => {
    const more = told.length - MOST_NEWS;
    byId('news').textContent = [...told.slice(0, MOST_NEWS), ...(more > 0 ? [`and ${more} more`] : [])].join(' · ');
    [told, collecting] = [[], 0];
    clearTimeout(newsTimer);
    newsTimer = setTimeout(() => { byId('news').textContent = ''; }, 6000);
  }, told.length === 1 && !byId('news').textContent ? 30 : 1000);
}

let dialogs = 0;
// A dialog over the page; it gives the focus back to where it was.
export function dialog(title, children, props) {
  const name = `dialog-${dialogs += 1}`;
  const node = el('dialog', { 'aria-labelledby': name, ...props }, el('h2', { id: name }, title), ...children);
  node.addEventListener('close', () => node.remove());
  document.body.append(node);
  node.showModal();
  return node;
}

// Asks before something that cannot be taken back; `more` stands between the question and the buttons.
export function confirmed(question, text, button, more = []) {
  return new Promise((done) => {
    let yes = false;
    const node = dialog(question, [el('p', null, text), ...more, el('div', { class: 'bar end' },
      el('button', { type: 'button', autofocus: true, onclick: () => node.close() }, 'No, leave it'),
      el('button', { type: 'button', class: 'end', onclick: () => { yes = true; node.close(); } }, button))]);
    node.addEventListener('close', () => done(yes));
  });
}

export const buildLink = (id) => el('a', { href: `#/build/${id}` }, `#${id}`);

// Projects may have the same name: then their folders tell them apart.
export function projectName(one, all) {
  const alike = all.filter((other) => other.name === one.name).length > 1;
  return alike ? `${one.name} (${one.path.split('/').slice(-2).join('/')})` : one.name;
}

const SCOPES = ['read', 'build', 'flash', 'admin'];
export const may = (session, scope) => SCOPES.indexOf(session.scope) >= SCOPES.indexOf(scope);

const RESOURCES = { host: 'a slot of', group: 'the group', port: 'the board at', monitor: 'a monitor at', dir: 'the folder' };
// `port:local:ttyUSB0` as people say it.
export function resource(name) {
  const [kindOf, ...rest] = name.split(':');
  if (!(kindOf in RESOURCES)) return name;
  const shown = rest.length > 1 && kindOf !== 'group' ? `${rest.slice(1).join(':')}${rest[0] === 'local' ? '' : ` on ${rest[0]}`}` : rest.join(':');
  return `${RESOURCES[kindOf]} ${shown}`;
}

// Of those that are over: what waits or runs has not failed.
export function successRate(stats) {
  const over = stats.total_builds - stats.pending - stats.running;
  return over ? `${Math.round((100 * stats.successful) / over)} %` : '–';
}
