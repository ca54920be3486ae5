// The service's REST and its socket. Every answer that is no success is a Problem with one sentence.

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? `the service answered ${status}`);
    this.status = status;
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

// Events from now on, through breaks: after one it goes on behind the last event that was seen.
export class Live {
  constructor() {
    this.listeners = new Set();
    this.last = null;
    this.wait = 500;
    this.ended = false;
    this.socket = null;
  }

  start(told) {
    this.told = told ?? this.told;
    this.ended = false;
    if (this.socket) return;
    const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
    const after = this.last === null ? '' : `?after=${this.last}`;
    const socket = new WebSocket(`${scheme}//${location.host}/ws${after}`);
    this.socket = socket;
    let opened = false;
    socket.onopen = () => { opened = true; this.wait = 500; this.told?.(true); };
    socket.onmessage = (message) => {
      const event = JSON.parse(message.data);
      this.last = event.id;
      for (const listener of this.listeners) listener(event);
    };
    socket.onclose = () => {
      if (this.socket === socket) this.socket = null;
      this.told?.(false);
      if (this.ended) return;
      if (!opened) ask('GET', '/api/session').catch(() => {}); // a session that is over asks for a token
      setTimeout(() => { if (!this.ended) this.start(); }, this.wait);
      this.wait = Math.min(this.wait * 2, 15000);
    };
  }

  stop() {
    this.ended = true;
    this.socket?.close();
  }

  on(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}

export const live = new Live();

// Calls `work` now and then while it is asked for: at most one at a time, at most once in `ms`.
export function throttled(work, ms) {
  let [timer, running, again] = [0, false, false];
  const run = async () => {
    timer = 0;
    running = true;
    try { await work(); } catch { /* the next event asks again */ }
    running = false;
    if (again) { again = false; call(); }
  };
  const call = () => {
    if (running) again = true;
    else if (!timer) timer = setTimeout(run, ms);
  };
  call.stop = () => { clearTimeout(timer); timer = 0; again = false; };
  return call;
}
