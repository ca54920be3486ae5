// The graph of a build's stages: columns by how deep a stage lies, drawn with SVG of ours.

import { duration, svg } from './dom.js';

const [WIDE, HIGH, GAP_X, GAP_Y] = [164, 44, 40, 14];
const SIGNS = { success: '✓', failed: '✗', running: '▶', cancelled: '■', skipped: '–', pending: '◷' };
const MOST_BEFORE = 3;
export const MOST_NODES = 200;

function depths(graph) {
  const known = new Map(graph.map((one) => [one.stage, one]));
  const depth = new Map();
  const open = new Set();
  const of = (name) => {
    if (depth.has(name)) return depth.get(name);
    if (open.has(name) || !known.has(name)) return -1;
    open.add(name);
    const found = Math.max(-1, ...known.get(name).depends_on.map(of)) + 1;
    open.delete(name);
    depth.set(name, found);
    return found;
  };
  for (const one of graph) of(one.stage);
  return depth;
}

const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

// Why a stage was skipped, in words: the nearest before it that did not pass, by name.
export function notRun(graph, stages, row) {
  if (row.status !== 'skipped' || row.reason !== 'dependency') return '';
  const known = new Map(graph.map((one) => [one.stage, one]));
  const over = stages.filter((one) => one.round === row.round && !(one.ended_at && row.ended_at && new Date(one.ended_at) > new Date(row.ended_at)));
  const last = new Map(over.map((one) => [one.stage, one.status]));
  const near = new Set(graph.length > MOST_NODES ? [] : [row.stage]);
  const bad = { failed: new Set(), cancelled: new Set() };
  for (const name of near) { // grows meanwhile
    for (const need of known.get(name)?.depends_on ?? []) {
      const status = last.get(need);
      if (status === 'cancelled' || (status === 'failed' && !known.get(need)?.allow_failure)) bad[status].add(need);
      else near.add(need);
    }
  }
  const told = [allWere([...bad.failed], 'failed', 'failed'), allWere([...bad.cancelled], 'was cancelled', 'were cancelled')].filter(Boolean);
  return `not run: ${told.join(', ') || 'an earlier stage failed'}`;
}

function allWere(all, one, several) {
  const names = all.length > MOST_BEFORE ? [...all.slice(0, MOST_BEFORE - 1), `${all.length - MOST_BEFORE + 1} more`] : all;
  if (names.length < 2) return names.length ? `${names[0]} ${one}` : '';
  return `${names.slice(0, -1).join(', ')} and ${names.at(-1)} ${several}`;
}

// The newest round's: what has not begun again in it is to come, whatever it was before.
export function drawGraph(graph, stages, round, open) {
  const newest = new Map();
  const once = new Set(graph.filter((one) => one.once).map((one) => one.stage));
  for (const stage of stages) if (stage.round === round || once.has(stage.stage)) newest.set(stage.stage, stage);
  const depth = depths(graph);
  const columns = [];
  const at = new Map();
  for (const one of graph) {
    const column = depth.get(one.stage);
    columns[column] = (columns[column] ?? 0) + 1;
    at.set(one.stage, [column * (WIDE + GAP_X) + 4, (columns[column] - 1) * (HIGH + GAP_Y) + 4]);
  }
  const status = (name) => newest.get(name)?.status ?? (open ? 'pending' : 'not run');
  const direct = new Map(graph.map((one) => [one.stage, one.depends_on]));
  // What another of its stages waits for already needs no line of its own.
  const implied = (one, from) => one.depends_on.some((other) => other !== from && (direct.get(other) ?? []).includes(from));
  const edges = graph.flatMap((one) => one.depends_on.filter((from) => at.has(from) && !implied(one, from)).map((from) => {
    const [[x1, y1], [x2, y2]] = [at.get(from), at.get(one.stage)];
    const [a, b, middle] = [x1 + WIDE, y1 + HIGH / 2, (x1 + WIDE + x2) / 2];
    return svg('path', { class: 'edge', d: `M${a},${b} C${middle},${b} ${middle},${y2 + HIGH / 2} ${x2},${y2 + HIGH / 2}` });
  }));
  const nodes = graph.map((one) => {
    const [x, y] = at.get(one.stage);
    const row = newest.get(one.stage);
    const took = row?.started_at && row?.ended_at ? ` · ${duration((new Date(row.ended_at) - new Date(row.started_at)) / 1000)}` : '';
    const sign = SIGNS[status(one.stage)] ?? '';
    return svg('g', { class: `node ${status(one.stage).replace(' ', '-')}`, transform: `translate(${x},${y})` },
      svg('title', null, `${one.stage}: ${status(one.stage)}${one.role ? `, by ${one.role}` : ''}`),
      svg('rect', { width: WIDE, height: HIGH, rx: 7 }), svg('text', { x: 10, y: 18 }, short(one.stage, 20)),
      svg('text', { x: 10, y: 34, class: 'small' }, short(`${sign} ${status(one.stage)}${took}`.trim(), 24)));
  });
  const [wide, high] = [columns.length * (WIDE + GAP_X) - GAP_X + 8, Math.max(...columns) * (HIGH + GAP_Y) - GAP_Y + 8];
  const said = graph.map((one) => `${one.stage} ${status(one.stage)}${one.depends_on.length ? ` after ${one.depends_on.join(', ')}` : ''}`);
  return svg('svg', { width: wide, height: high, viewBox: `0 0 ${wide} ${high}`, role: 'img', 'aria-label': `Stages: ${said.join('; ')}` }, ...edges, ...nodes);
}
