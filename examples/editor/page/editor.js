// One document: reading it, editing it, and what becomes of the text when the lock is lost.
//
// The page is in one of three modes:
//
// - `reading`: the text is the saved one, and cannot be typed into;
// - `editing`: this page holds the lock;
// - `copy`: there is text that is not saved, and no lock. It stays where it is and can be typed into; it is nobody's but
//   one's own. The saved text stands beside it where the two differ.
//
// What is typed is kept in the browser with every keystroke (`drafts.js`) until it is saved or discarded. Nothing else ever
// takes text away.

import { $, el, exactTime, fill, say, time } from './dom.js';
import { Drafts } from './drafts.js';
import { common } from './lines.js';
import { DocumentLock } from './lock.js';
import { Panel, nameOf } from './panel.js';
import { now, pause, send } from './send.js';

export async function openDocument(id, user) {
  const saved = await load(id);
  if (saved) new Editor(id, user, saved).open();
}

async function load(id) {
  for (;;) {
    const { status, body } = await send('GET', url(id)).catch(() => ({}));
    if (status === 200) return body;
    if (status === 404) return void ($('missing').hidden = false);
    $('offline').hidden = false;
    await pause(1000);
    $('offline').hidden = true;
  }
}

// So long after a key was pressed somebody is still typing.
const TYPING = 5000;

const SIGNED_OUT =
  'You are signed out. What you typed is kept in this browser: sign in again, in another window, to go on.';
const UNSURE =
  'No connection for so long that the page may be free for others by now. Go on typing: everything is kept in this ' +
  'browser, and you go on as soon as that is possible, if nobody came in between.';
const BESIDE = 'Yours stands here as you typed it, theirs beside it; what you save replaces theirs.';

const url = (id) => `/docs/${encodeURIComponent(id)}`;

class Editor {
  #mode = 'reading';
  #base; // the version that the text in the page was made from
  #unkept = false; // whether the browser refuses to keep text
  #saving = null;
  #sent = null; // a text that may be saved: there was no answer
  #again = false; // whether to save once more as soon as that is possible
  #banner = null; // { kind, text }
  #changed = false; // whether somebody else saved a version that our text knows nothing of
  #starting = false;
  #running = null; // settled when no acquire is under way
  #waiting = null; // aborts the wait for the lock to become free
  #told = null; // the lock that was there when we last looked, and its end
  #typedAt = -Infinity;

