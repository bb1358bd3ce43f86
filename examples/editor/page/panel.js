// What stands beside the text: who is editing and until when, and what one can do about it.

import { $, avatar, el, exactTime, fill, say } from './dom.js';
import { now, send } from './send.js';

// How often whoever is editing looks for notes.
const NOTES = 2000;
const MOST_EVENTS = 8;

export const nameOf = (lock) => lock.owner?.name ?? lock.owner?.id ?? 'Somebody';

export class Panel {
  #editor;
  #notes = [];
  #lastNote = 0;
  #nextNotes = 0;
  #noted = null; // the lock that the notes are for
  #events = [];
  #asked = null; // the lock that was asked for

  constructor(editor) {
    this.#editor = editor;
    $('ask').onsubmit = (event) => this.#act(event, () => this.#ask());
    $('take-over').onsubmit = (event) => this.#act(event, () => this.#takeOver());
    $('when-free').onchange = ({ target }) => (target.checked ? editor.startWhenFree() : editor.stopWaiting());
  }

  get #lock() {
    return this.#editor.lock;
  }

  show() {
    const { other, hold } = this.#lock, mine = other?.mine;
    const somebody = !hold && other && !mine;
    if (hold) this.#asked = null;
    this.#showWho();
    $('ask').hidden = !somebody;
    $('take-over').hidden = !(somebody && other.can_break && other.state !== 'breaking');
    if (document.activeElement !== $('when-free')) $('when-free').checked = this.#editor.isWaiting;
    if (!somebody || this.#asked !== other.lock_id) $('asked').textContent = '';
    $('notes').hidden = !(hold && this.#notes.length);
  }

  tick() {
    this.#showTime();
    const { hold } = this.#lock;
    if (hold && now() >= this.#nextNotes) this.#readNotes(hold);
  }

  // Whether whoever looks at this page wants to edit it, and would like to be told.
  get hasAsked() {
    return this.#asked !== null;
  }

  // --- who ---------------------------------------------------------------------------------------------------------

  #showWho() {
    const { hold, other, known, link } = this.#lock, { user } = this.#editor;
    const here = $('document').dataset, stale = link === 'down' && 'There is no connection, so this may have changed.';
    if (hold) {
      here.who = 'me';
      const text =
        hold.lapsed ? 'Perhaps not any more: there is no connection.'
        : hold.breaking ? 'Not for long: save what you have.'
        : 'Others can read, and see that you are editing.';
      this.#fillWho(avatar(user.name), hold.lapsed ? 'You were editing' : 'You are editing', text, 'timed');
    } else if (!known) {
      here.who = 'unknown';
      this.#fillWho(null, 'One moment…', stale ? 'The server cannot be reached.' : '');
    } else if (!other) {
      here.who = 'free';
      this.#fillWho(null, stale ? 'It was free' : 'Free', stale || 'Nobody is editing.');
    } else if (other.mine && other.state === 'offered') {
      here.who = 'offered';
      const claim = this.#button('claim', 'Start editing', () => this.#editor.start({ claim: true }));
      this.#fillWho(avatar(user.name), 'It is yours', 'Handed over to you. It waits for you, but not for long.', 'timed', claim);
    } else if (other.mine) {
      here.who = 'elsewhere';
      const move = this.#button('here', 'Continue in this window', () => this.#continueHere());
      this.#fillWho(avatar(user.name), 'You are editing', 'In another window, or in one that is gone.', 'timed', move);
    } else {
      here.who = 'other';
      const text =
        stale ? stale
        : other.state === 'breaking' ? 'Is being taken over.'
        : other.state === 'offered' ? 'Was handed it, and has not started yet.'
        : `Since ${exactTime(other.created_at)}.`;
      this.#fillWho(avatar(nameOf(other)), `${nameOf(other)} is editing`, text, 'timed');
    }
    this.#showTime();
  }

  #button(id, text, onclick) {
    return el('button', { id, class: 'main', type: 'button', onclick }, text);
  }

  #fillWho(face, title, text, timed, button) {
    const track = () => el('div', { class: 'track', 'aria-hidden': 'true' }, el('div'));
    const until = () => el('div', { class: 'until' }, el('p', { class: 'hint' }), track());
    const says = el('div', {}, el('h2', {}, title), el('p', { class: 'hint' }, text));
    const who = el('div', { class: 'who' }, face ?? el('span', { class: 'dot' }), says);
    fill($('who'), who, timed ? until() : null, button);
  }

  // Until when, as a time and as a bar. The bar is for the eye alone: it moves all the time.
  #showTime() {
    const { hold, other } = this.#lock, lock = hold ?? other, place = $('who').querySelector('.until');
    if (!place || !lock) return;
    const [text, track] = place.children, left = Math.max(lock.until - now(), 0);
    const end = exactTime(lock.end), soon = hold?.breaking || lock.state === 'breaking';
    const sentence =
      soon ? `Ends at ${end}.`
      : hold?.lapsed ? `It was yours until ${end}.`
      : hold ? `Yours until ${end}, and longer while this page is open.`
      : lock.state === 'offered' ? `Until ${end}.`
      : `Until ${end}, and longer while ${lock.mine ? 'you' : 'they'} go on.`;
    if (text.textContent !== sentence) text.textContent = sentence;
    const whole = hold?.lifetime ?? Math.max(Date.parse(lock.expires_at) - Date.parse(lock.created_at), 1);
    track.firstChild.style.setProperty('--left', Math.min(left / Math.max(whole, left, 1), 1));
    place.dataset.soon = Boolean(soon || hold?.lapsed || (hold && this.#lock.link === 'down'));
    const count = soon ? ` ${Math.ceil(left / 1000)} s` : '';
    if (place.dataset.count !== count) place.dataset.count = count;
  }

  async #continueHere() {
    await this.#lock.endElsewhere();
    // With what was typed there.
    await this.#editor.start({ wait: 2, drafts: 'all' });
  }

  // --- asking, taking over -----------------------------------------------------------------------------------------

  async #act(event, action) {
    event.preventDefault();
    const button = event.submitter ?? event.target.querySelector('button');
    button.disabled = true;
    await action().catch(() => say('The server cannot be reached.'));
    button.disabled = false;
  }

  async #ask() {
    const { other } = this.#lock, { id } = this.#editor;
    const { status } = await send('POST', `/notes/${encodeURIComponent(id)}`, { json: { text: $('ask-text').value } });
    this.#asked = other?.lock_id ?? null;
    const reader = other ? nameOf(other) : 'Whoever is editing';
    $('asked').textContent = status === 204 ? `${reader} can read it now.` : 'It is free by now.';
  }

  async #takeOver() {
    const { other } = this.#lock, reason = $('reason').value.trim();
    if (!other || !reason) return;
    const grace = Number(new FormData($('take-over')).get('when'));
    if (grace === 0) {
      // The old lock ends and ours begins in one step: nobody comes in between.
      if (await this.#editor.start({ replaces: [{ lock_id: other.lock_id, reason }] })) $('take-over').reset();
      return;
    }
    const { status, body } = await this.#lock.breakAfter(other, reason, grace);
    if (status >= 300) return this.#editor.tell('bad', body.detail ?? `The server says ${status}.`);
    $('take-over').reset();
    this.#lock.check();
    // The form is hidden now, and the focus with it.
    $('main').focus();
    this.#editor.startWhenFree();
  }

  // --- notes -------------------------------------------------------------------------------------------------------

  async #readNotes(hold) {
    this.#nextNotes = now() + NOTES;
    if (this.#noted !== hold.id) {
      this.#noted = hold.id;
      this.#notes = [];
      this.#lastNote = 0;
    }
    const path = `/notes/${encodeURIComponent(this.#editor.id)}?lock=${hold.id}&after=${this.#lastNote}`;
    const { status, body } = await send('GET', path).catch(() => ({}));
    if (status !== 200 || !body.length || this.#noted !== hold.id) return;
    for (const note of body) {
      this.#notes = [...this.#notes.filter(({ from }) => from !== note.from), note].slice(-5);
      this.#lastNote = note.number;
      say(`${note.from} asks: ${note.text}`);
    }
    const item = ({ from, text }) => {
      const note = el('p', { class: 'note' }, avatar(from), el('span', {}, el('b', {}, from), ` ${text}`));
      const give = { type: 'button', onclick: () => this.#editor.handOver(from) };
      return el('li', {}, note, el('button', give, `Save and hand over to ${from}`));
    };
    fill($('note-list'), ...this.#notes.map(item));
    $('notes').hidden = false;
  }

  // --- what happened -----------------------------------------------------------------------------------------------

  happened(kind, lock, by, reason) {
    const me = this.#editor.user.name, mine = lock.owner?.id === me, name = mine ? 'You' : nameOf(lock);
    const from = mine ? 'you' : name, who = by === me ? 'You' : (by ?? 'Somebody'), why = reason ? `: “${reason}”` : '';
    const told = {
      locked: lock.state === 'offered' ? `It was handed over to ${mine ? 'you' : name}` : `${name} started editing`,
      released: `${name} finished`,
      expired: mine ? 'Your lock ran out' : `${name} is gone`,
      breaking: `${who} ${by === me ? 'take' : 'takes'} over from ${from}${why}`,
      broken: `${who} took over from ${from}${why}`,
      // Without anybody who did it: what comes next tells it better.
      replaced: by && `${who} took over from ${from}${why}`,
      gone: 'The page was removed',
    }[kind];
    if (!told) return;
    this.#events = [{ at: Date.now(), told }, ...this.#events].slice(0, MOST_EVENTS);
    // What oneself did, one knows, and of what was done to oneself the banner tells.
    if (!mine) say(told);
    $('history').hidden = false;
    const item = ({ at, told }) => el('li', {}, el('time', {}, exactTime(at)), el('span', {}, told));
    fill($('events'), ...this.#events.map(item));
  }
}
