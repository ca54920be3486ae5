// What a build came to, as tables: tests, coverage, compile time, files.

import { get } from './api.js';
import { bar } from './charts.js';
import { badge, count, duration, el, plural, row, size, table, sentence, word } from './dom.js';

const FILES = ['File', 'Kind', 'Size', 'SHA-256'];
const TESTS = ['Result', 'Test', 'What', 'Where'];
const COMPILE = ['File', 'Seconds'];
const COVERAGE = ['File', 'Lines', 'Branches', 'Functions'];
const MOST = 200;

const CHANGES = ['File', 'Change', 'Size', 'Before'];
const WEIGHTS = ['Stage', 'What', 'Bytes', 'Before', 'Difference'];

const signed = (number) => (number > 0 ? `+${count(number)}` : number ? `−${count(-number)}` : '0');
const bytes = (number) => (number === null ? '–' : count(number));

function changes(told) {
  const files = told.files.slice(0, MOST).map((file) => row(CHANGES, [word(file.path, { class: 'path' }), file.change, bytes(file.size), bytes(file.was)]));
  const sizes = told.sizes.map((one) => row(WEIGHTS, [word(one.stage), word(one.what), bytes(one.size), bytes(one.was), one.size === null || one.was === null ? '–' : signed(one.size - one.was)]));
  return [el('p', { class: 'soft' }, `${plural(told.unchanged, 'file')} unchanged${told.files.length > MOST ? `, ${count(told.files.length - MOST)} more changed` : ''}`),
    files.length ? table(`Files against build ${told.to}`, CHANGES, files) : '', sizes.length ? table(`Sizes against build ${told.to}`, WEIGHTS, sizes) : ''];
}

// Asked for once and left as it is: it is of what is recorded.
export function comparison(build) {
  const said = el('div', { 'aria-live': 'polite' });
  const field = el('input', { type: 'number', id: 'compare', min: 1, required: true, inputmode: 'numeric', value: build.id > 1 ? build.id - 1 : '' });
  const send = async (event) => {
    event.preventDefault();
    try { said.replaceChildren(...changes(await get(`/api/builds/${build.id}/compare?to=${field.value}`))); } catch (error) { said.replaceChildren(el('p', { class: 'problem' }, error.message)); }
  };
  return el('section', null, el('h2', null, 'Compared'), el('form', { class: 'head', onsubmit: send }, el('label', { for: 'compare' }, 'With build'), field, el('button', { type: 'submit' }, 'Compare')), said);
}

export function files(build) {
  const path = (file) => `/api/builds/${build.id}/artifacts/${file.path.split('/').map(encodeURIComponent).join('/')}`;
  const rows = build.artifacts.slice(0, MOST).map((file) => row(FILES, [el('a', { href: path(file), download: true, class: 'path' }, word(file.path)), file.kind, size(file.size), el('code', { title: file.sha256 }, file.sha256.slice(0, 12))]));
  const more = build.artifacts.length - rows.length;
  return rows.length ? [el('h2', null, `Files (${count(build.artifacts.length)})`), table('Files it left', FILES, rows), more > 0 ? el('p', { class: 'soft' }, `and ${count(more)} more`) : ''] : [];
}

export function tests(build) {
  const newest = new Map(build.stages.map((stage) => [stage.stage, stage]));
  const found = [...newest.values()].filter((stage) => stage.verdict?.details?.tests);
  if (!found.length) return [];
  return [el('h2', null, 'Tests'), ...found.flatMap((stage) => {
    const said = stage.verdict.details.tests;
    const counts = [['success', 'passed', said.passed], ['failed', 'failed', said.failed], ['skipped', 'ignored', said.skipped]].filter(([, , number]) => number);
    const cases = (said.cases ?? []).filter((one) => one.result === 'fail').slice(0, MOST);
    const rows = cases.map((one) => row(TESTS, [badge('failed'), word(one.suite ? `${one.suite}.${one.name}` : one.name),
      one.message ? sentence(one.message) : '', one.file ? word(`${one.file}${one.line ? `:${one.line}` : ''}`, { class: 'path' }) : '–']));
    return [el('p', { class: 'head' }, el('strong', null, word(stage.stage)), ...(counts.length ? counts.map(([look, name, number]) => badge(look, `${count(number)} ${name}`)) : ['none ran']),
      said.complete === false ? el('span', { class: 'soft' }, 'cut off before their end') : ''),
    rows.length ? table(`Failed tests of ${stage.stage}`, TESTS, rows) : ''];
  })];
}

export function compile(build) {
  return (build.compile ?? []).filter((one) => one.files?.length).flatMap((one) => {
    const most = Math.max(...one.files.map((file) => file.seconds));
    const said = `${plural(one.objects, 'file')} compiled in ${duration(one.wall_s)}; ${duration(one.total_s)} of work, ${one.wall_s > 0 ? (one.total_s / one.wall_s).toFixed(1) : '1.0'} at a time`;
    return [el('h2', null, `Time to compile: ${one.stage}`), el('p', { class: 'soft' }, said, one.note ? `. ${one.note}` : ''),
      fold(`The ${one.files.length} slowest files`, table(`Slowest files of ${one.stage}`, COMPILE, one.files.map((file) => row(COMPILE, [word(file.file, { class: 'path' }), bar(file.seconds, most, duration(file.seconds))]))))];
  });
}

const share = (part) => (part ? bar(part.percent, 100, `${part.percent.toFixed(1)} %`) : '–');
const covered = (part, name) => (part ? `${part.percent.toFixed(1)} % of ${count(part.total)} ${name}` : null);

export function coverage(build) {
  return (build.coverage ?? []).flatMap((one) => {
    const said = [covered(one.lines, 'lines'), covered(one.branches, 'branches'), covered(one.functions, 'functions')].filter(Boolean).join(' · ');
    const more = one.file_count - one.files.length;
    return [el('h2', null, `Coverage: ${one.stage}`), el('p', { class: 'soft' }, said, one.note ? `. ${one.note}` : ''),
      fold(`${plural(one.files.length, 'file')}, the least covered first`, table(`Coverage of ${one.stage}`, COVERAGE,
        one.files.map((file) => row(COVERAGE, [word(file.file, { class: 'path' }), share(file.lines), share(file.branches), share(file.functions)]))),
      more > 0 ? el('p', { class: 'soft' }, `and ${count(more)} more`) : '')];
  });
}

const [SEEN_LINES, SEEN_LETTERS] = [6, 900];
// What the agent was asked for: its first lines, the others behind a fold.
export function prompt(build) {
  if (!build.prompt) return [];
  const lines = build.prompt.split('\n');
  let seen = lines.slice(0, SEEN_LINES).join('\n');
  if (seen.length > SEEN_LETTERS) seen = seen.slice(0, SEEN_LETTERS).replace(/[\ud800-\udbff]$/, '');
  const rest = build.prompt.slice(seen.length).replace(/^\n/, '');
  const more = lines.length > SEEN_LINES ? `${plural(lines.length - SEEN_LINES, 'more line')}` : 'The rest';
  return [el('h2', null, 'What the agent was asked for'), el('div', { class: 'prompt', tabindex: 0, role: 'region', 'aria-label': 'What the agent was asked for' }, el('p', null, sentence(seen)),
    rest ? el('details', { class: 'fold' }, el('summary', null, more), el('p', null, sentence(rest))) : '')];
}

const fold = (title, ...children) => el('details', { class: 'fold', open: true }, el('summary', null, title), ...children);