  constructor(id, user, saved) {
    this.id = id;
    this.user = user;
    this.saved = saved;
    this.drafts = new Drafts(user.name, id, () => this.#show());
    this.lock = new DocumentLock(id, user.name);
    this.panel = new Panel(this);
  }

  async open() {
    this.#listen();
    this.#take(this.saved);
    $('document').hidden = false;
    this.#show();
    await this.lock.check();
    const marker = this.#marker;
    this.#marker = null;
    if (marker && performance.getEntriesByType('navigation')[0]?.type === 'reload') await this.#goOn(marker);
    else await this.#offerDraft();
    // A page that was closed a moment ago may have counted as open.
    setTimeout(() => this.#offerDraft(), 2000);
  }

  #listen() {
    const text = $('text'), lock = this.lock;
    text.addEventListener('input', () => this.#typed());
    $('edit').onclick = () => this.start();
    $('again').onclick = () => this.start();
    $('save').onclick = () => this.save();
    $('done').onclick = () => this.finish();
    $('copy').onclick = () => this.#copy();
    $('download').onclick = () => this.#download();
    $('discard').onclick = () => this.#discard();
    addEventListener('keydown', (event) => {
      if ((event.ctrlKey || event.metaKey) && event.key === 's') {
        event.preventDefault();
        if (this.#mode === 'editing') this.save();
      }
    });
    lock.addEventListener('change', () => this.#changedLock());
    lock.addEventListener('news', ({ detail }) => this.#hear(detail));
    // Whoever saves renews the lock by that.
    lock.addEventListener('renewed', () => lock.hold || this.#reload());
    lock.addEventListener('lost', ({ detail }) => this.#lost(detail));
    lock.addEventListener('tick', () => this.panel.tick());
    lock.addEventListener('signed-out', () => this.#setBanner('bad', SIGNED_OUT));
    addEventListener('pagehide', () => this.#leave());
    // From the back-forward cache: as it was, but for the lock.
    addEventListener('pageshow', ({ persisted }) => persisted && location.reload());
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) lock.resume();
      else if (!lock.hold && !this.#waiting && !this.panel.hasAsked) lock.sleep();
    });
  }

  get mode() {
    return this.#mode;
  }

  get isDirty() {
    return $('text').value !== this.saved.text;
  }

  get isWaiting() {
    return this.#waiting !== null;
  }

  // --- typing ------------------------------------------------------------------------------------------------------

  #typed() {
    this.#typedAt = now();
    this.#keep();
    this.#show();
  }

  #keep() {
    if (this.isDirty) this.#unkept = !this.drafts.keep($('text').value, this.#base);
    else this.drafts.drop();
  }

  // Puts a saved version into the page. Never over text that is not saved.
  #take(saved) {
    this.saved = saved;
    this.#base = saved.version;
    this.#changed = false;
    const text = $('text');
    if (text.value === saved.text) return;
    const { scrollTop } = text;
    text.value = saved.text;
    text.scrollTop = scrollTop;
  }

  // What is saved now. Into the page, if nothing there could be lost; else it is shown beside it.
  async #reload() {
    const { status, body } = await send('GET', url(this.id)).catch(() => ({}));
    if (status === 200) this.#newer(body);
  }

  #newer(saved) {
    if (saved.version < this.saved.version) return;
    if (this.#mode === 'reading') {
      this.#take(saved);
    } else if (saved.version !== this.saved.version) {
      this.saved = saved;
      this.#changed = saved.version !== this.#base;
    }
    this.#show();
  }

  // --- starting ----------------------------------------------------------------------------------------------------

  // A page that was reloaded while it was editing goes on, if it can. What gave the lock back when the old page went may
  // still be on its way.
  async #goOn({ from, to, top }) {
    for (let attempt = 1; attempt <= 5 && !(await this.start({ wait: 2, quietly: true, drafts: 'all' })); attempt++) {
      if (!this.lock.other?.mine) break;
      await pause(200);
    }
    $('text').setSelectionRange(from, to);
    $('text').scrollTop = top;
    this.#show();
  }

  // Asks for the lock, and edits. What was typed before goes on where it stopped.
  async start({ wait, signal, replaces, quietly, claim, drafts } = {}) {
    if (this.#waiting && this.#waiting.signal !== signal) {
      this.stopWaiting();
      await this.#running;
    }
    if (this.#starting || this.lock.hold) return false;
    this.#starting = true;
    this.#show();
    let ended;
    this.#running = new Promise((done) => (ended = done));
    try {
      const answer = await (claim ? this.lock.claim() : this.lock.start({ wait, signal, replaces }));
      if (!answer.granted) {
        if (!quietly) this.#setBanner('bad', answer.detail ?? `The server says ${answer.status}.`);
        await this.#offerDraft();
        return false;
      }
      await this.#edit(drafts);
      return true;
    } catch {
      if (!signal?.aborted && !quietly) {
        this.#setBanner('bad', 'The server cannot be reached. Nobody knows whether the page is free.');
      }
      await this.#offerDraft();
      return false;
    } finally {
      this.#starting = false;
      ended();
      this.#show();
    }
  }

  async #edit(drafts) {
    this.stopWaiting();
    this.#setBanner(null);
    const before = this.#mode;
    if (before === 'reading') await this.#adopt(await this.#firstDraft(drafts));
    // Under the lock nobody else writes: what is read now stays.
    await this.#reload();
    this.#mode = 'editing';
    if (!this.lock.hold) return this.#lost({ cause: 'unknown' });
    if (this.isDirty) {
      if (this.#changed) {
        this.#setBanner('warn', `${this.saved.saved_by} saved another version meanwhile. ${BESIDE}`);
      } else {
        this.#setBanner('good', 'Your unsaved text is back, and the page is yours. Nobody changed it meanwhile.');
      }
      this.#keep();
    }
    say('You are editing.');
    this.#show();
    $('text').focus({ preventScroll: true });
    if (before === 'reading' && !this.isDirty) $('text').setSelectionRange(0, 0);
  }

  // Starts as soon as nobody else is editing.
  async startWhenFree() {
    const wait = new AbortController();
    this.#waiting = wait;
    this.#show();
    while (!wait.signal.aborted && this.#waiting === wait) {
      const began = now();
      if (await this.start({ wait: 20, signal: wait.signal, quietly: true })) return;
      // A server that does not let anybody wait says no at once.
      if (now() - began < 1000) await this.#untilChange(1500);
    }
  }

  stopWaiting() {
    this.#waiting?.abort();
    this.#waiting = null;
    this.#show();
  }

  #untilChange(most) {
    return new Promise((done) => {
      setTimeout(done, most);
      this.lock.addEventListener('change', () => !this.lock.other && done(), { once: true });
    });
  }

