// All builds: totals, what runs, what waits, and history by pages.

import { get, live, post, throttled } from './api.js';
import { badge, buildLink, duration, el, keepFocus, news, progress, row, table, when } from './dom.js';

const HEADS = ['Status', 'Build', 'Project', 'Name', 'Target', 'Commit', 'Duration', 'When'];
const STATUSES = ['pending', 'running', 'success', 'failed', 'cancelled'];
const PAGE = 50;
const MOST_OPEN = 20; // of running and of pending ones

const may = (session, scope) => ['read', 'build', 'flash', 'admin'].indexOf(session.scope) >= ['read', 'build', 'flash', 'admin'].indexOf(scope);

function totals(stats, projects, more) {
  const figures = [
    ['Projects', more ? `${projects.length}+` : projects.length],
    ['Active', stats.running + stats.pending],
    ['Builds', stats.total_builds.toLocaleString()],
    ['Success rate', stats.total_builds ? `${Math.round(stats.success_rate)} %` : '–'],
  ];
  return figures.map(([name, value]) => el('div', null, el('dt', null, name), el('dd', null, String(value))));
}

function how(build) {
  const running = build.stages.filter((stage) => stage.status === 'running');
  const step = running.find((stage) => stage.progress?.total)?.progress;
  const planned = new Set(build.graph.map((one) => one.stage));
  const mends = running.some((stage) => !planned.has(stage.stage)); // between two rounds nobody knows how far it is
  const over = new Set(build.stages.filter((stage) => stage.ended_at && stage.round === build.round && planned.has(stage.stage)).map((stage) => stage.stage));
  const bar = mends ? [0, 0] : build.graph.length > 1
    ? [over.size + (step ? step.done / step.total : 0), build.graph.length] : [step?.done ?? 0, step?.total ?? 0];
  const names = running.map((stage) => stage.stage).join(', ');
  const said = [names && `stage ${names}`, step && `${step.done} of ${step.total}`, step?.message,
    build.round > 1 && `round ${build.round}`, build.eta_s >= 1 && !mends && `about ${duration(build.eta_s)} left`];
  return [bar, said.filter(Boolean).join(' · ') || 'starting'];
}

function openCard(build) {
  const head = el('p', { class: 'head' }, badge(build.status), buildLink(build.id), el('strong', null, build.project),
    el('span', null, build.name), el('span', { class: 'soft' }, duration(build.elapsed_s)));
  if (build.status === 'running') {
    const [[done, total], said] = how(build);
    return el('div', { class: 'card' }, head, progress(done, total, `progress of build ${build.id}`), el('p', { class: 'soft' }, said));
  }
  const waits = build.blocked_by.map((lease) => `${lease.resource} is held by build ${lease.build}`);
  return el('div', { class: 'card' }, head, el('p', { class: 'soft' }, waits.length ? `waits: ${waits.join('; ')}` : 'waits for its turn'));
}

function historyRow(build) {
  const commit = build.commit_sha
    ? el('span', { title: build.commit_message ?? '' }, el('code', null, build.commit_sha.slice(0, 8)), build.branch ? ` ${build.branch}` : '') : '–';
  const open = (event) => { if (!event.target.closest('a')) location.hash = `#/build/${build.id}`; };
  return row(HEADS, [badge(build.status), buildLink(build.id), build.project, build.name, build.target ?? '–', commit,
    duration(build.duration), when(build.completed_at ?? build.created_at)], { 'data-href': build.id, onclick: open });
}

function startForm(projects, session) {
  const choice = el('select', { id: 'start-project' }, ...projects.map((one) => el('option', { value: one.id }, one.name)));
  const target = el('input', { id: 'start-target', size: 9, placeholder: 'its own', maxlength: 40 });
  const qemu = el('input', { type: 'checkbox', checked: true });
  const flash = el('input', { type: 'checkbox', disabled: !may(session, 'flash') });
  const said = el('p', { class: 'problem', role: 'alert' });
  const button = el('button', { type: 'submit', class: 'main' }, 'Start build');
  const send = async (event) => {
    event.preventDefault();
    said.textContent = '';
    button.disabled = true;
    try {
      const asked = { trigger: 'manual', qemu: qemu.checked, flash: flash.checked };
      if (target.value.trim()) asked.target = target.value.trim();
      const made = await post(`/api/projects/${encodeURIComponent(choice.value)}/build`, asked);
      news(`build ${made.build_id} is ${made.status}`);
      location.hash = `#/build/${made.build_id}`;
    } catch (error) {
      said.textContent = error.message;
    }
    button.disabled = false;
  };
  return el('details', { class: 'start' }, el('summary', null, 'Start a build'), el('form', { onsubmit: send },
    el('div', { class: 'bar' }, el('label', null, 'Project', choice), el('label', null, 'Target', target),
      el('label', null, qemu, 'in the emulator'), el('label', null, flash, 'flash the board'), button), said));
}

