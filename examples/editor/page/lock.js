// The lock of one document: who has it, live, and how this page gets it, keeps it and gives it back.
//
// What the page believes of its own lock it believes for good reasons only. It counts from before a request was sent, so
// that its reckoning is never later than the server's; when that time is up and no answer came, it says so (`lapsed`);
// and only the server's word ends it (`lost`).
//
// Events: `change` when there is something else to show; `news` for what others did, `renewed` when they are still at it;
// `lost` when this page's own lock is gone, with who did it and why; `signed-out`; `tick` a few times a second.

import { now, pause, send, timeOfDay } from './send.js';

// Without a stream the server is asked so often; with one, only to see whether the stream is still alive.
const POLL = 2000;
const CHECK = 15000;
const RETRY = 1000;
// So much earlier than it has to, the page stops to believe in its lock; or by a quarter of a short life.
const MARGIN = 1000;

const LIVE = ['locked', 'refreshed', 'breaking'];
const ENDED = ['broken', 'released', 'expired', 'replaced', 'gone'];

export class DocumentLock extends EventTarget {
  locks = []; // of this document, as the server shows them, each with `until` by our clock, and `end` by the one on the wall
  known = false; // whether the server said anything yet
  link = 'up';
  hold = null; // our own: { token, id, lifetime, until, end, next, lapsed, breaking }
  #user;
  #url;
  #stream = null;
  #proposed = null; // the token of an acquire that is under way
  #checking = null;
  #checkAgain = false;
  #nextCheck = 0;
  #beating = false;
  #paused = false;

  constructor(id, user) {
    super();
    this.#user = user;
    this.#url = `/locks/docs/${encodeURIComponent(id)}`;
    new Worker('/page/tick.js').onmessage = () => this.#tick();
    // A hint to look now. Whether it is true, only a request tells.
    for (const hint of ['online', 'offline']) addEventListener(hint, () => this.#look());
    this.resume();
  }

  // The lock of somebody else, or of ours in another window.
  get other() {
    return this.locks.find((lock) => lock.lock_id !== this.hold?.id) ?? null;
  }

  // --- watching ----------------------------------------------------------------------------------------------------

  // A tab that nobody looks at needs no stream: a browser has six connections to a server, for all its tabs.
  sleep() {
    this.#paused = true;
    this.#closeStream();
  }

  resume() {
    this.#paused = false;
    this.#openStream();
    this.check();
  }

  #openStream() {
    if (this.#stream || this.#paused) return;
    const stream = new EventSource(this.#url);
    this.#stream = stream;
    stream.addEventListener('snapshot', ({ data }) => this.#see(JSON.parse(data).locks));
    // The store is away: what is shown may be old.
    stream.addEventListener('unavailable', () => this.check());
    for (const kind of [...LIVE, ...ENDED]) stream.addEventListener(kind, ({ data }) => this.#hear(kind, JSON.parse(data)));
    stream.onerror = () => {
      // The browser tries again by itself, unless the answer was no stream.
      if (stream.readyState === EventSource.CLOSED) this.#closeStream();
      this.check();
    };
  }

  #closeStream() {
    this.#stream?.close();
    this.#stream = null;
  }

  get #isStreaming() {
    return this.#stream?.readyState === EventSource.OPEN;
  }

  #hear(kind, { lock, by, reason }) {
    const others = this.locks.filter(({ lock_id }) => lock_id !== lock.lock_id);
    const mine = this.hold?.id === lock.lock_id;
    // An answer that is on its way may be older than this.
    if (this.#checking) this.#checkAgain = true;
    if (mine && kind === 'breaking') this.#breaking({ by, reason });
    if (kind === 'refreshed') this.#tell('renewed');
    else this.#tell('news', { kind, lock, by, reason });
    this.#see(ENDED.includes(kind) ? others : [...others, lock]);
  }

  // Asks what is locked.
  async check() {
    if (this.#checking) {
      this.#checkAgain = true;
      return this.#checking;
    }
    this.#nextCheck = now() + (this.#isStreaming ? CHECK : POLL);
    this.#checking = this.#ask();
    await this.#checking;
    this.#checking = null;
    if (this.#checkAgain) {
      this.#checkAgain = false;
      await this.check();
    }
  }

  async #ask() {
    try {
      const { status, body } = await send('GET', this.#url, { patience: 3000 });
      if (status === 401) return this.#tell('signed-out');
      if (status !== 200) return this.#setLink('down');
      this.#see(body.locks);
      this.#openStream();
    } catch {
      // A stream that hangs in the air says nothing, and an open one does not say that it hangs.
      this.#closeStream();
      this.#setLink('down');
    }
  }

  #see(locks) {
    const at = now();
    this.known = true;
    this.#setLink('up');
    const ends = ({ expires_in }) => until(expires_in == null ? Infinity : at + expires_in * 1000);
    this.locks = locks.map((lock) => ({ ...ends(lock), ...lock }));
    const own = this.hold && this.locks.find((lock) => lock.lock_id === this.hold.id);
    if (own?.state === 'breaking') this.#breaking({ at: own.until });
    // It is gone, and why, our heartbeat is told.
    if (this.hold && !own) this.beat();
    this.#tell('change');
  }

  // --- our own -----------------------------------------------------------------------------------------------------

  // Asks for the lock: `{ granted: true }`, or why not, as the server put it. Throws where no answer can be had.
  //
  // The page proposes the token, so that a request whose answer was lost can be sent again, and one that came too late
  // can be undone before it arrives.
  async start({ replaces, wait, signal } = {}) {
    const token = newToken();
    this.#proposed = token;
    try {
      for (let attempt = 1; ; attempt++) {
        const sent = now();
        try {
          const { status, body } = await send('PUT', this.#url, {
            json: { token, ...(replaces ? { replaces } : {}) },
            headers: wait ? { Prefer: `wait=${wait}` } : {},
            patience: 8000 + (wait ?? 0) * 1000,
            signal,
          });
          if (status >= 500) throw new Error(`the server answers ${status}`);
          if (status >= 300) return { granted: false, status, ...body };
          return this.#have(body, token, sent);
        } catch (error) {
          if (attempt === 3 || signal?.aborted) {
            this.#giveBack(token);
            this.#setLink(signal?.aborted ? this.link : 'down');
            throw error;
          }
          await pause(attempt * 400);
        }
      }
    } finally {
      this.#proposed = null;
    }
  }

