// What runs and what waits: its place, when it is expected to start, and why it does not yet.

import { get, live, throttled } from './api.js';
import { badge, buildLink, duration, el, keyed, plural, row, table, when, sentence, word } from './dom.js';
import { held, start } from './waits.js';

const WAITING = ['Position', 'Build', 'Project', 'Name', 'Expected start', 'Why it waits'];
const RUNNING = ['Build', 'Project', 'Name', 'Duration', 'Left', 'Waits for'];
const SCHEDULES = ['Schedule', 'Project', 'When', 'Next', 'Last build'];
const MOST = 100;

const waitsFor = (build) => {
  const leases = build.blocked_by.filter((lease) => lease.build !== build.id).slice(0, 3);
  return leases.length ? el('span', null, leases.flatMap((lease, at) => [at ? '; ' : '', held(lease)])) : '–';
};

const waitingRow = (build) => row(WAITING, [build.queue ? String(build.queue.position) : '–', buildLink(build.id), word(build.project), word(build.name),
  build.queue?.expected_start ? start(build.queue.expected_start) : 'not known', build.queue?.reason ? sentence(build.queue.reason) : 'its turn has not come']);

const runningRow = (build) => row(RUNNING, [buildLink(build.id), word(build.project), word(build.name), duration(build.elapsed_s),
  build.eta_s >= 1 ? `about ${duration(build.eta_s)}` : '–', build.idle ? sentence(build.idle) : build.stages.some((stage) => stage.status === 'running') ? '–' : waitsFor(build)]);

async function running() {
  const list = await get(`/api/builds?status=running&limit=${MOST}`);
  const found = await Promise.all(list.builds.map((one) => get(`/api/builds/${one.id}`).catch(() => null)));
  return { builds: found.filter((one) => one?.status === 'running'), more: list.next !== null };
}

// The queue has places and reasons, the list has names.
async function waiting() {
  const [queue, list] = await Promise.all([get(`/api/queue?limit=${MOST}`).catch(() => null), get(`/api/builds?status=pending&limit=${2 * MOST}`)]);
  const names = new Map(list.builds.map((one) => [one.id, one.name]));
  const builds = queue ? queue.queue.map((one) => ({ id: one.build, project: one.project, name: names.get(one.build) ?? '', queue: one })) : list.builds.toReversed().slice(0, MOST);
  return { builds, in_all: queue?.pending ?? builds.length, most: queue?.builds, each: queue?.per_project };
}

const scheduleRow = (one) => row(SCHEDULES, [word(one.name), [word(one.project), one.branch ? [' ', word(one.branch, { class: 'branch' })] : ''],
  [el('code', null, one.cron), ` ${one.timezone}`], one.problem ? sentence(one.problem, { class: 'problem' }) : one.next ? when(one.next) : '–',
  one.last_build ? el('span', { class: 'head' }, buildLink(one.last_build), badge(one.last_status), when(one.last_at)) : '–']);

export async function queueView(place) {
  const [queued, open] = [table('Builds that wait, the next one first', WAITING, []), table('Builds that run', RUNNING, [])];
  const [waits, runs] = [el('p', { class: 'soft' }), el('p', { class: 'soft' })];
  const plans = el('div', null);
  const draw = async () => {
    const [pending, now] = await Promise.all([waiting(), running()]);
    keyed(queued.tBodies[0], pending.builds, (one) => one.id, waitingRow);
    keyed(open.tBodies[0], now.builds, (one) => one.id, runningRow);
    [queued.hidden, open.hidden] = [!pending.builds.length, !now.builds.length];
    const rest = pending.in_all - pending.builds.length;
    waits.textContent = pending.builds.length ? `${plural(pending.in_all, 'build')}${rest > 0 ? `, the first ${pending.builds.length} shown` : ''}` : 'Nothing waits.';
    const limits = [pending.most && `at most ${pending.most} at a time`, pending.each && `${pending.each} of a project`].filter(Boolean).join(', ');
    runs.textContent = `${now.builds.length ? `${plural(now.builds.length, 'build')}${now.more ? ' and more' : ''}` : 'Nothing runs'}${limits ? `; ${limits}` : ''}.`;
  };
  const schedules = await get('/api/schedules').catch(() => []);
  if (schedules.length) plans.append(el('h2', null, 'Scheduled'), table('Scheduled builds', SCHEDULES, schedules.map(scheduleRow)));
  await draw();
  place.append(el('h1', null, 'Queue'), el('h2', null, 'Waiting'), waits, queued, el('h2', null, 'Running'), runs, open, plans);
  const soon = throttled(draw, 700);
  const off = live.on((event) => { if (/^(?:build\.|stage\.status|lease\.|live\.)/.test(event.type)) soon(); });
  const ticking = setInterval(() => { if (!document.hidden) soon(); }, 5000);
  return () => { off(); soon.stop(); clearInterval(ticking); };
}
