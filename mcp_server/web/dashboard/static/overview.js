// All builds: totals, what runs, what waits, and history by pages.

import { get, live, passes, throttled } from './api.js';
import { badge, buildLink, count, duration, el, keyed, may, news, progress, projectName, row, successRate, table, when, word } from './dom.js';
import { startForm } from './start.js';
import { waits } from './waits.js';

const HEADS = ['Status', 'Build', 'Project', 'Name', 'Commit', 'Target', 'Duration', 'When'];
const STATUSES = ['pending', 'running', 'success', 'failed', 'cancelled'];
const PAGE = 50;
const MOST_OPEN = 20; // of running and of pending ones
const BY_ITSELF = 500; // rows that come by scrolling; then by the button
const MOST_AGAIN = 20; // rows beyond the first page that are asked for one by one

function totals(stats, projects, more) {
  const figures = [
    ['Projects', more ? `${projects.length}+` : projects.length, '#/projects'],
    ['Active', count(stats.running + stats.pending), '#/queue'],
    ['Builds', count(stats.total_builds), null],
    ['Success rate', successRate(stats), '#/stats'],
  ];
  return figures.map(([name, value, href]) => el('div', null, el('dt', null, href ? el('a', { href }, name) : name), el('dd', null, String(value))));
}

function how(build) {
  const running = build.stages.filter((stage) => stage.status === 'running');
  const step = running.find((stage) => stage.progress?.total)?.progress;
  const planned = new Set(build.graph.map((one) => one.stage));
  const mends = running.some((stage) => !planned.has(stage.stage)); // between two rounds nobody knows how far it is
  const over = new Set(build.stages.filter((stage) => stage.ended_at && stage.round === build.round && planned.has(stage.stage)).map((stage) => stage.stage));
  const bar = mends ? [0, 0] : build.graph.length > 1
    ? [over.size + (step ? step.done / step.total : 0), build.graph.length] : [step?.done ?? 0, step?.total ?? 0];
  const names = running.map((stage) => stage.stage).slice(0, 4).join(', ');
  const said = [names && `stage ${names}`, step && `${count(step.done)} of ${count(step.total)}`, step?.message,
    build.round > 1 && `round ${build.round}`, build.eta_s >= 1 && !mends && `about ${duration(build.eta_s)} left`];
  return [bar, said.filter(Boolean).join(' · ')];
}

function openCard(build) {
  const head = el('p', { class: 'head' }, badge(build.status), buildLink(build.id), el('strong', null, word(build.project)),
    word(build.name), el('span', { class: 'soft right' }, duration(build.elapsed_s)));
  if (build.status === 'pending') return el('li', { class: 'card' }, head, ...waits(build));
  const [[done, total], said] = how(build);
  return el('li', { class: 'card' }, head, progress(done, total, `progress of build ${build.id}`), said ? el('p', { class: 'soft' }, word(said)) : '',
    ...(build.stages.some((stage) => stage.status === 'running') && !build.idle ? [] : waits(build)), ...(said || build.idle || build.blocked_by.length ? [] : [el('p', { class: 'soft' }, 'starting')]));
}

function commit(build) {
  if (!build.commit_sha) return '–';
  const message = build.commit_message?.split('\n')[0] ?? '';
  return el('div', { class: 'commit' }, el('code', null, build.commit_sha.slice(0, 7)), build.branch ? word(build.branch, { class: 'branch' }) : '',
    message ? word(message, { class: 'soft message', title: message }) : '');
}

function historyRow(build) {
  const open = (event) => { if (!event.target.closest('a') && !getSelection().toString()) location.hash = `#/build/${build.id}`; };
  return row(HEADS, [badge(build.status), buildLink(build.id), word(build.project), word(build.name), commit(build), build.target ? word(build.target) : '–',
    duration(build.duration), when(build.completed_at ?? build.created_at)], { 'data-href': build.id, onclick: open });
}

