// The service's REST and its socket. Every answer that is no success is a Problem with one sentence.

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? `the service answered ${status}`);
    this.status = status;
    this.type = body.type ?? '';
  }
}

export async function ask(method, path, body) {
  const headers = { 'X-Requested-With': 'build-orchestrator' };
  const init = { method, headers, credentials: 'same-origin' };
  if (body !== undefined) {
    headers['Content-Type'] = 'application/json';
    init.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, init);
  } catch {
    throw new Problem(0, { detail: 'the service does not answer' });
  }
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    if (answer.status === 401 && path !== '/api/login') document.dispatchEvent(new Event('login-needed'));
    throw new Problem(answer.status, said);
  }
  return answer;
}

export const get = async (path) => (await ask('GET', path)).json();
export const post = async (path, body) => (await ask('POST', path, body)).json();

export const del = async (path, body) => (await ask('DELETE', path, body)).json();

const MOST_MISSED = 5000; // events; beyond, what is shown is asked for anew

// Events since the page was opened, through breaks: after one it goes on behind the last event that was seen. Listeners
// get a `live.again` then, as what was asked for in between was not answered.
export class Live {
  constructor() {
    this.listeners = new Set();
    [this.last, this.wait, this.ended, this.socket, this.timer] = [null, 500, false, null, 0];
  }

  // `last`: the newest event when the page was opened; `told(there)`: whether it is connected.
  start(last, told) {
    this.last ??= last;
    this.told = told;
    this.ended = false;
    clearTimeout(this.timer);
    if (!this.socket) this.connect(false);
  }

  connect(again) {
    const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(`${scheme}//${location.host}/ws?after=${this.last}`);
    this.socket = socket;
    socket.onopen = () => {
      this.wait = 500;
      this.told(true);
      if (again) this.tell({ type: 'live.again', build: null });
    };
    socket.onmessage = (message) => {
      const event = JSON.parse(message.data);
      this.last = event.id;
      this.tell(event);
    };
    socket.onclose = () => {
      if (this.socket !== socket) return;
      this.socket = null;
      this.told(false);
      this.later();
    };
  }

  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.retry(), this.wait);
    this.wait = Math.min(this.wait * 2, 8000);
  }

  // A session that is over asks for a token; another store counts its events from one again.
  async retry() {
    if (this.ended || this.socket) return;
    try {
      const { last_event: newest } = await get('/api/session');
      if (newest < this.last || newest > this.last + MOST_MISSED) this.last = newest;
    } catch (error) {
      if (error.status !== 401) this.later();
      return;
    }
    if (!this.ended && !this.socket) this.connect(true);
  }

  tell(event) { for (const listener of this.listeners) listener(event); }

  stop() {
    this.ended = true;
    clearTimeout(this.timer);
    this.socket?.close();
    this.socket = null;
  }

  on(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}

export const live = new Live();

const AGAIN_MS = 1000; // after a failure, then twice as long each time
const MOST_MS = 30000;
const behind = new Map(); // what could not be asked for anew, and why

function tell(call, why) {
  if (why ? behind.get(call) === why : !behind.delete(call)) return;
  if (why) behind.set(call, why);
  document.dispatchEvent(new CustomEvent('behind', { detail: [...behind.values()][0] ?? '' }));
}

// Whether asking once more can help: the service is away, busy, or has a fault that passes.
export const passes = (error) => error.status === undefined || error.status === 0 || error.status === 429 || error.status >= 500;

// Calls `work` now and then while it is asked for: at most one at a time, at most once in `ms`; where it fails again by
// itself, after pauses that grow, and the page says that what it shows may be old. `stop` is for good.
export function throttled(work, ms) {
  let [timer, running, again, stopped, pause] = [0, false, false, false, 0];
  const run = async () => {
    timer = 0;
    running = true;
    let failed = null;
    try { await work(); } catch (error) { failed = error; }
    running = false;
    if (stopped) return;
    pause = failed && passes(failed) ? Math.min(pause ? pause * 2 : AGAIN_MS, MOST_MS) : 0;
    tell(call, failed && failed.status !== 401 ? failed.message : '');
    if (pause) timer = setTimeout(run, pause);
    else if (again) timer = setTimeout(run, ms);
    again = false;
  };
  const call = () => {
    if (stopped) return;
    if (running) again = true;
    else if (!timer) timer = setTimeout(run, ms);
  };
  call.stop = () => { stopped = true; clearTimeout(timer); tell(call, ''); };
  return call;
}