  // --- drafts ------------------------------------------------------------------------------------------------------

  // The newest text that was not saved.
  async #firstDraft(which) {
    for (const draft of await this.drafts.found(which)) {
      if (draft.text !== this.saved.text) return draft;
      await this.drafts.discard(draft);
    }
    return null;
  }

  async #adopt(draft) {
    // Looked for twice at the same time, it is put in once: somebody may be typing by now.
    if (!draft || this.#mode !== 'reading') return;
    this.#mode = 'copy';
    this.#base = draft.base;
    $('text').value = draft.text;
    this.#changed = this.saved.version !== draft.base;
    this.#keep();
    // Ours is on the way to the disk; should that fail, the old one is still there.
    if (!this.#unkept) await this.drafts.discard(draft);
  }

  async #offerDraft() {
    if (this.#mode !== 'reading' || this.lock.hold || this.lock.other?.mine) return;
    const draft = await this.#firstDraft();
    if (!draft || this.#mode !== 'reading' || this.lock.hold) return;
    await this.#adopt(draft);
    this.#setBanner('warn', `This is what you typed and did not save (${time(draft.at)}). It is kept in this browser.`);
  }

  async #discard() {
    if (this.#mode !== 'copy') return;
    this.drafts.drop();
    this.#mode = 'reading';
    this.#setBanner(null);
    this.#take(this.saved);
    await this.#reload();
    $('main').focus();
    say('Discarded.');
    // There may be older ones.
    await this.#offerDraft();
    this.#show();
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText($('text').value);
    } catch {
      $('text').select();
      document.execCommand('copy');
    }
    say('Copied.');
    $('copy').textContent = 'Copied';
    setTimeout(() => ($('copy').textContent = 'Copy'), 2000);
  }

  #download() {
    const file = new Blob([$('text').value], { type: 'text/plain' });
    const link = el('a', { download: `${this.id}.txt`, href: URL.createObjectURL(file) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // --- saving ------------------------------------------------------------------------------------------------------

  async save() {
    if (this.#mode !== 'editing' || !this.isDirty) return this.#mode === 'editing';
    if (this.#saving) {
      // What was typed since then, afterwards.
      await this.#saving;
      if (!this.isDirty) return true;
    }
    this.#saving = this.#put();
    this.#show();
    const done = await this.#saving;
    this.#saving = null;
    this.#show();
    return done;
  }

  async #put() {
    const text = $('text').value, hold = this.lock.hold;
    if (!hold) return false;
    this.#again = false;
    // Whoever sees both versions and saves, replaces the other one knowingly.
    const base = this.saved.version;
    try {
      const { status, body } = await send('PUT', url(this.id), {
        json: { text },
        headers: { If: `(<${hold.token}>)`, 'If-Match': `"${base}"` },
        patience: Math.max(hold.lifetime / 2, 3000),
      });
      if (status === 200) return this.#stored(body);
      if (body.document) {
        const { text: other, saved_by } = body.document;
        if (saved_by === this.user.name && (other === text || other === this.#sent)) {
          // Ours, of which the answer was lost.
          this.#stored(body.document);
          return this.isDirty ? this.#put() : true;
        }
        this.#newer(body.document);
        this.#setBanner('warn', `${saved_by} saved another version, which you had not seen. ${BESIDE}`);
      } else if (status === 412 || status === 423 || status === 428 || status === 401) {
        // Should the lock come back by itself, so does the wish.
        this.#again = true;
        this.lock.gone(status === 401 ? { lost: [{ cause: 'signed_out' }] } : body);
      } else {
        this.#setBanner('bad', `Not saved: the server says ${status}. Your text is kept in this browser.`);
      }
      return false;
    } catch {
      // It may have arrived all the same.
      this.#sent = text;
      this.#again = true;
      this.lock.check();
      return false;
    }
  }

  #stored(saved) {
    this.lock.alive();
    this.saved = saved;
    this.#base = saved.version;
    this.#changed = false;
    this.#keep();
    this.#setBanner(null);
    say('Saved.');
    return true;
  }

  // Saves, and lets the others.
  async finish() {
    // Somebody types on while it is saved.
    while (this.isDirty) if (!(await this.save())) return;
    if (this.#mode !== 'editing') return;
    this.#mode = 'reading';
    this.#setBanner(null);
    this.#show();
    $('edit').focus();
    await this.lock.stop();
  }

  // Saves, and gives the lock to somebody.
  async handOver(to) {
    while (this.isDirty) if (!(await this.save())) return;
    const { status, body } = await this.lock.handOver(to).catch(() => ({ body: {} }));
    if (status === 200) {
      // Typed while the answer was on its way, it stays here.
      this.#mode = this.isDirty ? 'copy' : 'reading';
      this.#setBanner('good', `Handed over to ${to}.`);
      this.lock.check();
      $('main').focus();
    } else {
      this.#setBanner('bad', body.detail ?? 'It could not be handed over.');
    }
  }

  // --- losing ------------------------------------------------------------------------------------------------------

  async #lost({ cause, by, reason }) {
    if (this.#mode !== 'editing') return;
    // Somebody who typed a moment ago types on, and may not be looking.
    if (this.isDirty || now() - this.#typedAt < TYPING) {
      this.#mode = 'copy';
      this.#keep();
    } else {
      this.#mode = 'reading';
    }
    const kept = this.#mode === 'copy' ? ' Nothing is lost: your text stays here, and is kept in this browser.' : '';
    const why = reason ? `: “${reason}”.` : '.';
    const told = {
      broken: `${by ?? 'Somebody'} took over${why}`,
      replaced: `${by ?? 'Somebody'} took over${why}`,
      released: 'You went on in another window.',
      signed_out: 'You are signed out, or somebody else is signed in.',
      resource_gone: 'The page was removed.',
    };
    const sentence = told[cause] ?? 'The connection was gone for too long, and others may edit now.';
    this.#setBanner('bad', sentence + kept);
    this.#show();
    await this.#reload();
    // Nobody decided that; so if nobody came in between, it goes on as if nothing had been.
    const again = this.#again;
    this.#again = false;
    if ((cause === 'expired' || cause === 'unknown') && this.#mode === 'copy' && !this.#changed) {
      if ((await this.start({ quietly: true })) && again && !this.#changed) this.save();
    }
  }

  // The tab is closed, or goes to another page.
  #leave() {
    if (this.#mode === 'editing') {
      const { selectionStart: from, selectionEnd: to, scrollTop: top } = $('text');
      this.#marker = { from, to, top };
    }
    if (this.#mode !== 'reading') this.#keep();
    this.lock.leave();
  }

  // Whether this very tab was editing when it was reloaded, and where the cursor was.
  get #marker() {
    try {
      return JSON.parse(sessionStorage.getItem(`editing/${this.user.name}/${this.id}`));
    } catch {
      return null;
    }
  }

  set #marker(marker) {
    try {
      sessionStorage.setItem(`editing/${this.user.name}/${this.id}`, JSON.stringify(marker));
    } catch {
      // Then a reload is like opening it anew.
    }
  }

  // --- others ------------------------------------------------------------------------------------------------------

  #changedLock() {
    const { lock } = this, { other } = lock;
    if (lock.known && !lock.hold) {
      // Whoever ends it may have saved before; and where there is no stream, this is how one sees that they renewed it.
      const told = other ? `${other.lock_id} ${other.expires_at}` : '';
      if (this.#told !== null && this.#told !== told) {
        if (!other) this.#free();
        this.#reload();
      }
      this.#told = told;
    }
    if (this.isWaiting && other?.mine && other.state === 'offered') this.start({ claim: true });
    if (this.#again && lock.link === 'up' && lock.hold && !lock.hold.lapsed && !this.#saving) this.save();
    this.#show();
  }

  #free() {
    say('The page is free.');
    if (this.#mode === 'reading') this.#offerDraft();
  }

  #hear({ kind, lock, by, reason }) {
    this.panel.happened(kind, lock, by, reason);
  }

  tell(kind, text) {
    this.#setBanner(kind, text);
  }

  // --- showing -----------------------------------------------------------------------------------------------------

  #setBanner(kind, text) {
    this.#banner = kind && { kind, text };
    this.#show();
  }

  #show() {
    const { lock, saved } = this, mode = this.#mode, text = $('text');
    const root = $('document').dataset;
    root.mode = mode;
    root.link = lock.link;
    root.dirty = this.isDirty;
    root.written = this.drafts.isWritten;
    root.holding = !lock.hold ? 'no' : lock.hold.lapsed ? 'unsure' : lock.hold.breaking ? 'ending' : 'yes';

    const title = (text.value.split('\n').find((line) => line.trim()) ?? 'Untitled').replace(/^[#\s]+/, '');
    $('title').textContent = title;
    const who = lock.other && !lock.other.mine ? `${nameOf(lock.other)} is editing` : null;
    const mark = [
      [lock.hold?.breaking, '⚠ '],
      [lock.hold, '✎ '],
      [this.panel.hasAsked && lock.known && !lock.other, '● Free · '],
      [true, ''],
    ].find(([is]) => is)[1];
    document.title = `${mark}${title}${who ? ` · ${who}` : ''}`;
    $('meta').textContent = `Saved by ${saved.saved_by}, ${time(saved.saved_at)}`;
    $('offline').hidden = lock.link === 'up';

    text.readOnly = mode === 'reading';
    $('text-label').textContent = { reading: 'Text', editing: 'Your text', copy: 'Your copy, not saved' }[mode];
    const free = lock.known && !lock.other && !lock.hold;
    $('edit').hidden = !(mode === 'reading' && (free || (this.#starting && !this.#waiting)));
    $('edit').disabled = this.#starting;
    $('save').hidden = $('done').hidden = mode !== 'editing';
    // Not `disabled`, which would take the focus from whoever pressed it.
    $('save').setAttribute('aria-disabled', !this.isDirty);
    $('done').textContent = this.isDirty ? 'Save and finish' : 'Done';
    $('kept').hidden = mode !== 'copy';
    $('again').disabled = !free || (this.#starting && !this.#waiting);

    const beside = mode !== 'reading' && this.#changed && this.isDirty;
    $('saved-pane').hidden = !beside;
    if (beside) this.#compare();

    const banner = this.#warning() ?? this.#banner;
    $('banner').dataset.kind = banner?.kind ?? '';
    if ($('banner').textContent !== (banner?.text ?? '')) $('banner').textContent = banner?.text ?? '';
    $('state').textContent = this.#state();
    this.panel.show();
  }

  // What is more urgent than what happened.
  #warning() {
    const { hold, link } = this.lock;
    if (hold?.lapsed) {
      return { kind: 'bad', text: UNSURE };
    }
    if (hold?.breaking) {
      const { by, reason } = hold.breaking;
      const why = reason ? `: “${reason}”` : '';
      const kept = 'Save until then. What you do not save stays here, and is kept in this browser.';
      return { kind: 'warn', text: `${by ?? 'Somebody'} takes over at ${exactTime(hold.end)}${why}. ${kept}` };
    }
    if (hold && link === 'down') {
      const kept = 'and everything is kept in this browser. Trying again.';
      return { kind: 'warn', text: `No connection. The page is yours until ${exactTime(hold.end)}, ${kept}` };
    }
    return null;
  }

  #state() {
    if (this.#mode === 'reading') return '';
    if (this.#saving) return 'Saving…';
    if (!this.isDirty) return 'All saved.';
    if (this.#unkept) return 'Not saved, and this browser keeps nothing: do not close this window.';
    return this.#again ? 'Not saved yet: no connection. Kept in this browser.' : 'Not saved yet. Kept in this browser.';
  }

  #compare() {
    const { saved } = this;
    $('saved-label').textContent = `Saved now, by ${saved.saved_by}, ${time(saved.saved_at)}`;
    const line = ({ line, same }) => (same ? el('p', {}, line) : el('p', { class: 'new' }, el('ins', {}, line)));
    fill($('saved'), ...common(saved.text, $('text').value).map(line));
  }
}
