// Why a build does not go on: its place in the queue, when it is expected to start, and who holds what it wants.

import { buildLink, el, plural, resource, when, sentence } from './dom.js';

export function held(lease) {
  return [`${resource(lease.resource)} is held by `, buildLink(lease.build)];
}

// A pending build's place as one line; "" where the service says none.
export function place(build) {
  const queue = build.queue;
  if (!queue) return '';
  return el('span', null, el('strong', null, `${queue.position} of ${queue.of}`), ' in the queue', queue.expected_start ? [', starts ', start(queue.expected_start, 'about ')] : '');
}

export function start(text, about = '') {
  const wait = Math.max(0, (new Date(text) - Date.now()) / 1000);
  if (wait < 60) return el('time', { datetime: text }, 'within a minute');
  if (wait < 5400) return el('time', { datetime: text, title: new Date(text).toLocaleString() }, `in ${about}${plural(Math.round(wait / 60), 'minute')}`);
  return when(text);
}

// What a build waits for, as paragraphs. Running ones may wait, too: a stage of theirs for a slot or a board.
export function waits(build) {
  const leases = build.blocked_by.filter((lease) => lease.build !== build.id);
  const reason = build.queue?.reason ?? build.idle ?? (build.status === 'pending' && !leases.length ? 'waits for its turn' : '');
  return [build.status === 'pending' ? el('p', null, place(build)) : null,
    reason ? el('p', { class: 'soft' }, sentence(reason)) : null,
    ...(leases.length && !build.queue?.reason ? leases.slice(0, 3).map((lease) => el('p', { class: 'soft' }, 'waits: ', held(lease))) : [])].filter((one) => one?.textContent);
}
