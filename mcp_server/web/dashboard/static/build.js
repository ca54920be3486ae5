// One build: its verdict first, then how it came to that.

import { get, live, post, throttled } from './api.js';
import { badge, buildLink, confirmed, count, duration, el, keepFocus, keyed, may, news, progress, row, table, when, sentence, word } from './dom.js';
import { MOST_NODES, drawGraph, notRun } from './graph.js';
import { LogView } from './log.js';
import { comparison, compile, coverage, files, prompt, tests } from './parts.js';
import { isTold, story, told } from './story.js';
import { reference, verdict } from './verdict.js';
import { waits } from './waits.js';

const STAGES = ['Status', 'Stage', 'Round', 'Duration', 'Host', 'What came of it', 'Log'];
const MOST_TOLD = 500;

const isOpen = (status) => status === 'pending' || status === 'running' || status === 'waiting';
const took = (stage) => (stage.started_at ? Math.max(0, (new Date(stage.ended_at ?? Date.now()) - new Date(stage.started_at)) / 1000) : null);
const logLink = (build, stage) => `#/build/${build.id}/log/${encodeURIComponent(reference(stage))}`;

function buttons(now, session) {
  if (!may(session, 'build')) return '';
  const build = now();
  const act = async (event, path, done) => {
    const button = event.target;
    button.disabled = true;
    try { done(await post(path)); } catch (error) { news(error.message); button.disabled = false; }
  };
  if (isOpen(build.status)) {
    return el('button', { type: 'button', class: 'end right', onclick: async (event) => {
      const [idle, box] = [now().idle, el('input', { type: 'checkbox' })];
      const away = idle ? [el('p', null, 'Nobody works on it now: ', sentence(idle)), el('p', null, el('label', null, box, 'do not wait for a machine that is away; what runs there may run on'))] : [];
      if (await confirmed(`Cancel build ${build.id}?`, 'All its processes are ended, on every host.', 'Cancel the build', away))
        act(event, `/api/builds/${build.id}/cancel${box.checked ? '?force=true' : ''}`, () => news(`build ${build.id} is being ended`));
    } }, 'Cancel this build');
  }
  if (build.status === 'success') return '';
  return el('button', { type: 'button', class: 'main right', onclick: (event) => act(event, `/api/builds/${build.id}/retry`, (made) => {
    news(`build ${made.build_id} is ${made.status}`);
    location.hash = `#/build/${made.build_id}`;
  }) }, 'Start again');
}

function facts(build) {
  const pair = (name, ...value) => el('div', null, el('dt', null, name), el('dd', null, ...value));
  const left = isOpen(build.status) && build.eta_s !== null;
  return el('dl', { class: 'facts' }, build.project ? pair('Project', word(build.project)) : '', pair('Name', word(build.name)), build.target ? pair('Target', word(build.target)) : '',
    build.branch ? pair('Branch', word(build.branch)) : '', build.commit_sha ? pair('Commit', el('code', { title: build.commit_sha }, build.commit_sha.slice(0, 10))) : '',
    build.commit_author ? pair('By', word(build.commit_author)) : '', pair('Started by', word(build.triggered_by)),
    pair('Took', el('span', { class: 'number' }, duration(build.elapsed_s)), left ? `, about ${duration(build.eta_s)} left` : ''), pair(build.completed_at ? 'Ended' : 'Ordered', when(build.completed_at ?? build.created_at)),
    build.retry_of ? pair('Again of', buildLink(build.retry_of)) : '');
}

function outcome(build, stage) {
  const step = stage.progress;
  if (stage.status === 'running' && step?.total) return el('span', null, progress(step.done, step.total, `progress of ${stage.stage}`), word(`${count(step.done)} of ${count(step.total)} ${step.message}`));
  const first = stage.verdict?.diagnosis?.errors?.[0];
  const said = first ? `${first.file ? `${first.file}:${first.line ?? ''} ` : ''}${first.message}` : stage.verdict?.summary || notRun(build.graph, build.stages, stage) || (stage.reason === 'exit' ? '' : stage.reason) || '';
  return said ? sentence(said.length > 300 ? `${said.slice(0, 299)}…` : said) : '';
}

// A commit says what was made; where an agent is to make it, the newest commit is about something else.
const headline = (build) => (build.prompt ?? build.commit_message ?? '').trim().split('\n')[0];

const stageRow = (build) => (stage) => row(STAGES, [badge(stage.status), word(stage.stage),
  `${stage.round}${stage.attempt > 1 ? `, attempt ${stage.attempt}` : ''}`, duration(took(stage)), word(stage.host), outcome(build, stage),
  stage.job_id ? el('a', { href: logLink(build, stage), 'aria-label': `Log of ${stage.stage}, round ${stage.round}, attempt ${stage.attempt}` }, 'log') : '–']);

