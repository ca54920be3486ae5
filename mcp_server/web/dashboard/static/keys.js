// The few keys beside Tab and Enter. They can be switched off, as some speak their letters to a machine.

import { dialog, el } from './dom.js';

const KEYS = [
  ['/', 'to the search field'],
  ['Enter, Shift+Enter', 'in it: the next match, the one before'],
  ['n, p', 'the next match in the log, the one before'],
  ['e, Shift+e', 'the next error in the log, the one before'],
  ['f', 'follow the log, or stop following'],
  ['Esc', 'leave a field or a dialog'],
  ['?', 'this list'],
];
const STORED = 'build-orchestrator.keys';
const isOn = () => localStorage.getItem(STORED) !== 'off';

export function help() {
  if (document.querySelector('dialog.help')) return;
  const on = el('input', { type: 'checkbox', id: 'keys-on', checked: isOn(), onchange: () => localStorage.setItem(STORED, on.checked ? 'on' : 'off') });
  const node = dialog('Keys', [
    el('p', { class: 'soft' }, 'All of the page works with Tab, Enter and the space bar. These are faster:'),
    el('dl', { class: 'keys' }, ...KEYS.flatMap(([keys, does]) => [el('dt', null, ...keys.split(', ').flatMap((key, at) => [at ? ' ' : '', el('kbd', null, key)])), el('dd', null, does)])),
    el('p', null, el('label', { for: 'keys-on' }, on, 'single letters do something')),
    el('div', { class: 'bar end' }, el('button', { type: 'button', autofocus: true, onclick: () => node.close() }, 'Close'))], { class: 'help' });
}

const typing = (node) => node instanceof HTMLTextAreaElement || node instanceof HTMLSelectElement || (node instanceof HTMLInputElement && node.type !== 'checkbox');

export function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === 'Escape' && typing(event.target)) { event.target.blur(); return; }
  if (typing(event.target) || !isOn() || document.querySelector('dialog')) return;
  if (event.key === '?') { event.preventDefault(); help(); return; }
  if (event.key === '/') {
    const field = document.querySelector('[data-search]');
    if (field) { event.preventDefault(); field.focus(); field.select(); }
    return;
  }
  const button = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (button) { event.preventDefault(); button.click(); }
}