// The pages of history that were asked for; what changes in them is changed where it stands.
class History {
  constructor(filter) {
    this.filter = filter;
    [this.rows, this.next, this.loading] = [[], null, false];
    this.body = el('tbody', null);
    this.empty = el('p', { class: 'soft empty' });
    this.button = el('button', { type: 'button', hidden: true, onclick: () => this.more() }, 'More');
    this.seen = new IntersectionObserver(([entry]) => { if (entry.isIntersecting && this.rows.length < BY_ITSELF) this.more(); }, { rootMargin: '800px' });
    this.seen.observe(this.button);
    this.table = table('Builds, the newest first', HEADS, [], { class: 'history' });
    this.table.querySelector('tbody').replaceWith(this.body);
  }

  page(after) {
    const wanted = new URLSearchParams({ limit: PAGE });
    for (const [name, value] of Object.entries({ ...this.filter, after })) if (value) wanted.set(name, value);
    return get(`/api/builds?${wanted}`);
  }

  draw() {
    keyed(this.body, this.rows, (one) => one.id, historyRow);
    this.button.hidden = this.next === null;
    this.empty.textContent = this.rows.length ? '' : Object.values(this.filter).some(Boolean) ? 'No build is like that.' : 'No builds yet: start one above, or with build-orchestrator run.';
  }

  async more() {
    if (this.loading || this.next === null) return;
    this.loading = this.button.disabled = true;
    try {
      const got = await this.page(this.next);
      const known = new Set(this.rows.map((one) => one.id));
      this.rows = this.rows.concat(got.builds.filter((one) => !known.has(one.id)));
      this.next = got.next;
      this.draw();
    } catch (error) { news(error.message); }
    this.loading = this.button.disabled = false;
    this.seen.unobserve(this.button); // it may be in sight still
    this.seen.observe(this.button);
  }

  // The first page anew; of those further down the ones that something happened to.
  async refresh(changed) {
    const got = await this.page(null);
    const first = new Map(got.builds.map((one) => [one.id, one]));
    const lowest = got.builds.at(-1)?.id ?? Infinity;
    const reaches = got.next === null || this.rows.some((one) => first.has(one.id)) || !this.rows.length;
    const rest = reaches && got.next !== null ? this.rows.filter((one) => one.id < lowest) : [];
    const again = rest.filter((one) => changed.has(one.id)).slice(0, MOST_AGAIN);
    const fresh = new Map((await Promise.all(again.map((one) => get(`/api/builds/${one.id}`).catch(() => one)))).map((one) => [one.id, one]));
    const fits = (one) => !this.filter.status || one.status === this.filter.status;
    this.rows = [...got.builds, ...rest.map((one) => (fresh.has(one.id) ? pick(fresh.get(one.id), one) : one)).filter(fits)];
    if (!rest.length) this.next = got.next;
    this.draw();
  }

  stop() { this.seen.disconnect(); }
}

const pick = (from, like) => Object.fromEntries(Object.keys(like).map((name) => [name, from[name]]));

// What runs and what waits; a build is asked for again only where something happened to it.
class Open {
  constructor() {
    this.list = el('ul', { class: 'cards grid' });
    this.empty = el('p', { class: 'soft empty' });
    [this.shown, this.stale, this.changed, this.more] = [new Map(), new Set(), true, false];
  }

  async draw() {
    if (this.changed) {
      this.changed = false;
      const lists = await Promise.all(['running', 'pending'].map((status) => get(`/api/builds?status=${status}&limit=${MOST_OPEN}`))).catch((error) => { this.changed = true; throw error; });
      const ids = new Set(lists.flatMap((list) => list.builds).map((one) => one.id));
      this.more = lists.some((list) => list.next !== null);
      for (const id of this.shown.keys()) if (!ids.has(id)) this.shown.delete(id);
      for (const id of ids) this.stale.add(id);
    }
    const wanted = [...this.stale];
    this.stale.clear();
    let failed = null;
    const wholes = await Promise.all(wanted.map((id) => get(`/api/builds/${id}`).catch((error) => {
      if (passes(error)) { this.stale.add(id); failed = error; }
      return null;
    })));
    for (const one of wholes.filter(Boolean)) {
      if (one.status === 'running' || one.status === 'pending') this.shown.set(one.id, one);
      else this.shown.delete(one.id);
    }
    const running = (one) => one.status === 'running';
    const place = (one) => one.queue?.position ?? one.id;
    keyed(this.list, [...this.shown.values()].sort((a, b) => running(b) - running(a) || (running(a) ? b.id - a.id : place(a) - place(b))), (one) => one.id, openCard);
    this.empty.replaceChildren(this.shown.size ? '' : 'Nothing runs or waits.', this.more ? el('a', { href: '#/queue' }, 'All that runs and waits') : '');
    if (failed) throw failed; // the others are drawn
  }
}

