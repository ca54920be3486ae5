// Hosts and boards, and who holds them.

import { get, live, throttled } from './api.js';
import { buildLink, count, el, keyed, level, plural, resource, row, size, table, when, sentence, word } from './dom.js';

const WORKERS = ['Worker', 'State', 'Builds', 'Version', 'Last heard of'];
const STATES = { serving: 'is there', leaving: 'is leaving', away: 'not heard of any more' };
const HEADS = ['What', 'Build', 'Stage', 'Since'];

// How much of something is used: a bar, and the same in words.
function gauge(name, used, total, said) {
  const part = total ? Math.min(1, used / total) : 0;
  return el('div', { class: `gauge${part > 0.9 ? ' full' : ''}` }, el('span', null, name), level(part), el('span', { class: 'soft' }, said));
}

function gauges(host) {
  const facts = host.facts;
  const slots = host.held.filter((lease) => lease.resource === `host:${host.name}`).length;
  const found = [gauge('Slots', slots, host.slots, `${slots} of ${host.slots} in use`)];
  if (facts?.cpus) found.push(gauge('Load', facts.load[0], facts.cpus, `${facts.load[0].toFixed(1)} on ${plural(facts.cpus, 'CPU')}`));
  if (facts?.disk_total) found.push(gauge('Disk', facts.disk_total - facts.disk_free, facts.disk_total, `${size(facts.disk_free)} of ${size(facts.disk_total)} free`));
  return el('div', { class: 'gauges' }, found);
}

function state(host) {
  if (host.trouble) return el('span', { class: 'badge failed' }, el('span', { 'aria-hidden': 'true' }, '✗'), ' not reachable');
  if (host.facts) return el('span', { class: 'badge success' }, el('span', { 'aria-hidden': 'true' }, '✓'), ' reachable');
  return el('span', { class: 'badge pending' }, el('span', { 'aria-hidden': 'true' }, '◷'), ' looking…');
}

function hostCard(host) {
  const facts = host.facts;
  const held = [...host.held, ...host.boards].map((lease) => row(HEADS, [word(resource(lease.resource)), buildLink(lease.build), lease.stage ? word(lease.stage) : '–', when(lease.taken_at)]));
  const said = [facts?.system, facts?.memory_free ? `${size(facts.memory_free)} memory free` : '', facts ? `answers in ${count(Math.round(facts.latency_s * 1000))} ms` : '',
    ...(facts?.other_builds ?? []).map((one) => `also builds here: ${one.name}${one.count > 1 ? ` × ${one.count}` : ''}`)].filter(Boolean);
  return el('li', { class: 'card host' },
    el('h2', { class: 'head' }, word(host.name), state(host), ...host.tags.map((tag) => el('span', { class: 'badge' }, word(tag)))),
    host.purpose ? el('p', null, word(host.purpose)) : '',
    host.trouble ? el('p', { class: 'problem' }, sentence(host.trouble)) : '',
    gauges(host),
    said.length ? el('p', { class: 'facts' }, ...said.map((one) => el('span', null, word(one)))) : '',
    ...(facts?.warnings ?? []).map((one) => el('p', { class: 'problem' }, sentence(one))),
    held.length ? table(`What builds hold on ${host.name}`, HEADS, held) : el('p', { class: 'soft' }, 'No build holds anything here.'));
}

const workerRow = (one) => row(WORKERS, [word(one.name), el('span', null, STATES[one.state] ?? one.state, one.leads && one.machine ? ', leads' : '', one.differs.length ? el('div', { class: 'problem' }, `its config.yaml differs in ${one.differs.join(', ')}`) : ''), count(one.builds), word(one.version), one.seen_at ? when(one.seen_at) : 'now']);

export async function hostsView(place) {
  const [crew, said] = [table('Workers', WORKERS, []), el('p', { class: 'soft' })];
  const workers = async () => {
    const found = await get('/api/workers').catch(() => null);
    if (!found || over) return;
    said.textContent = `${found.text}.`;
    crew.hidden = !found.workers.length;
    keyed(crew.tBodies[0], found.workers, (one) => `${one.machine}/${one.name}/${one.started_at}`, workerRow);
  };
  const cards = el('ul', { class: 'cards' });
  const hosts = new Map();
  let over = false;
  const draw = () => { if (!over) keyed(cards, [...hosts.values()], (one) => one.name, hostCard); };
  // What is held is known at once. What a host says takes its time, and none waits for another one.
  const look = async () => {
    const found = await get('/api/hosts?check=false');
    for (const one of found) hosts.set(one.name, { ...one, facts: hosts.get(one.name)?.facts ?? null, trouble: hosts.get(one.name)?.trouble ?? null });
    draw();
    await Promise.all(found.map(async ({ name }) => {
      const [one] = await get(`/api/hosts?check=true&name=${encodeURIComponent(name)}`).catch(() => []);
      if (one) { hosts.set(name, one); draw(); }
    }));
  };
  const first = look();
  await Promise.race([first, new Promise((done) => { setTimeout(done, 300); })]);
  first.catch(() => {});
  await workers();
  place.append(el('h1', null, 'Hosts and boards'), cards, el('h2', null, 'Workers'), said, crew);
  const soon = throttled(look, 1500);
  const ticking = setInterval(() => { if (!document.hidden) workers(); }, 5000);
  const off = live.on((event) => { if (event.type.startsWith('lease.') || event.type === 'live.again') soon(); });
  return () => { over = true; off(); soon.stop(); clearInterval(ticking); };
}
