// Figures: success, durations, sizes, and what builds fail of.

import { get } from './api.js';
import { buildLink, duration, el, row, size, svg, table } from './dom.js';

const CAUSES = ['Times', 'What', 'Where', 'Last'];
const STAGES = ['Stage', 'Median', 'Runs'];

function days(trend) {
  const most = Math.max(1, ...trend.map((day) => day.total));
  const [wide, high] = [600, 130];
  const step = wide / trend.length;
  const bars = trend.flatMap((day, at) => {
    const part = (count) => (count / most) * high;
    const [good, bad] = [part(day.successful), part(day.failed)];
    const rest = part(day.total) - good - bad;
    const x = at * step + 1;
    const tall = (kind, top, height) => height > 0 && svg('rect', { class: kind, x, y: top, width: step - 2, height });
    return [svg('g', null, svg('title', null, `${day.day}: ${day.total} builds, ${day.successful} succeeded, ${day.failed} failed`),
      tall('good', high + 10 - good, good), tall('bad', high + 10 - good - bad, bad), tall('neutral', high + 10 - good - bad - rest, rest))];
  });
  const ends = [[0, 'start', trend[0]?.day], [wide, 'end', trend.at(-1)?.day]];
  const text = `Builds a day over ${trend.length} days: ${trend.reduce((sum, day) => sum + day.total, 0)} in all, at most ${most} a day.`;
  return el('div', { class: 'chart' }, el('p', { class: 'soft' }, text),
    svg('svg', { viewBox: '0 0 600 160', role: 'img', 'aria-label': text }, ...bars, svg('line', { class: 'axis', x1: 0, x2: wide, y1: high + 10, y2: high + 10 }),
      ...ends.map(([x, anchor, said]) => svg('text', { class: 'small', x, y: high + 26, 'text-anchor': anchor }, said ?? ''))));
}

// Points over build numbers, the oldest left; each is said by the table-like title it has.
function line(points, name, said) {
  if (points.length < 2) return el('p', { class: 'soft' }, `${name}: fewer than two builds to compare.`);
  const most = Math.max(...points.map(([, value]) => value)) || 1;
  const at = ([, value], index) => [8 + (index / (points.length - 1)) * 584, 120 - (value / most) * 105];
  const path = points.map((point, index) => at(point, index).map((one) => one.toFixed(1)).join(','));
  const text = `${name} of the last ${points.length} builds that succeeded: newest ${said(points.at(-1)[1])}, highest ${said(most)}.`;
  return el('div', { class: 'chart' }, el('p', { class: 'soft' }, text),
    svg('svg', { viewBox: '0 0 600 150', role: 'img', 'aria-label': text }, svg('polyline', { class: 'edge', points: path.join(' ') }),
      ...points.map((point, index) => svg('circle', { class: 'neutral', cx: at(point, index)[0], cy: at(point, index)[1], r: 3 },
        svg('title', null, `build ${point[0]}: ${said(point[1])}`))),
      svg('text', { class: 'small', x: 8, y: 144 }, `#${points[0][0]}`), svg('text', { class: 'small', x: 592, y: 144, 'text-anchor': 'end' }, `#${points.at(-1)[0]}`)));
}

async function sizes(builds) {
  const newest = builds.slice(-20);
  const found = await Promise.all(newest.map(async (one) => {
    const files = await get(`/api/builds/${one.id}/artifacts`).catch(() => []);
    const app = files.find((file) => file.kind === 'app') ?? files.toSorted?.((a, b) => b.size - a.size)[0];
    return app ? [one.id, app.size] : null;
  }));
  return found.filter(Boolean);
}

export async function statsView(place, session, wanted) {
  const project = wanted ? decodeURIComponent(wanted) : '';
  const query = project ? `&project=${encodeURIComponent(project)}` : '';
  const [stats, known, good] = await Promise.all([
    get(project ? `/api/projects/${encodeURIComponent(project)}/stats` : '/api/stats'),
    get('/api/projects?limit=200'), get(`/api/builds?status=success&limit=100${query}`)]);
  const choice = el('select', { 'aria-label': 'Project', onchange: (event) => {
    location.hash = event.target.value ? `#/stats/${encodeURIComponent(event.target.value)}` : '#/stats';
  } }, el('option', { value: '' }, 'all projects'),
  ...known.projects.map((one) => el('option', { value: one.id, selected: one.id === project }, one.name)));
  const rate = stats.total_builds ? `${Math.round(stats.success_rate)} %` : '–';
  const figures = [['Success rate', rate], ['Builds', stats.total_builds], ['Failed', stats.failed], ['Cancelled', stats.cancelled],
    ['Median', duration(stats.p50_duration)], ['90 % within', duration(stats.p90_duration)]];
  const causes = stats.failures.map((one) => row(CAUSES, [`${one.count}×`, `${one.kind}: ${one.message}`, el('code', null, one.place || '–'), buildLink(one.last_build)]));
  const slowest = stats.slowest.map((one) => row(STAGES, [one.stage, duration(one.median_s), String(one.runs)]));
  const timed = good.builds.filter((one) => one.duration !== null).reverse();
  place.append(el('h1', null, 'Stats'), el('div', { class: 'bar' }, choice),
    el('dl', { class: 'totals' }, ...figures.map(([name, value]) => el('div', null, el('dt', null, name), el('dd', null, value.toLocaleString())))),
    el('h2', null, 'What builds fail of'), causes.length ? table('Failures by first cause', CAUSES, causes) : el('p', { class: 'soft' }, 'No build has failed.'),
    el('h2', null, 'Builds a day'), days(stats.trend),
    el('h2', null, 'Durations'), line(timed.map((one) => [one.id, one.duration]), 'Duration', duration),
    el('h2', null, 'Sizes'), line(await sizes(timed), 'Size of the application', size),
    el('h2', null, 'Slowest stages'), slowest.length ? table('Slowest stages', STAGES, slowest) : el('p', { class: 'soft' }, 'No stage has passed yet.'));
}