function which(build, wanted) {
  if (wanted) return wanted;
  const logged = build.stages.filter((stage) => stage.job_id);
  const chosen = logged.findLast((stage) => stage.status === 'running') ?? logged.findLast((stage) => reference(stage) === build.decided_by) ?? logged.at(-1);
  return chosen ? reference(chosen) : null;
}

export async function buildView(place, session, id, wantedLog) {
  let build = await get(`/api/builds/${id}`);
  const [top, figures, rest, logPlace, events] = [el('div', null), el('div', null), el('div', null), el('div', null), el('ol', { class: 'story' })];
  const graph = el('div', { class: 'graph', tabindex: 0, role: 'region', 'aria-label': 'Stage graph' });
  const stages = table('Stages and their attempts', STAGES, [], { class: 'stages' });
  const none = el('p', { class: 'soft empty' }, 'No stage has begun.');
  let [log, logOf] = [null, null];
  const wanted = wantedLog ? decodeURIComponent(wantedLog) : null;

  const showLog = async () => {
    const stage = which(build, wanted);
    if (!stage || stage === logOf || (log && !log.follows.checked)) return; // who reads is left where he is
    log?.stop();
    logOf = stage;
    log = new LogView(id, stage);
    const row = build.stages.find((one) => reference(one) === stage);
    const which_ = row && (row.round > 1 || row.attempt > 1) ? `, round ${row.round}${row.attempt > 1 ? `, attempt ${row.attempt}` : ''}` : '';
    logPlace.replaceChildren(el('h2', { id: 'log' }, 'Log of ', word(row?.stage ?? stage), which_), log.node);
    try { await log.begin(isOpen(build.status) || build.status === 'success'); } catch (error) { logPlace.append(el('p', { class: 'problem' }, error.message)); }
  };
  const drawTop = () => top.replaceChildren( // only where its status is another one: a button keeps its focus
    el('div', { class: 'head' }, el('h1', null, `Build ${build.id}`), badge(build.status), buttons(() => build, session)),
    ...(headline(build) ? [el('p', { class: 'message' }, word(headline(build)))] : []), figures,
    ...(isOpen(build.status) ? [] : [verdict(build)]));
  const drawFigures = () => {
    const wait = isOpen(build.status) && (build.idle || !build.stages.some((one) => one.status === 'running')) ? waits(build) : [];
    keepFocus(figures, [facts(build), wait.length ? el('div', { class: 'card' }, ...wait) : '']);
  };
  let drawn = '';
  const drawBody = () => {
    graph.hidden = build.graph.length < 2 || build.graph.length > MOST_NODES;
    const said = JSON.stringify([build.status, build.round, build.stages.map((one) => [one.stage, one.status, one.round, one.ended_at])]);
    if (!graph.hidden && said !== drawn) graph.replaceChildren(drawGraph(build.graph, build.stages, build.round, isOpen(build.status)));
    drawn = said;
    stages.hidden = !build.stages.length;
    none.hidden = !stages.hidden;
    const open = (one) => (one.status === 'running' ? { ...one, now: Math.floor(Date.now() / 1000) } : one);
    keyed(stages.tBodies[0], build.stages.map(open), reference, stageRow(build));
  };
  const drawRest = () => keepFocus(rest, [...tests(build), ...coverage(build), ...compile(build), ...files(build)]);

  const other = el('div', null);
  const drawOther = () => { if (!isOpen(build.status) && build.artifacts.length && !other.childElementCount) other.append(comparison(build)); };

  drawTop();
  drawFigures();
  drawBody();
  drawRest();
  drawOther();
  place.append(top, ...prompt(build), graph, el('h2', null, 'Stages'), stages, none, logPlace, rest, other, el('h2', null, 'What happened'), events);
  showLog().then(() => { if (wanted) logPlace.scrollIntoView(); });
  const roles = build.graph.some((one) => one.role);
  story(id, roles).then((lines) => events.replaceChildren(...lines)).catch(() => {});
  const refresh = async () => {
    const before = build.status;
    build = await get(`/api/builds/${id}`);
    if (before !== build.status) {
      news(`build ${id}: ${build.status}`);
      drawTop();
      drawOther();
    }
    drawFigures();
    drawBody();
    if (!isOpen(build.status)) drawRest();
    await showLog();
  };
  const soon = throttled(refresh, 250);
  const ticking = setInterval(() => { if (build.status === 'running' && !document.hidden) log?.more(); }, 1000);
  const off = live.on((event) => {
    if (event.type === 'live.again') soon();
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
