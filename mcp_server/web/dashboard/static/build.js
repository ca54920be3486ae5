// One build: its verdict first, then how it came to that.

import { ask, get, live, post, throttled } from './api.js';
import { badge, buildLink, duration, el, keepFocus, news, progress, row, size, table, when } from './dom.js';
import { MOST_NODES, drawGraph } from './graph.js';
import { LogView } from './log.js';
import { isTold, story, told } from './story.js';

const STAGES = ['Status', 'Stage', 'Round', 'Duration', 'Host', 'What came of it', 'Log'];
const FILES = ['File', 'Kind', 'Size', 'SHA-256'];
const TESTS = ['Result', 'Test', 'What', 'Where'];
const MOST_FILES = 200;
const MOST_TOLD = 500;

const isOpen = (status) => status === 'pending' || status === 'running' || status === 'waiting';
const took = (stage) => (stage.started_at ? (new Date(stage.ended_at ?? Date.now()) - new Date(stage.started_at)) / 1000 : null);
const reference = (stage) => `${stage.stage}:${stage.round}.${stage.attempt}`;
const logLink = (build, stage) => `#/build/${build.id}/log/${encodeURIComponent(reference(stage))}`;
const quoted = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

// The stage that decided, and its first mistake; what the service says comes before what could be guessed.
function cause(build) {
  const stage = build.stages.findLast((one) => reference(one) === build.decided_by) ?? null;
  return { stage, first: stage?.verdict?.diagnosis?.errors?.[0] ?? null, hints: stage?.verdict?.diagnosis?.hints ?? [] };
}

function verdict(build) {
  const lines = build.verdict.split('\n').filter((line) => !line.startsWith('more: '));
  const { stage, first, hints } = cause(build);
  const node = el('section', { class: `verdict ${build.status}`, 'aria-label': 'Verdict' });
  if (build.status !== 'failed') {
    node.append(el('p', { class: 'cause' }, lines[0]), lines.length > 1 ? el('pre', null, lines.slice(1).join('\n')) : '');
    return node;
  }
  const place = first?.file ? `${first.file}${first.line ? `:${first.line}` : ''}${first.column ? `:${first.column}` : ''}` : '';
  const more = lines.slice(1).filter((line) => !line.startsWith('hint: ') && !(first && (line.includes(first.message) || (first.source && line.includes(first.source)))));
  const excerpt = el('pre', { class: 'excerpt', tabindex: 0, role: 'region', 'aria-label': 'Log around the first cause' }, first?.source ?? '…');
  node.append(el('p', { class: 'cause', id: 'cause' }, first ? first.message : lines[1] ?? lines[0]),
    place ? el('p', { class: 'place' }, place, first.count > 1 ? ` (${first.count} times)` : '') : '',
    ...hints.map((hint) => el('p', null, el('strong', null, 'Next: '), hint)),
    el('p', { class: 'soft' }, lines[0]), stage?.job_id ? excerpt : '',
    more.length ? el('pre', null, more.join('\n')) : '');
  if (stage?.job_id) fillExcerpt(excerpt, build, stage, first).catch((error) => { excerpt.textContent = error.message; });
  return node;
}

async function fillExcerpt(node, build, stage, first) {
  const log = `/api/builds/${build.id}/log/${encodeURIComponent(reference(stage))}`;
  const text = async (query) => (await ask('GET', `${log}?${query}`)).text();
  const words = first && [first.file && first.line ? `${quoted(first.file.split('/').at(-1))}:${first.line}\\b.*error` : null, first.message ? quoted(first.message.slice(0, 40)) : null];
  for (const pattern of (words ?? []).filter(Boolean)) {
    const found = /^(\d+): /m.exec(await text(new URLSearchParams({ grep: pattern, max_bytes: 2000 })));
    if (!found) continue;
    const lines = (await text(`around=${found[1]}&max_bytes=16000`)).split('\n');
    const tail = quoted(first.file?.split('/').at(-1) ?? '');
    const here = lines.findIndex((line) => new RegExp(`${tail}:${first.line ?? ''}.*error`).test(line) || line.includes(first.message.slice(0, 30)));
    const shown = here < 0 ? lines : lines.slice(Math.max(0, here - 2), here + 7);
    node.replaceChildren(...shown.map((line) => (line === lines[here] ? el('mark', null, `${line.slice(0, 600)}\n`) : `${line.length > 160 ? `${line.slice(0, 159)}…` : line}\n`)));
    const mark = node.querySelector('mark');
    if (mark) node.scrollTop = mark.offsetTop - node.offsetTop - 24; // on a phone a compiler's command line would fill it
    return;
  }
  node.textContent = (await text('tail=12&max_bytes=8000')) || 'the log is empty';
}

