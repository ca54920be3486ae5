// Figures: success, what builds fail of, and how durations, sizes, compile times, coverage and tests went.

import { get } from './api.js';
import { bar, days, line } from './charts.js';
import { buildLink, count, duration, el, plural, projectName, row, size, successRate, table, sentence, word } from './dom.js';

const CAUSES = ['Times', 'What', 'Where', 'Last'];
const STAGES = ['Stage', 'Median', 'Runs'];
const HOSTS = ['Host', 'Jobs', 'Failed'];
const FILES = ['File', 'Median', 'Last took', 'Builds'];
const FAILING = ['Test', 'Stage', 'Failed', 'Ran', 'Last'];
const SLOW = ['Test', 'Stage', 'Median', 'Ran'];

const empty = (said) => el('p', { class: 'soft empty' }, said);
const percent = (value) => `${Math.round(value * 10) / 10} %`;

// What one project's builds were like, one after the other.
function trends(found) {
  const points = (value) => found.builds.map((one) => ({ build: one.id, value: value(one), bad: one.status === 'failed' })).filter((one) => Number.isFinite(one.value));
  const parts = [
    ['Duration', (one) => one.duration, { say: duration, seconds: true }],
    ['Program in flash', (one) => one.sizes?.flash, { say: size }],
    ['Static RAM', (one) => one.sizes?.ram, { say: size }],
    ['Time to compile', (one) => one.compile?.wall_s, { say: duration, seconds: true }],
    ['Lines covered', (one) => one.coverage?.lines?.percent, { say: percent, most: 100 }],
    ['Tests that passed', (one) => one.tests?.passed, { say: (value) => count(Math.round(value)) }],
  ].map(([name, value, how]) => [points(value), { name, ...how }]);
  const slowest = Math.max(0, ...found.slowest_files.map((one) => one.median_s));
  return [
    el('h2', null, 'From build to build'),
    el('div', { class: 'charts' }, parts.filter(([found_, how]) => found_.length > 1 || how.name === 'Duration').map(([found_, how]) => line(found_, how))),
    ...(found.failing_tests.length ? [el('h2', null, 'Tests that fail'), table('Tests that fail most often', FAILING, found.failing_tests.map((one) =>
      row(FAILING, [word(one.test), word(one.stage), `${count(one.failed)}×`, `${count(one.ran)}×`, buildLink(one.last_build)])))] : []),
    ...(found.slowest_files.length ? [el('h2', null, 'Files that take longest to compile'), table('Files that take longest to compile', FILES, found.slowest_files.map((one) =>
      row(FILES, [word(one.file, { class: 'path' }), bar(one.median_s, slowest, duration(one.median_s)), duration(one.last_s), count(one.builds)])))] : []),
    ...(found.slow_tests.length ? [el('h2', null, 'Slowest tests'), table('Slowest tests', SLOW, found.slow_tests.map((one) =>
      row(SLOW, [word(one.test), word(one.stage), duration(one.median_s), `${count(one.ran)}×`])))] : []),
  ];
}

async function together(project) {
  if (project) return trends(await get(`/api/projects/${encodeURIComponent(project)}/trends?limit=100`));
  return [empty('Choose a project for its durations, sizes, compile times, coverage and tests.')];
}

export async function statsView(place, session, wanted) {
  const project = wanted ? decodeURIComponent(wanted) : '';
  const [stats, known, parts] = await Promise.all([
    get(project ? `/api/projects/${encodeURIComponent(project)}/stats` : '/api/stats'), get('/api/projects?limit=200'),
    together(project).catch((error) => [empty(error.message)])]);
  const choice = el('select', { 'aria-label': 'Project', onchange: (event) => {
    location.hash = event.target.value ? `#/stats/${encodeURIComponent(event.target.value)}` : '#/stats';
  } }, el('option', { value: '' }, 'all projects'),
  ...known.projects.map((one) => el('option', { value: one.id, selected: one.id === project || one.name === project }, projectName(one, known.projects))));
  const figures = [['Success rate', successRate(stats)], ['Builds', count(stats.total_builds)], ['Failed', count(stats.failed)], ['Cancelled', count(stats.cancelled)],
    ['Median duration', duration(stats.p50_duration)], ['90 % within', duration(stats.p90_duration)]];
  const causes = stats.failures.map((one) => row(CAUSES, [`${count(one.count)}×`, el('span', null, el('span', { class: 'badge' }, word(one.kind)), ' ', sentence(one.message)), one.place ? word(one.place, { class: 'path' }) : '–', buildLink(one.last_build)]));
  const slowest = Math.max(0, ...stats.slowest.map((one) => one.median_s));
  const stages = stats.slowest.map((one) => row(STAGES, [word(one.stage), bar(one.median_s, slowest, duration(one.median_s)), `${count(one.runs)}×`]));
  const hosts = stats.hosts.map((one) => row(HOSTS, [word(one.host), count(one.jobs), count(one.failures)]));
  place.append(el('div', { class: 'head' }, el('h1', null, 'Stats'), choice),
    el('dl', { class: 'totals six' }, ...figures.map(([name, value]) => el('div', null, el('dt', null, name), el('dd', null, value)))),
    el('h2', null, 'What builds fail of'), causes.length ? table('Failures by first cause', CAUSES, causes) : empty('No build has failed.'),
    el('h2', null, 'Builds a day'), days(stats.trend), ...parts,
    el('h2', null, 'Slowest stages'), stages.length ? table('Slowest stages', STAGES, stages) : empty('No stage has passed yet.'),
    ...(hosts.length ? [el('h2', null, 'Hosts'), table(`Jobs of ${plural(hosts.length, 'host')}`, HOSTS, hosts)] : []));
}
