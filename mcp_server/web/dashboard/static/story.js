// A build's events, told: one line each, without what only programs need.

import { get } from './api.js';
import { clock, el, sentence } from './dom.js';

const WORDS = { dependency: 'not run: an earlier stage failed' };
const why = (e) => (e.reason && e.reason !== 'exit' ? ` (${WORDS[e.reason] ?? e.reason})` : '');

const TELL = {
  'build.status': (e) => `the build is ${e.status}${why(e)}`,
  'stage.status': (e) => `${e.stage}${e.round > 1 ? `, round ${e.round}` : ''}${e.attempt > 1 ? `, attempt ${e.attempt}` : ''}: ${e.status}${why(e)}`,
  'stage.diagnostic': (e) => `${e.stage}: ${e.file ? `${e.file}:${e.line ?? ''} ` : ''}${e.severity}: ${e.message}`,
  'agent.status': (e) => `${e.agent ?? 'agent'} ${e.status ?? ''}${e.round > 1 ? `, round ${e.round}` : ''}: ${e.task ?? e.message ?? ''}`,
  'artifact.stored': (e) => `${e.stage} left ${e.path}`,
  'workflow.completed': (e) => `over: ${e.success ? 'it succeeded' : 'it did not succeed'}`,
};
const UNSAID = /^(?:lease\.|workflow\.progress$|workflow\.started$|stage\.progress$)/;

// Where stages have roles, what a role says has its stage's status in it.
export const isTold = (event, roles) =>
  !UNSAID.test(event.type) && !(roles ? event.type === 'stage.status' : event.type === 'agent.status') && event.status !== 'idle';

export function told(event) {
  const said = TELL[event.type]?.(event) ?? `${event.type} ${event.message ?? event.text ?? event.summary ?? ''}`;
  return el('li', null, el('time', { class: 'soft', datetime: event.ts }, clock(event.ts)), sentence(said));
}

export async function story(build, roles) {
  const events = await get(`/api/builds/${build}/events`);
  return events.filter((event) => isTold(event, roles)).map(told);
}
