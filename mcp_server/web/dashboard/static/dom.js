// Elements and words. Whatever is shown is set as text: log lines, branch and file names are not ours.

const SVG = 'http://www.w3.org/2000/svg';

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? '' : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

// The names of tags and attributes are ours; href is only ever given what begins with '#' or '/'.
export const el = (tag, props, ...children) => fill(document.createElement(tag), props, children);
export const svg = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);
export const byId = (id) => document.getElementById(id);

const MARKS = { success: '✓', failed: '✗', running: '▶', pending: '…', cancelled: '■', skipped: '–', waiting: '…' };

// A status is a sign and a word; its colour only helps.
export function badge(status) {
  const known = status in MARKS ? status : 'other';
  return el('span', { class: `badge ${known}` }, el('span', { 'aria-hidden': 'true' }, MARKS[status] ?? '?'), ` ${status}`);
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${rest} s`;
}

export function size(bytes) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let at = 0;
  let value = bytes;
  while (value >= 1000 && at < units.length - 1) [value, at] = [value / 1000, at + 1];
  return `${at && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[at]}`;
}

export function when(text) {
  if (!text) return el('span', null, '–');
  const then = new Date(text);
  const ago = (Date.now() - then.getTime()) / 1000;
  let said = then.toLocaleDateString();
  if (ago < 60) said = 'just now';
  else if (ago < 3600) said = `${Math.floor(ago / 60)} min ago`;
  else if (ago < 86400) said = `${Math.floor(ago / 3600)} h ago`;
  else if (ago < 7 * 86400) said = `${Math.floor(ago / 86400)} d ago`;
  return el('time', { datetime: text, title: then.toLocaleString() }, said);
}

export const clock = (text) => new Date(text).toLocaleTimeString();

export function table(caption, heads, rows, props) {
  const head = el('tr', null, ...heads.map((name) => el('th', { scope: 'col' }, name)));
  return el('table', props, el('caption', null, caption), el('thead', null, head), el('tbody', null, ...rows));
}

// Puts others in the place of what is there; where the focus was inside, it is on what stands in the same place then.
export function keepFocus(node, children) {
  const places = () => [...node.querySelectorAll('a, button, input, select, summary, [tabindex]')];
  const at = places().indexOf(document.activeElement);
  node.replaceChildren(...children);
  if (at >= 0) places()[at]?.focus({ preventScroll: true });
}

// Cells carry their column's name: on a phone rows become cards, without what is empty.
export const row = (heads, cells, props) =>
  el('tr', props, ...cells.map((cell, at) => el('td', { 'data-name': heads[at], class: cell === '' || cell === '–' ? 'none' : null }, cell)));

export function progress(value, total, name) {
  return el('progress', { max: total || 100, value: total ? value : null, 'aria-label': name });
}

let newsTimer = 0;
export function news(text) {
  byId('news').textContent = text;
  clearTimeout(newsTimer);
  newsTimer = setTimeout(() => { byId('news').textContent = ''; }, 6000);
}

export const buildLink = (id) => el('a', { href: `#/build/${id}` }, `#${id}`);
