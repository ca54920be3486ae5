// Projects: what is known here, where it comes from, and what can be done with it.

import { del, get, live, post, throttled } from './api.js';
import { badge, confirmed, dialog, el, keyed, may, news, when, sentence, word } from './dom.js';
import { startForm } from './start.js';

const isUrl = (source) => source !== null && /^(?:https?|ssh|git):|^[^/]+@/.test(source);

async function act(event, work) {
  const button = event.target;
  button.disabled = true;
  try { await work(); } catch (error) { news(error.message); }
  button.disabled = false;
}

// What is gone then; null where its clone holds what is nowhere else, and that is to be kept.
async function removed(project, wipe) {
  const path = `/api/projects/${encodeURIComponent(project.id)}`;
  try {
    return (await del(path, { delete: wipe })).removed;
  } catch (error) {
    if (error.type !== 'urn:build-orchestrator:unpushed') throw error;
    const why = [el('p', { class: 'problem' }, sentence(error.message))];
    if (!await confirmed(`Delete the clone of ${project.name} all the same?`, 'This would be lost for good:', 'Delete all the same', why)) return null;
    return (await del(path, { delete: true, unpushed: true })).removed;
  }
}

function remove(project, done) {
  return async (event) => {
    const clone = isUrl(project.source);
    const wipe = el('input', { type: 'checkbox', id: 'wipe' });
    const more = clone ? [el('p', null, el('label', { for: 'wipe' }, wipe, 'delete the clone, too: ', word(project.path, { class: 'path' })))] : [];
    const text = `The project is forgotten. The records and logs of its builds stay; ${clone ? 'so does its clone, unless you choose otherwise' : `its folder ${project.path} is left as it is`}.`;
    if (!await confirmed(`Remove ${project.name}?`, text, 'Remove', more)) return;
    await act(event, async () => {
      const said = await removed(project, wipe.checked);
      if (said === null) return;
      news(said);
      await done();
    });
  };
}

function sync(project, build) {
  return (event) => act(event, async () => {
    const made = await post(`/api/projects/${encodeURIComponent(project.id)}/sync`, { build });
    news(`build ${made.build_id} brings ${project.name} up to date`);
  });
}

function card(project, session, done) {
  const clone = isUrl(project.source);
  const id = encodeURIComponent(project.id);
  const facts = [project.target && ['target ', word(project.target)], project.branch && ['branch ', word(project.branch)],
    clone && ['synced ', when(project.synced_at)], ['known since ', when(project.created_at)]].filter(Boolean);
  return el('li', { class: 'card project' },
    el('h2', { class: 'head' }, word(project.name), badge(project.status)),
    el('p', { class: 'path' }, word(clone ? project.source : project.path)),
    clone ? el('p', { class: 'path soft' }, word(project.path)) : '',
    el('p', { class: 'facts' }, ...facts.map((one) => el('span', null, one))),
    project.reason ? el('p', { class: 'problem' }, project.status === 'error' ? '' : 'the last sync failed: ', sentence(project.reason)) : '',
    el('div', { class: 'bar' },
      el('a', { class: 'button', href: `#/?project=${id}`, 'aria-label': `Builds of ${project.name}` }, 'Builds'), el('a', { class: 'button', href: `#/stats/${id}`, 'aria-label': `Stats of ${project.name}` }, 'Stats'),
      may(session, 'admin') && clone && project.status === 'active' ? [el('button', { type: 'button', 'aria-label': `Sync ${project.name}`, onclick: sync(project, false) }, 'Sync'),
        el('button', { type: 'button', 'aria-label': `Sync and build ${project.name}`, onclick: sync(project, true) }, 'Sync and build')] : '',
      may(session, 'admin') ? el('button', { type: 'button', class: 'end', 'aria-label': `Remove ${project.name}`, onclick: remove(project, done) }, 'Remove…') : ''));
}

function importDialog() {
  const source = el('input', { id: 'import-source', required: true, maxlength: 4096, placeholder: 'git@host:path, an https URL, or a folder there' });
  const name = el('input', { id: 'import-name', maxlength: 100, placeholder: 'that of the repository' });
  const branch = el('input', { id: 'import-branch', maxlength: 200, placeholder: 'the default one' });
  const target = el('input', { id: 'import-target', maxlength: 40, placeholder: 'e.g. esp32c3' });
  const said = el('p', { class: 'problem', role: 'alert' });
  const button = el('button', { type: 'submit', class: 'main' }, 'Import');
  const send = async (event) => {
    event.preventDefault();
    button.disabled = true;
    said.textContent = '';
    const asked = { source: source.value.trim() };
    for (const [key, field] of Object.entries({ name, branch, target })) if (field.value.trim()) asked[key] = field.value.trim();
    try {
      const made = await post('/api/projects', asked);
      news(`${made.project.name} is ${made.project.status}`);
      node.close();
      if (made.build_id) location.hash = `#/build/${made.build_id}`;
    } catch (error) { said.textContent = error.message; }
    button.disabled = false;
  };
  const labelled = (field, text) => [el('label', { for: field.id }, text), field];
  const node = dialog('Import a project', [el('form', { class: 'fields', onsubmit: send },
    ...labelled(source, 'Git URL or folder'), ...labelled(name, 'Name'), ...labelled(branch, 'Branch'), ...labelled(target, 'Target'), said,
    el('div', { class: 'bar end' }, el('button', { type: 'button', onclick: () => node.close() }, 'Not now'), button))]);
}

export async function projectsView(place, session) {
  const list = el('ul', { class: 'cards grid' });
  const empty = el('p', { class: 'soft empty' });
  const more = el('button', { type: 'button', hidden: true }, 'More');
  let [known, next] = [[], null];
  const draw = () => {
    keyed(list, known, (one) => one.id, (one) => card(one, session, refresh));
    empty.textContent = known.length ? '' : 'No project is known yet: a build makes its folder one, or import one.';
    more.hidden = next === null;
  };
  const refresh = async () => {
    const got = await get('/api/projects?limit=200');
    [known, next] = [got.projects, got.next];
    draw();
  };
  more.addEventListener('click', async () => {
    const got = await get(`/api/projects?limit=200&after=${encodeURIComponent(next)}`);
    [known, next] = [known.concat(got.projects), got.next];
    draw();
  });
  await refresh();
  place.append(el('div', { class: 'head' }, el('h1', null, 'Projects'), may(session, 'admin') ? el('button', { type: 'button', class: 'main right', onclick: importDialog }, 'Import…') : ''),
    may(session, 'build') && known.length ? startForm(known, session) : '', list, empty, more);
  const soon = throttled(refresh, 700);
  const off = live.on((event) => { if (event.type === 'build.status' || event.type === 'live.again') soon(); });
  return () => { off(); soon.stop(); };
}
