// A build's events, told: one line each, without what only programs need.

import { get } from './api.js';
import { clock, el } from './dom.js';

const TELL = {
  'build.status': (e) => `the build is ${e.status}${e.reason ? ` (${e.reason})` : ''}`,
  'stage.status': (e) => `${e.stage}${e.round > 1 ? `, round ${e.round}` : ''}${e.attempt > 1 ? `, attempt ${e.attempt}` : ''}: ${e.status}${e.reason ? ` (${e.reason})` : ''}`,
  'stage.diagnostic': (e) => `${e.stage}: ${e.file ? `${e.file}:${e.line ?? ''} ` : ''}${e.severity}: ${e.message}`,
  'agent.status': (e) => `agent ${e.agent ?? e.role ?? ''}: ${e.status ?? ''} ${e.message ?? ''}`,
  'workflow.completed': (e) => `over: ${e.success ? 'it succeeded' : 'it did not succeed'}`,
};
const UNSAID = /^(?:lease\.|workflow\.progress$|workflow\.started$|stage\.progress$)/;

export const isTold = (event) => !UNSAID.test(event.type);

export function told(event) {
  const said = TELL[event.type]?.(event) ?? `${event.type} ${event.message ?? event.text ?? event.summary ?? ''}`;
  return el('li', null, el('span', { class: 'soft' }, `${clock(event.ts)} `), said);
}

export async function story(build) {
  const events = await get(`/api/builds/${build}/events`);
  return events.filter(isTold).map(told);
}