  // Takes what somebody handed over.
  async claim() {
    const sent = now();
    const { status, body } = await send('POST', this.#url, { json: { action: 'claim' } });
    if (status !== 200) return { granted: false, status, ...body };
    return this.#have(body, body.token, sent);
  }

  #have(lock, token, sent) {
    if (lock.owner?.id !== this.#user) {
      // In this browser, in another window: what is typed here is not to be saved in their name.
      this.#giveBack(token);
      return { granted: false, detail: 'Somebody else is signed in by now.' };
    }
    const left = lock.expires_in * 1000;
    const lifetime = Math.max(Date.parse(lock.expires_at) - Date.parse(lock.created_at), 1000);
    const next = sent + lifetime / 3;
    this.hold = { token, id: lock.lock_id, lifetime, ...until(sent + left), next, lapsed: false, breaking: null };
    this.#setLink('up');
    this.#tell('change');
    this.check();
    return { granted: true };
  }

  // The heartbeat.
  async beat() {
    const hold = this.hold;
    if (!hold || this.#beating) return;
    this.#beating = true;
    const sent = now();
    hold.next = sent + RETRY;
    try {
      const headers = { 'Lock-Token': `<${hold.token}>` };
      const { status, body } = await send('PATCH', this.#url, { headers, patience: Math.max(hold.lifetime / 3, 1000) });
      if (this.hold !== hold) return;
      if (status === 200) {
        Object.assign(hold, until(sent + body.expires_in * 1000));
        hold.next = sent + hold.lifetime / 3;
        hold.lapsed = false;
        this.#setLink('up');
        this.#tell('change');
      } else if (status >= 500 || status === 429) {
        this.#setLink('down');
      } else {
        this.#setLink('up');
        await this.#refused(hold, sent, status, body);
      }
    } catch {
      this.#setLink('down');
    } finally {
      this.#beating = false;
    }
  }

  // Our lock is not renewed: it is gone, or goes soon.
  async #refused(hold, sent, status, body) {
    const lost = body.lost?.[0] ?? {};
    const own = body.locks?.find((lock) => lock.lock_id === hold.id && lock.state === 'breaking');
    if (own) {
      this.#breaking({ at: sent + own.expires_in * 1000, by: lost.by, reason: lost.reason });
    } else {
      this.#lose({ cause: status === 401 ? 'signed_out' : (lost.cause ?? 'unknown'), by: lost.by, reason: lost.reason });
    }
  }

  // Somebody takes it over, but lets us finish: we may save until then, and no heartbeat changes that.
  #breaking({ at, by, reason }) {
    const hold = this.hold, known = hold.breaking ?? {};
    // What is said again differs by what it was on the way.
    if (at !== undefined && !(Math.abs(at - known.at) < 1500)) Object.assign(hold, until(at));
    hold.breaking = { at: hold.until, by: by ?? known.by, reason: reason ?? known.reason };
    hold.next = hold.until + 200;
    this.#tell('change');
  }

