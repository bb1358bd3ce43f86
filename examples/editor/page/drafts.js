// Text that is not saved yet, kept in the browser: it survives that the lock is lost, the page is reloaded, the tab is
// closed, the browser dies.
//
// In two places, for each is good at what the other is not. `localStorage` has it before the keystroke has been dealt
// with, but the browser may write it to a file much later. IndexedDB has it in a file a moment after, where it survives
// the browser; and when somebody stops typing, on the disk, where it survives the machine.
//
// Each page that is opened writes a draft of its own, so that no window overwrites what was typed in another one.

import { pause } from './send.js';

const PREFIX = 'draft';
// After so long somebody has stopped typing.
const REST = 1000;

export class Drafts {
  #prefix;
  #own;
  #count = 0;
  #disk = openDisk();
  #waiting; // what the disk is to have next: a draft, or null for none
  #writing = false;
  #kept; // called when the disk has all there is
  #rest = 0;

  constructor(user, id, kept) {
    this.#kept = kept;
    this.#prefix = `${PREFIX}/${encodeURIComponent(user)}/${encodeURIComponent(id)}/`;
    this.#own = this.#prefix + Date.now().toString(36) + Math.random().toString(36).slice(2, 10);
    // Held as long as this page is open, for other windows to see. Not there on a page without TLS.
    navigator.locks?.request(this.#own, () => new Promise(() => {}));
  }

  // Keeps this text. False where the browser keeps nothing, so that nobody relies on it.
  keep(text, base) {
    const draft = { key: this.#own, text, base, at: Date.now(), count: ++this.#count };
    this.#write(draft);
    try {
      localStorage.setItem(this.#own, JSON.stringify(draft));
      return true;
    } catch {
      // Full, or forbidden. The disk may have room all the same.
      localStorage.removeItem(this.#own);
      return false;
    }
  }

  // There is nothing to be kept any more.
  drop() {
    remove(this.#own);
    this.#write(null);
  }

  // What was kept and never saved, the newest first: of windows that are gone, or of `all` but this one.
  async found(which) {
    const open = which === 'all' ? new Set() : await openPages();
    const drafts = new Map();
    for (const draft of [...inStorage(this.#prefix), ...(await this.#onDisk())]) {
      const known = drafts.get(draft.key);
      const isNewer = !known || known.at < draft.at || (known.at === draft.at && known.count < draft.count);
      if (isNewer) drafts.set(draft.key, draft);
    }
    drafts.delete(this.#own);
    for (const key of open) drafts.delete(key);
    return [...drafts.values()].sort((a, b) => b.at - a.at);
  }

  // Forgets one of those.
  async discard({ key }) {
    remove(key);
    await this.#transaction((store) => store.delete(key)).catch(() => {});
  }

  async #onDisk() {
    const range = IDBKeyRange.bound(this.#prefix, `${this.#prefix}\uffff`);
    const read = this.#transaction((store) => store.getAll(range)).catch(() => []);
    // What the disk does not give in time, nobody waits for.
    return Promise.race([read, pause(3000).then(() => [])]);
  }

  // One write at a time, and always the newest: somebody types faster than a disk turns.
  async #write(draft) {
    this.#waiting = draft;
    clearTimeout(this.#rest);
    if (this.#writing) return;
    this.#writing = true;
    let last;
    while (this.#waiting !== undefined) {
      last = this.#waiting;
      this.#waiting = undefined;
      await this.#put(last, 'relaxed');
    }
    this.#writing = false;
    this.#kept();
    if (last) this.#rest = setTimeout(() => this.#put(last, 'strict'), REST);
  }

  #put(draft, durability) {
    const act = (store) => (draft ? store.put(draft) : store.delete(this.#own));
    return this.#transaction(act, durability).catch(() => {});
  }

  // Whether the disk has all there is.
  get isWritten() {
    return !this.#writing;
  }

  async #transaction(act, durability = 'relaxed') {
    const database = await this.#disk;
    return new Promise((done, failed) => {
      const transaction = database.transaction('drafts', 'readwrite', { durability });
      const request = act(transaction.objectStore('drafts'));
      transaction.oncomplete = () => done(request.result);
      transaction.onabort = () => failed(transaction.error);
      // Now, and not when this task is over: the page may be gone by then.
      transaction.commit?.();
    });
  }
}

function openDisk() {
  const opened = new Promise((done, failed) => {
    const request = indexedDB.open('editor', 1);
    request.onupgradeneeded = () => request.result.createObjectStore('drafts', { keyPath: 'key' });
    request.onsuccess = () => done(request.result);
    request.onerror = () => failed(request.error);
  });
  // Whoever uses it finds out.
  opened.catch(() => {});
  return opened;
}

// The drafts of pages that are open.
async function openPages() {
  const { held = [] } = (await navigator.locks?.query().catch(() => null)) ?? {};
  return new Set(held.map(({ name }) => name));
}

function inStorage(prefix) {
  const drafts = [];
  try {
    for (const key of Object.keys(localStorage).filter((key) => key.startsWith(prefix))) {
      const draft = JSON.parse(localStorage.getItem(key));
      if (typeof draft?.text === 'string') drafts.push({ ...draft, key });
    }
  } catch {
    // What cannot be read is no draft.
  }
  return drafts;
}

function remove(key) {
  try {
    localStorage.removeItem(key);
  } catch {
    // Where nothing can be kept there is nothing to remove.
  }
}
