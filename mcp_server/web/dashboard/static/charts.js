// Charts of ours: axes with units, signs beside colours, and each as a table for who reads or hears it better.

import { el, level, row, svg, table } from './dom.js';

const HIGH = 190;
const [LEFT, RIGHT, TOP, BOTTOM] = [64, 12, 10, 34];

// Round steps that reach `most`: 1, 2 or 5 times a power of ten, or of 60 for long durations.
function ticks(most, seconds) {
  const raw = most / 4 || 1;
  const base = seconds && raw >= 60 ? (raw >= 3600 ? 3600 : 60) : 1;
  const power = 10 ** Math.floor(Math.log10(raw / base));
  const step = [1, 2, 3, 5, 10].map((one) => one * power * base).find((one) => one >= raw) ?? raw;
  return Array.from({ length: Math.ceil(most / step - 1e-9) + 1 }, (_, at) => at * step);
}

// A place that is drawn anew for the width it has, so that letters keep their size on a phone.
function drawn(said, draw, heads, rows) {
  const place = el('div', { class: 'drawing' });
  let before = 0;
  new ResizeObserver(([entry]) => {
    const wide = Math.round(entry.contentRect.width);
    if (wide < 80 || wide === before) return;
    before = wide;
    place.replaceChildren(draw(wide));
  }).observe(place);
  return el('figure', { class: 'chart' }, el('figcaption', null, said), place,
    el('details', null, el('summary', null, 'as a table'), table(said, heads, rows.map((cells) => row(heads, cells)))));
}

function axes(wide, marks, say, most) {
  const y = (value) => TOP + (HIGH - TOP - BOTTOM) * (1 - value / most);
  return marks.flatMap((mark) => [svg('line', { class: mark ? 'grid' : 'axis', x1: LEFT, x2: wide - RIGHT, y1: y(mark), y2: y(mark) }),
    svg('text', { class: 'small', x: LEFT - 8, y: y(mark) + 4, 'text-anchor': 'end' }, say(mark))]);
}

const board = (wide, said, ...parts) => svg('svg', { width: wide, height: HIGH, viewBox: `0 0 ${wide} ${HIGH}`, role: 'img', 'aria-label': said }, ...parts);

// Points of builds, the oldest left: `{ build, value, bad }`. Bad ones are crosses, not only red.
export function line(points, { name, say, seconds = false, most = null }) {
  if (points.length < 2) return el('figure', { class: 'chart' }, el('figcaption', null, name), el('p', { class: 'soft empty' }, 'Fewer than two builds to compare.'));
  const highest = Math.max(...points.map((one) => one.value));
  const marks = most === null ? ticks(highest, seconds) : [0, 25, 50, 75, 100];
  const top = marks.at(-1) || 1;
  const said = `${name}: newest ${say(points.at(-1).value)}, highest ${say(highest)}`;
  const draw = (wide) => {
    const x = (at) => LEFT + 6 + (at / (points.length - 1)) * (wide - LEFT - RIGHT - 12);
    const y = (value) => TOP + (HIGH - TOP - BOTTOM) * (1 - value / top);
    const every = Math.max(1, Math.ceil(points.length / Math.max(2, Math.floor((wide - LEFT) / 70))));
    const dots = points.map(({ build, value, bad }, at) => {
      const [cx, cy] = [x(at), y(value)];
      const mark = bad ? svg('path', { class: 'badline', d: `M${cx - 4},${cy - 4} L${cx + 4},${cy + 4} M${cx + 4},${cy - 4} L${cx - 4},${cy + 4}` }) : svg('circle', { class: 'neutral', cx, cy, r: points.length > 60 ? 2 : 3.5 });
      return svg('g', { class: 'point', onclick: () => { location.hash = `#/build/${build}`; } }, svg('title', null, `build ${build}: ${say(value)}${bad ? ', failed' : ''}`), mark);
    });
    const labels = points.map((one, at) => (points.length - 1 - at) % every === 0 && svg('text', { class: 'small', x: x(at), y: HIGH - 14, 'text-anchor': at === points.length - 1 && points.length > 2 ? 'end' : 'middle' }, `#${one.build}`));
    return board(wide, said, ...axes(wide, marks, say, top), svg('polyline', { class: 'edge', points: points.map((one, at) => `${x(at).toFixed(1)},${y(one.value).toFixed(1)}`).join(' ') }), ...dots, ...labels);
  };
  return drawn(said, draw, ['Build', 'Value'], points.map((one) => [`#${one.build}`, `${say(one.value)}${one.bad ? ' (failed)' : ''}`]));
}

// Builds a day: what succeeded below, what failed above it with stripes, the rest on top.
export function days(trend) {
  const highest = Math.max(1, ...trend.map((day) => day.total));
  const marks = ticks(highest, false).filter(Number.isInteger);
  const top = Math.max(highest, marks.at(-1));
  const total = trend.reduce((sum, day) => sum + day.total, 0);
  const said = `Builds a day over ${trend.length} days: ${total.toLocaleString()} in all, at most ${highest.toLocaleString()} a day`;
  const draw = (wide) => {
    const step = (wide - LEFT - RIGHT) / trend.length;
    const part = (number) => (number / top) * (HIGH - TOP - BOTTOM);
    const bars = trend.map((day, at) => {
      const x = LEFT + at * step + step * 0.12;
      let y = HIGH - BOTTOM;
      const stack = [['good', day.successful], ['bad', day.failed], ['rest', day.total - day.successful - day.failed]].map(([kind, number]) => {
        if (number <= 0) return null;
        y -= part(number);
        return svg('rect', { class: kind, x, y, width: step * 0.76, height: part(number) });
      });
      return svg('g', null, svg('title', null, `${day.day}: ${day.total} builds, ${day.successful} succeeded, ${day.failed} failed`), ...stack);
    });
    const every = Math.ceil(trend.length / Math.max(2, Math.floor((wide - LEFT) / 90)));
    const labels = trend.map((day, at) => (trend.length - 1 - at) % every === 0 && svg('text', { class: 'small', x: at === trend.length - 1 ? wide - RIGHT : LEFT + (at + 0.5) * step, y: HIGH - 14, 'text-anchor': at === trend.length - 1 ? 'end' : 'middle' }, day.day.slice(5)));
    const stripes = svg('pattern', { id: 'stripes', width: 5, height: 5, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' }, svg('rect', { class: 'striped', width: 5, height: 5 }), svg('rect', { class: 'stripe', width: 1.6, height: 5 }));
    return board(wide, said, svg('defs', null, stripes), ...axes(wide, marks, String, top), ...bars, ...labels);
  };
  const heads = ['Day', 'Succeeded', 'Failed', 'In all'];
  const chart = drawn(said, draw, heads, trend.filter((day) => day.total).map((day) => [day.day, String(day.successful), String(day.failed), String(day.total)]));
  const legend = [['good', 'succeeded'], ['bad', 'failed'], ['rest', 'cancelled, waiting or running']].map(([kind, text]) =>
    el('span', null, svg('svg', { width: 12, height: 12, 'aria-hidden': 'true' }, svg('rect', { class: kind, width: 12, height: 12 })), ` ${text}`));
  chart.firstChild.after(el('p', { class: 'legend' }, ...legend));
  return chart;
}

// A share of a whole in a table's cell: the number, and how long it is beside the others.
export const bar = (value, most, said) => el('span', { class: 'share' }, el('span', null, said), level(value / (most || 1)));