function buttons(build, session) {
  if (session.scope === 'read') return '';
  const act = async (event, path, done) => {
    event.target.disabled = true;
    try { done(await post(path)); } catch (error) { news(error.message); event.target.disabled = false; }
  };
  if (isOpen(build.status)) {
    return el('button', { type: 'button', class: 'end', onclick: (event) => {
      if (confirm(`End build ${build.id} and all its processes?`)) act(event, `/api/builds/${build.id}/cancel`, () => news(`build ${build.id} is being ended`));
    } }, 'Cancel this build');
  }
  if (build.status === 'success') return '';
  return el('button', { type: 'button', class: 'main', onclick: (event) => act(event, `/api/builds/${build.id}/retry`, (made) => {
    news(`build ${made.build_id} is ${made.status}`);
    location.hash = `#/build/${made.build_id}`;
  }) }, 'Start again');
}

function facts(build) {
  const said = [build.project && `project ${build.project}`, build.name, build.target && `target ${build.target}`,
    build.commit_sha && `commit ${build.commit_sha.slice(0, 12)}`, build.branch && `branch ${build.branch}`, build.commit_author && `by ${build.commit_author}`,
    `started by ${build.triggered_by}`, `${duration(build.elapsed_s)}`, isOpen(build.status) && build.eta_s !== null && `about ${duration(build.eta_s)} left`];
  return el('p', { class: 'facts' }, ...said.filter(Boolean).map((one) => el('span', null, one)),
    build.retry_of ? el('span', null, 'again of ', buildLink(build.retry_of)) : '', el('span', null, when(build.completed_at ?? build.created_at)),
    build.commit_message ? el('span', null, build.commit_message.split('\n')[0]) : '');
}

function outcome(stage) {
  const step = stage.progress;
  if (stage.status === 'running' && step?.total) return el('span', null, progress(step.done, step.total, `progress of ${stage.stage}`), `${step.done} of ${step.total} ${step.message}`);
  const first = stage.verdict?.diagnosis?.errors?.[0];
  const said = first ? `${first.file ? `${first.file}:${first.line ?? ''} ` : ''}${first.message}` : stage.verdict?.summary || (stage.reason === 'exit' ? '' : stage.reason) || '';
  return said.length > 300 ? `${said.slice(0, 299)}…` : said;
}

function stageTable(build) {
  const rows = build.stages.map((stage) => row(STAGES, [badge(stage.status), stage.stage,
    `${stage.round}${stage.attempt > 1 ? `, attempt ${stage.attempt}` : ''}`, duration(took(stage)), stage.host, outcome(stage),
    stage.job_id ? el('a', { href: logLink(build, stage), 'aria-label': `Log of ${stage.stage}, round ${stage.round}, attempt ${stage.attempt}` }, 'log') : '–']));
  return rows.length ? table('Stages and their attempts', STAGES, rows) : el('p', { class: 'soft' }, 'No stage has begun.');
}

function waits(build) {
  if (build.status !== 'pending') return '';
  const held = build.blocked_by.map((lease) => el('p', null, `waits: ${lease.resource} is held by `, buildLink(lease.build)));
  return el('div', { class: 'card' }, ...(held.length ? held : [el('p', null, 'waits for its turn')]));
}

function files(build) {
  const listed = build.artifacts.slice(0, MOST_FILES);
  const path = (file) => `/api/builds/${build.id}/artifacts/${file.path.split('/').map(encodeURIComponent).join('/')}`;
  const rows = listed.map((file) => row(FILES, [el('a', { href: path(file), download: true }, file.path), file.kind, size(file.size), el('code', null, file.sha256.slice(0, 16))]));
  return rows.length ? [el('h2', null, `Files (${build.artifacts.length})`), table('Files it left', FILES, rows)] : [];
}