function filters(filter, projects) {
  const go = () => {
    const wanted = new URLSearchParams(Object.entries(filter).filter(([, value]) => value));
    location.hash = [...wanted].length ? `#/?${wanted}` : '#/';
  };
  const choose = (name, values, said) => el('select', { 'aria-label': said, onchange: (event) => { filter[name] = event.target.value; go(); } },
    el('option', { value: '' }, said), ...values.map(([value, text]) => el('option', { value, selected: value === filter[name] }, text)));
  const number = el('input', { 'data-search': true, size: 12, inputmode: 'numeric', placeholder: 'build no.  ( / )', 'aria-label': 'Go to build number' });
  const jump = el('form', { role: 'search', 'aria-label': 'Builds', onsubmit: (event) => {
    event.preventDefault();
    const wanted = /^#?(\d+)$/.exec(number.value.trim());
    if (wanted) location.hash = `#/build/${wanted[1]}`;
    else news('a build has a number');
  } }, number);
  return el('div', { class: 'bar' }, choose('status', STATUSES.map((one) => [one, one]), 'any status'),
    choose('project', projects.map((one) => [one.id, projectName(one, projects)]), 'all projects'), el('span', { class: 'grow' }), jump);
}

export async function overview(place, session, query) {
  const asked = new URLSearchParams(query ?? '');
  const filter = { status: asked.get('status') ?? '', project: asked.get('project') ?? '' };
  const found = await get('/api/projects?limit=200');
  const [history, open] = [new History(filter), new Open()];
  const sums = el('dl', { class: 'totals' });
  const figures = async () => sums.replaceChildren(...totals(await get('/api/stats'), found.projects, found.next !== null));
  place.append(el('h1', null, 'Builds'), sums,
    may(session, 'build') && found.projects.length ? startForm(found.projects, session) : '',
    el('section', { 'aria-labelledby': 'now' }, el('h2', { id: 'now' }, 'Now'), open.list, open.empty),
    el('section', { 'aria-labelledby': 'history' }, el('h2', { id: 'history' }, 'History'), filters(filter, found.projects),
      history.table, history.empty, history.button));
  await Promise.all([figures(), open.draw(), history.refresh(new Set())]);
  const happened = new Set();
  const soon = throttled(() => open.draw(), 300);
  const later = throttled(() => {
    const changed = new Set(happened);
    happened.clear();
    return Promise.all([figures(), history.refresh(changed)]).catch((error) => { changed.forEach((id) => happened.add(id)); throw error; });
  }, 700);
  const off = live.on((event) => {
    if (event.type === 'build.status' || event.type === 'live.again') {
      if (event.status === 'failed' || event.status === 'success') news(`build ${event.build}: ${event.status}`);
      if (event.build) happened.add(event.build);
      open.changed = true;
      later();
    }
    if (event.type === 'lease.released') for (const one of open.shown.values()) if (one.blocked_by.length) open.stale.add(one.id);
    if (open.shown.has(event.build)) open.stale.add(event.build);
    if (open.changed || open.stale.size) soon();
  });
  const ticking = setInterval(() => { // how long it has taken goes on without any event
    for (const one of open.shown.values()) open.stale.add(one.id);
    if (open.stale.size && !document.hidden) soon();
  }, 5000);
  return () => { off(); soon.stop(); later.stop(); clearInterval(ticking); history.stop(); };
}
