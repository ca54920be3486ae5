// Hosts and what is held there.

import { get, live, throttled } from './api.js';
import { buildLink, el, row, size, table, when } from './dom.js';

const HEADS = ['What', 'Build', 'Stage', 'For', 'Since'];

function hostCard(host) {
  const facts = host.facts;
  const held = [...host.held, ...host.boards].map((lease) => row(HEADS, [lease.resource, buildLink(lease.build), lease.stage ?? '–', lease.reason, when(lease.taken_at)]));
  const slots = host.held.filter((lease) => lease.resource === `host:${host.name}`).length;
  return el('section', { class: 'card', 'aria-label': `host ${host.name}` },
    el('p', { class: 'head' }, el('strong', null, host.name),
      el('span', { class: `badge ${host.trouble ? 'failed' : 'success'}` }, host.trouble ? '✗ in trouble' : '✓ reachable'),
      ...host.tags.map((tag) => el('span', { class: 'badge' }, tag))),
    host.purpose ? el('p', null, host.purpose) : '',
    host.trouble ? el('p', { class: 'problem' }, host.trouble) : '',
    el('p', { class: 'facts' }, el('span', null, `${slots} of ${host.slots} slots in use`),
      facts ? el('span', null, facts.system) : '', facts ? el('span', null, `load ${facts.load.join(' ')} on ${facts.cpus} CPUs`) : '',
      facts ? el('span', null, `${size(facts.disk_free)} of ${size(facts.disk_total)} disk free`) : '',
      facts?.memory_free ? el('span', null, `${size(facts.memory_free)} memory free`) : ''),
    ...(facts?.warnings ?? []).map((said) => el('p', { class: 'problem' }, said)),
    held.length ? table(`What builds hold on ${host.name}`, HEADS, held) : el('p', { class: 'soft' }, 'No build holds anything here.'));
}

export async function hostsView(place) {
  const cards = el('div', { class: 'cards' }, el('p', { class: 'soft' }, 'Looking at the hosts…'));
  place.append(el('h1', null, 'Hosts and boards'), cards);
  const draw = async (check) => {
    const hosts = await get(`/api/hosts?check=${check}`);
    cards.replaceChildren(...hosts.map(hostCard));
  };
  await draw(false); // what is held is known at once, what a host says takes its time
  draw(true).catch(() => {});
  const soon = throttled(() => draw(true), 1500);
  const off = live.on((event) => { if (event.type.startsWith('lease.')) soon(); });
  return () => { off(); soon.stop(); };
}
