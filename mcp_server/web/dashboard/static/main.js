// Which view is shown: the address's hash says it, so that every view has a link.

import { ask, get, live, passes } from './api.js';
import { buildView } from './build.js';
import { byId, el, news } from './dom.js';
import { hostsView } from './hosts.js';
import { help, keys } from './keys.js';
import { overview } from './overview.js';
import { projectsView } from './projects.js';
import { queueView } from './queue.js';
import { statsView } from './stats.js';

const VIEWS = [
  [/^#\/build\/(\d+)(?:\/log\/(.+))?$/, 'overview', buildView],
  [/^#\/queue$/, 'queue', queueView],
  [/^#\/projects$/, 'projects', projectsView],
  [/^#\/hosts$/, 'hosts', hostsView],
  [/^#\/stats(?:\/(.+))?$/, 'stats', statsView],
  [/^(?:#\/?(?:\?(.*))?)?$/, 'overview', overview],
];

let end = null;
let shown = 0;
let [again, pause] = [0, 0]; // of a view that could not be shown
const session = { name: '', scope: 'read', login: false };

async function show() {
  const turn = ++shown;
  clearTimeout(again);
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
  main.setAttribute('aria-busy', 'true');
  try {
    const before = live.last;
    const over = await found[2](place, session, ...found[0].slice(1));
    if (turn !== shown) { over?.(); return; }
    end = over;
    pause = 0;
    main.replaceChildren(place);
    // What happened while a view was asked for came before it listened, and nothing else may come for long.
    if (live.last !== before) live.tell({ type: 'live.again', build: null });
  } catch (error) {
    if (turn !== shown || error.status === 401) return;
    main.replaceChildren(el('h1', null, 'This cannot be shown'), el('p', { class: 'problem' }, error.message));
    if (passes(error)) {
      pause = Math.min(pause ? pause * 2 : 1000, 30000);
      again = setTimeout(show, pause);
      main.append(el('p', { class: 'soft' }, 'It is asked for again by itself.'));
    }
  }
  main.removeAttribute('aria-busy');
  document.title = `${main.querySelector('h1')?.textContent ?? ''} · build-orchestrator`;
}

function loginForm() {
  shown += 1;
  clearTimeout(again);
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
  live.start(session.last_event, connected);
  await show();
}

// The banner is said once, and stays as long as what is shown may be old.
function connected(there) {
  byId('link').textContent = there ? '● live' : '○ offline';
  byId('offline').textContent = there ? '' : 'Not connected to the service. What is shown may be old; it goes on by itself once the service answers.';
}

addEventListener('hashchange', () => {
  if (location.hash === '#main') return;
  show().then(() => { byId('main').focus({ preventScroll: true }); scrollTo(0, 0); });
});
document.addEventListener('keydown', keys);
document.addEventListener('login-needed', loginForm);
document.addEventListener('behind', ({ detail: why }) => { byId('behind').textContent = why ? `What is shown may be old: ${why}. It is asked for again by itself.` : ''; });
byId('help').addEventListener('click', help);
byId('skip').addEventListener('click', (event) => { event.preventDefault(); byId('main').focus(); });
byId('logout').addEventListener('click', async () => {
  try { await ask('POST', '/api/logout'); } catch (error) { news(error.message); return; }
  loginForm();
});
begin();
