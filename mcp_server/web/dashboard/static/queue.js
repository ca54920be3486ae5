// What runs and what waits: its place, when it is expected to start, and why it does not yet.

import { get, live, throttled } from './api.js';
import { buildLink, duration, el, keyed, plural, row, table, when, sentence, word } from './dom.js';
import { held, start } from './waits.js';

const WAITING = ['Position', 'Build', 'Project', 'Name', 'Expected start', 'Why it waits'];
const RUNNING = ['Build', 'Project', 'Name', 'Duration', 'Left', 'Waits for'];
const SCHEDULES = ['Schedule', 'Project', 'When', 'Next', 'Last build'];
const MOST = 100;

function why(build) {
  if (build.queue?.reason) return sentence(build.queue.reason);
  const leases = build.blocked_by.filter((lease) => lease.build !== build.id).slice(0, 3);
  if (leases.length) return el('span', null, leases.flatMap((lease, at) => [at ? '; ' : '', held(lease)]));
  return build.status === 'pending' ? 'its turn has not come' : '–';
}

const waitingRow = (build) => row(WAITING, [build.queue ? String(build.queue.position) : '–', buildLink(build.id), word(build.project), word(build.name),
  build.queue?.expected_start ? start(build.queue.expected_start) : 'not known', why(build)]);

const runningRow = (build) => row(RUNNING, [buildLink(build.id), word(build.project), word(build.name), duration(build.elapsed_s),
  build.eta_s >= 1 ? `about ${duration(build.eta_s)}` : '–', build.stages.some((stage) => stage.status === 'running') ? '–' : why(build)]);

async function wholes(status) {
  const list = await get(`/api/builds?status=${status}&limit=${MOST}`);
  const found = await Promise.all(list.builds.map((one) => get(`/api/builds/${one.id}`).catch(() => null)));
  return { builds: found.filter((one) => one?.status === status), more: list.next !== null };
}

function scheduleRow(one) {
  return row(SCHEDULES, [word(one.name ?? '–'), word(one.project ?? '–'), el('code', null, one.cron ?? one.every ?? one.when ?? ''), one.next ? when(one.next) : '–',
    one.last_build ? buildLink(one.last_build) : '–']);
}

export async function queueView(place) {
  const [waiting, running] = [table('Builds that wait, the next one first', WAITING, []), table('Builds that run', RUNNING, [])];
  const [waits, runs] = [el('p', { class: 'soft' }), el('p', { class: 'soft' })];
  const plans = el('div', null);
  const draw = async () => {
    const [pending, open] = await Promise.all([wholes('pending'), wholes('running')]);
    const at = (one) => one.queue?.position ?? one.id;
    keyed(waiting.tBodies[0], pending.builds.toSorted((a, b) => at(a) - at(b)), (one) => one.id, waitingRow);
    keyed(running.tBodies[0], open.builds, (one) => one.id, runningRow);
    [waiting.hidden, running.hidden] = [!pending.builds.length, !open.builds.length];
    waits.textContent = pending.builds.length ? `${plural(pending.builds.length, 'build')}${pending.more ? ' and more' : ''}` : 'Nothing waits.';
    runs.textContent = open.builds.length ? `${plural(open.builds.length, 'build')}${open.more ? ' and more' : ''}` : 'Nothing runs.';
  };
  const schedules = await get('/api/schedules').catch(() => []);
  const planned = Array.isArray(schedules) ? schedules : schedules.schedules ?? [];
  if (planned.length) plans.append(el('h2', null, 'Scheduled'), table('Scheduled builds', SCHEDULES, planned.map(scheduleRow)));
  await draw();
  place.append(el('h1', null, 'Queue'), el('h2', null, 'Waiting'), waits, waiting, el('h2', null, 'Running'), runs, running, plans);
  const soon = throttled(draw, 700);
  const off = live.on((event) => { if (/^(?:build\.|stage\.status|lease\.|live\.)/.test(event.type)) soon(); });
  const ticking = setInterval(soon, 5000);
  return () => { off(); soon.stop(); clearInterval(ticking); };
}