function tests(build) {
  const newest = new Map(build.stages.map((stage) => [stage.stage, stage]));
  const found = [...newest.values()].filter((stage) => stage.verdict?.details?.tests);
  if (!found.length) return [];
  return [el('h2', null, 'Tests'), ...found.flatMap((stage) => {
    const said = stage.verdict.details.tests;
    const counts = [['passed', said.passed], ['failed', said.failed], ['ignored', said.skipped]].filter(([, count]) => count);
    const cases = (said.cases ?? []).filter((one) => one.result === 'fail').slice(0, MOST_FILES);
    const rows = cases.map((one) => row(TESTS, [badge('failed'), one.suite ? `${one.suite}.${one.name}` : one.name,
      one.message ?? '', one.file ? el('code', null, `${one.file}:${one.line ?? ''}`) : '–']));
    return [el('p', null, `${stage.stage}: ${counts.map(([name, count]) => `${count} ${name}`).join(', ') || 'none ran'}`),
      rows.length ? table(`Failed tests of ${stage.stage}`, TESTS, rows) : ''];
  })];
}

function which(build, wanted) {
  if (wanted) return wanted;
  const logged = build.stages.filter((stage) => stage.job_id);
  const chosen = logged.findLast((stage) => stage.status === 'running') ?? logged.findLast((stage) => reference(stage) === build.decided_by) ?? logged.at(-1);
  return chosen ? reference(chosen) : null;
}

export async function buildView(place, session, id, wantedLog) {
  let build = await get(`/api/builds/${id}`);
  const [top, body, events] = [el('div', null), el('div', null), el('ul', { class: 'story' })];
  const logPlace = el('div', null);
  let [log, logOf] = [null, null];
  const wanted = wantedLog ? decodeURIComponent(wantedLog) : null;

  const showLog = async () => {
    const stage = which(build, wanted);
    if (!stage || stage === logOf || (log && !log.follows.checked)) return; // who reads is left where he is
    log?.stop();
    logOf = stage;
    log = new LogView(id, stage);
    logPlace.replaceChildren(el('h2', { id: 'log' }, `Log of ${stage}`), log.node);
    try { await log.begin(isOpen(build.status) || build.status === 'success'); } catch (error) { logPlace.append(el('p', { class: 'problem' }, error.message)); }
  };
  const figures = el('div', null);
  const drawTop = () => top.replaceChildren( // only where its status is another one: a button keeps its focus
    el('div', { class: 'head' }, el('h1', null, `Build ${build.id}`), badge(build.status), buttons(build, session)),
    figures, isOpen(build.status) ? '' : verdict(build));
  const drawFigures = () => keepFocus(figures, [facts(build), waits(build)]);
  const drawBody = () => keepFocus(body, [
    ...(build.graph.length > 1 && build.graph.length <= MOST_NODES ? [el('div', { class: 'graph', tabindex: 0, role: 'region', 'aria-label': 'Stage graph' }, drawGraph(build.graph, build.stages, build.round, isOpen(build.status)))] : []),
    el('h2', null, 'Stages'), stageTable(build)]);
  const rest = el('div', null);
  const drawRest = () => rest.replaceChildren(...tests(build), ...files(build));

  drawTop();
  drawFigures();
  drawBody();
  drawRest();
  place.append(top, body, logPlace, rest, el('h2', null, 'What happened'), events);
  showLog().then(() => { if (wanted) logPlace.scrollIntoView(); });
  const roles = build.graph.some((one) => one.role);
  story(id, roles).then((lines) => events.replaceChildren(...lines)).catch(() => {});
  const refresh = async () => {
    const before = build.status;
    build = await get(`/api/builds/${id}`);
    if (before !== build.status) {
      news(`build ${id}: ${build.status}`);
      drawTop();
    }
    drawFigures();
    drawBody();
    if (!isOpen(build.status)) drawRest();
    await showLog();
  };
  const soon = throttled(refresh, 250);
  const ticking = setInterval(() => { if (build.status === 'running') log?.more(); }, 1000);
  const off = live.on((event) => {
    if (event.build !== Number(id)) return;
    if (isTold(event, roles)) {
      events.append(told(event));
      while (events.childElementCount > MOST_TOLD) events.firstChild.remove();
    }
    log?.more();
    soon();
  });
  return () => { off(); soon.stop(); clearInterval(ticking); log?.stop(); };
}
