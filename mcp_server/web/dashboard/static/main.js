// Which view is shown: the address's hash says it, so that every view has a link.

import { ask, get, live } from './api.js';
import { buildView } from './build.js';
import { byId, el, news } from './dom.js';
import { hostsView } from './hosts.js';
import { overview } from './overview.js';
import { statsView } from './stats.js';

const VIEWS = [
  [/^#\/build\/(\d+)(?:\/log\/(.+))?$/, 'overview', buildView],
  [/^#\/hosts$/, 'hosts', hostsView],
  [/^#\/stats(?:\/(.+))?$/, 'stats', statsView],
  [/^(?:#\/?(?:\?(.*))?)?$/, 'overview', overview],
];

let end = null;
let shown = 0;
export const session = { name: '', scope: 'read', login: false };

async function show() {
  const turn = ++shown;
  end?.();
  end = null;
  const main = byId('main');
  const found = VIEWS.map(([pattern, name, view]) => [pattern.exec(location.hash), name, view]).find(([match]) => match);
  for (const link of document.querySelectorAll('nav a')) {
    if (found && link.dataset.view === found[1]) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  if (!found) {
    main.replaceChildren(el('h1', null, 'There is no such view'), el('a', { href: '#/' }, 'All builds'));
    return;
  }
  const place = el('div', null);
  try {
    const over = await found[2](place, session, ...found[0].slice(1));
    if (turn !== shown) { over?.(); return; }
    end = over;
    main.replaceChildren(place);
  } catch (error) {
    if (turn !== shown || error.status === 401) return;
    main.replaceChildren(el('h1', null, 'This cannot be shown'), el('p', { class: 'problem' }, error.message));
  }
  document.title = `${main.querySelector('h1')?.textContent ?? ''} · build-orchestrator`;
}

function loginForm() {
  shown += 1;
  end?.();
  end = null;
  live.stop();
  const said = el('p', { class: 'problem', role: 'alert' });
  const field = el('input', { type: 'password', id: 'token', autocomplete: 'current-password', required: true });
  const send = async (event) => {
    event.preventDefault();
    said.textContent = '';
    try {
      await ask('POST', '/api/login', { token: field.value.trim() });
      await begin();
    } catch (error) {
      said.textContent = error.message;
      field.select();
    }
  };
  byId('main').replaceChildren(el('form', { class: 'login', onsubmit: send },
    el('h1', null, 'Log in'),
    el('p', null, 'This service asks for a token. ', el('code', null, 'build-orchestrator tokens create NAME'), ' makes one.'),
    el('label', { for: 'token' }, 'Token'), field, said, el('button', { type: 'submit', class: 'main' }, 'Log in')));
  byId('logout').hidden = true;
  field.focus();
}

async function begin() {
  try {
    Object.assign(session, await get('/api/session'));
  } catch (error) {
    if (error.status !== 401) byId('main').replaceChildren(el('h1', null, 'No answer'), el('p', { class: 'problem' }, error.message));
    return;
  }
  byId('logout').hidden = !session.login;
  live.start((there) => { byId('link').textContent = there ? '● live' : '○ not connected'; });
  await show();
}

function keys(event) {
  const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
  if (event.key === 'Escape' && typing) event.target.blur();
  else if (event.key === '/' && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const field = document.querySelector('[data-search]');
    if (field) { event.preventDefault(); field.focus(); field.select(); }
  }
}

addEventListener('hashchange', () => {
  if (location.hash === '#main') return;
  show().then(() => { byId('main').focus({ preventScroll: true }); scrollTo(0, 0); });
});
document.addEventListener('keydown', keys);
document.addEventListener('login-needed', loginForm);
byId('skip').addEventListener('click', (event) => { event.preventDefault(); byId('main').focus(); });
byId('logout').addEventListener('click', async () => {
  try { await ask('POST', '/api/logout'); } catch (error) { news(error.message); return; }
  loginForm();
});
begin();
