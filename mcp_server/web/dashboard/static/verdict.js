// What a build came to, said first: the cause of a failure, where it is, what to do, and the log around it.

import { ask } from './api.js';
import { el, sentence, word } from './dom.js';
import { MISTAKE } from './log.js';

const SHOWN = 110; // letters of a line beside the one that matters: a compiler's command line would fill the excerpt
const quoted = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
export const reference = (stage) => `${stage.stage}:${stage.round}.${stage.attempt}`;

// The stage that decided, and its first mistake; what the service says comes before what could be guessed.
function cause(build) {
  const stage = build.stages.findLast((one) => reference(one) === build.decided_by) ?? null;
  return { stage, first: stage?.verdict?.diagnosis?.errors?.[0] ?? null, hints: stage?.verdict?.diagnosis?.hints ?? [] };
}

export function verdict(build) {
  const lines = build.verdict.split('\n').filter((line) => !line.startsWith('more: '));
  const { stage, first, hints } = cause(build);
  const node = el('section', { class: `verdict ${build.status}`, 'aria-label': 'Verdict' });
  if (build.status !== 'failed') {
    node.append(el('p', { class: 'cause' }, sentence(lines[0])), lines.length > 1 ? el('pre', null, lines.slice(1).join('\n')) : '');
    return node;
  }
  const place = first?.file ? `${first.file}${first.line ? `:${first.line}` : ''}${first.column ? `:${first.column}` : ''}` : '';
  const said = first ? first.message : lines[1] ?? lines[0];
  const upTo = lines.findIndex((line) => line === 'its last lines:'); // they are in the excerpt
  const more = (upTo > 0 ? [...lines.slice(1, upTo), ...lines.slice(upTo + 1).filter((line) => !line.startsWith('  '))] : lines.slice(1)).filter((line) => line !== said).filter((line) => !line.startsWith('hint: ') && !(first && (line.includes(first.message) || (first.source && line.includes(first.source)))));
  const excerpt = el('pre', { class: 'excerpt', tabindex: 0, role: 'region', 'aria-label': 'Log around the first cause' }, first?.source ?? '…');
  node.append(el('p', { class: 'cause', id: 'cause' }, sentence(said)),
    place ? el('p', { class: 'place' }, word(place), first.count > 1 ? ` (${first.count} times)` : '') : '',
    ...hints.map((hint) => el('p', null, el('strong', null, 'Next: '), sentence(hint))),
    el('p', { class: 'soft' }, sentence(lines[0])), stage?.job_id ? excerpt : '',
    more.length ? el('pre', null, more.join('\n')) : '');
  if (stage?.job_id) fillExcerpt(excerpt, build, stage, first).catch((error) => { excerpt.textContent = error.message; });
  return node;
}

// What to look for in the log: the place and the words of the first cause, else whatever looks like a mistake.
function searches(first) {
  const place = first?.file && first.line ? `${quoted(first.file.split('/').at(-1))}:${first.line}\\b.*error` : null;
  return [place, first?.message ? quoted(first.message.slice(0, 40)) : null, first ? null : MISTAKE].filter(Boolean);
}

async function fillExcerpt(node, build, stage, first) {
  const log = `/api/builds/${build.id}/log/${encodeURIComponent(reference(stage))}`;
  const text = async (query) => (await ask('GET', `${log}?${query}`)).text();
  for (const pattern of searches(first)) {
    const found = /^(\d+): /m.exec(await text(new URLSearchParams({ grep: pattern, max_bytes: 2000 })));
    if (!found) continue;
    const lines = (await text(`around=${found[1]}&max_bytes=16000`)).split('\n');
    const here = lines.findIndex((line) => line.startsWith(found[0]));
    const shown = lines.slice(Math.max(0, here - 2), here + 8);
    const short = (line) => (line.length > SHOWN ? `${line.slice(0, SHOWN - 1)}…` : line);
    node.replaceChildren(...shown.map((line) => (line === lines[here] ? el('mark', null, `${line.slice(0, 600)}\n`) : el('span', null, `${short(line)}\n`))));
    const mark = node.querySelector('mark');
    if (mark && mark.offsetTop + mark.offsetHeight > node.clientHeight) node.scrollTop = mark.offsetTop - 24;
    return;
  }
  node.replaceChildren(el('span', null, (await text('tail=12&max_bytes=8000')) || 'the log is empty'));
}