export async function overview(place, session, query) {
  const asked = new URLSearchParams(query ?? '');
  const filter = { status: asked.get('status') ?? '', project: asked.get('project') ?? '' };
  const found = await get('/api/projects?limit=200');
  const parts = { totals: el('dl', { class: 'totals' }), open: el('div', { class: 'cards' }), body: el('tbody', null) };
  const more = el('button', { type: 'button', hidden: true }, 'More');
  const empty = el('p', { class: 'soft' });
  let [rows, next, pages] = [[], null, 1];

  const page = (after) => {
    const wanted = new URLSearchParams({ limit: PAGE });
    for (const [name, value] of Object.entries({ ...filter, after })) if (value) wanted.set(name, value);
    return get(`/api/builds?${wanted}`);
  };
  const draw = () => {
    keepFocus(parts.body, rows.map(historyRow));
    more.hidden = next === null;
    empty.textContent = rows.length ? '' : 'No builds here yet.';
  };
  const history = async () => { // as many pages as were asked for, never more
    let [all, after] = [[], null];
    for (let at = 0; at < pages; at += 1) {
      const got = await page(after);
      all = all.concat(got.builds);
      after = got.next;
      if (after === null) break;
    }
    [rows, next] = [all, after];
    draw();
  };
  const [shown, stale] = [new Map(), new Set()]; // open builds by number; those that something happened to
  let changed = true; // which ones are open
  const open = async () => {
    if (changed) {
      changed = false;
      const lists = await Promise.all(['running', 'pending'].map((status) => get(`/api/builds?status=${status}&limit=${MOST_OPEN}`)));
      const ids = new Set(lists.flatMap((list) => list.builds).map((one) => one.id));
      for (const id of shown.keys()) if (!ids.has(id)) shown.delete(id);
      for (const id of ids) stale.add(id);
    }
    const wanted = [...stale];
    stale.clear();
    const wholes = await Promise.all(wanted.map((id) => get(`/api/builds/${id}`).catch(() => null)));
    for (const one of wholes.filter(Boolean)) {
      if (one.status === 'running' || one.status === 'pending') shown.set(one.id, one);
      else shown.delete(one.id);
    }
    const running = (one) => one.status === 'running';
    const cards = [...shown.values()].sort((a, b) => running(b) - running(a) || b.id - a.id).map(openCard);
    keepFocus(parts.open, cards.length ? cards : [el('p', { class: 'soft' }, 'Nothing runs or waits.')]);
  };
  const figures = async () => parts.totals.replaceChildren(...totals(await get('/api/stats'), found.projects, found.next !== null));

  const go = () => {
    const wanted = new URLSearchParams(Object.entries(filter).filter(([, value]) => value));
    location.hash = [...wanted].length ? `#/?${wanted}` : '#/';
  };
  const choose = (name, values, said) => el('select', { 'aria-label': said, onchange: (event) => { filter[name] = event.target.value; go(); } },
    el('option', { value: '' }, said), ...values.map(([value, text]) => el('option', { value, selected: value === filter[name] }, text)));
  const number = el('input', { 'data-search': true, size: 12, inputmode: 'numeric', placeholder: 'build no.  ( / )', 'aria-label': 'Go to build number' });
  const jump = el('form', { onsubmit: (event) => {
    event.preventDefault();
    const wanted = /^#?(\d+)$/.exec(number.value.trim());
    if (wanted) location.hash = `#/build/${wanted[1]}`;
    else news('a build has a number');
  } }, number);
  more.addEventListener('click', async () => {
    more.disabled = true;
    try {
      const got = await page(next);
      pages += 1;
      rows = rows.concat(got.builds);
      next = got.next;
      parts.body.append(...got.builds.map(historyRow));
      more.hidden = next === null;
    } catch (error) { news(error.message); }
    more.disabled = false;
  });
  const listing = table('Builds, the newest first', HEADS, []);
  listing.querySelector('tbody').replaceWith(parts.body);
  place.append(el('h1', null, 'Builds'), parts.totals,
    may(session, 'build') && found.projects.length ? startForm(found.projects, session) : '',
    el('section', { 'aria-labelledby': 'now' }, el('h2', { id: 'now' }, 'Now'), parts.open),
    el('section', { 'aria-labelledby': 'history' }, el('h2', { id: 'history' }, 'History'),
      el('div', { class: 'bar' }, choose('status', STATUSES.map((one) => [one, one]), 'any status'),
        choose('project', found.projects.map((one) => [one.id, one.name]), 'all projects'), el('span', { class: 'grow' }), jump),
      listing, empty, more));
  await Promise.all([figures(), open(), history()]);
  const soon = throttled(open, 300);
  const later = throttled(() => Promise.all([figures(), history()]), 700);
  const off = live.on((event) => {
    if (event.type === 'build.status') {
      if (event.status === 'failed' || event.status === 'success') news(`build ${event.build}: ${event.status}`);
      changed = true;
      later();
    }
    if (event.type === 'lease.released') for (const one of shown.values()) if (one.status === 'pending') stale.add(one.id);
    if (shown.has(event.build)) stale.add(event.build);
    if (changed || stale.size) soon();
  });
  const ticking = setInterval(() => { // how long it has taken goes on without any event
    for (const one of shown.values()) if (one.status === 'running') stale.add(one.id);
    if (stale.size) soon();
  }, 5000);
  return () => { off(); soon.stop(); later.stop(); clearInterval(ticking); };
}