  // The lock is not ours any more; so it is not one that we have in another window either.
  #forget() {
    this.locks = this.locks.filter((lock) => lock.lock_id !== this.hold?.id);
    this.hold = null;
  }

  #lose(how) {
    this.#forget();
    this.#tell('lost', how);
    this.#tell('change');
    this.check();
  }

  // What a save was told: that the lock is gone.
  gone(body) {
    if (this.hold) this.#lose(body.lost?.[0] ?? { cause: 'unknown' });
  }

  // A write of ours was admitted.
  alive() {
    this.#setLink('up');
  }

  // Gives it back.
  async stop() {
    const hold = this.hold;
    this.#forget();
    this.#tell('change');
    if (hold) await this.#giveBack(hold.token);
    this.check();
  }

  // The page goes. There is no time for an answer.
  leave() {
    for (const token of [this.hold?.token, this.#proposed]) if (token) navigator.sendBeacon(this.#url, token);
    this.hold = null;
    this.#closeStream();
  }

  async #giveBack(token) {
    // Should none of these arrive, it ends by itself.
    for (let attempt = 1; attempt <= 3; attempt++) {
      try {
        return await send('DELETE', this.#url, { headers: { 'Lock-Token': `<${token}>` } });
      } catch {
        await pause(attempt * 1000);
      }
    }
  }

  // --- others' -----------------------------------------------------------------------------------------------------

  // Ends the lock that we have in a window which is gone, or is not this one.
  endElsewhere() {
    return send('DELETE', this.#url);
  }

  breakAfter(lock, reason, grace) {
    return send('POST', this.#url, { json: { action: 'break', lock_id: lock.lock_id, reason, grace } });
  }

  async handOver(to) {
    const answer = await send('POST', this.#url, { json: { action: 'transfer', to, token: this.hold.token } });
    if (answer.status === 200) this.#forget();
    return answer;
  }

  // -----------------------------------------------------------------------------------------------------------------

  #look() {
    if (this.hold) this.beat();
    this.check();
  }

  #tick() {
    const at = now(), hold = this.hold;
    if (hold && !hold.lapsed && at >= hold.until - Math.min(MARGIN, hold.lifetime / 4)) {
      hold.lapsed = true;
      this.#tell('change');
    }
    if (hold && at >= hold.next) this.beat();
    const isOver = this.locks.some((lock) => lock.until <= at);
    if (!this.#paused && (at >= this.#nextCheck || (isOver && at >= this.#nextCheck - CHECK + RETRY))) this.check();
    this.#tell('tick');
  }

  #setLink(link) {
    if (this.link === link) return;
    this.link = link;
    this.#tell('change');
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

// When a lock ends: by our clock, and by the one on the wall, which is set once, so that what is shown does not waver.
const until = (at) => ({ until: at, end: at === Infinity ? null : timeOfDay(at) });

// `urn:uuid:` and 122 random bits (RFC 9562 section 5.4). `crypto.randomUUID` is not there on a page without TLS.
function newToken() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return `urn:uuid:${hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')}`;
}
