// Small things that every part of the page needs.

export const $ = (id) => document.getElementById(id);

// An element. Text goes in as text, never as HTML.
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, '');
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

// Replaces what is in `parent`, unless it is the same already: the focus and a screen reader stay where they are.
export function fill(parent, ...children) {
  const next = el(parent.localName, {}, ...children);
  if (parent.innerHTML !== next.innerHTML) parent.replaceChildren(...next.childNodes);
}

// The circle with somebody's first letter, in their colour.
export function avatar(name) {
  const letter = el('span', { class: 'avatar', 'aria-hidden': 'true' }, [...name][0].toUpperCase());
  let hue = 7;
  for (const character of name) hue = (hue * 31 + character.codePointAt(0)) % 360;
  letter.style.setProperty('--hue', hue);
  return letter;
}

const CLOCK = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const EXACT = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const DAY = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'long' });

export function time(at) {
  const then = new Date(at), clock = CLOCK.format(then);
  return then.toDateString() === new Date().toDateString() ? clock : `${DAY.format(then)}, ${clock}`;
}

export const exactTime = (at) => EXACT.format(new Date(at));

// Says it to a screen reader, once whoever uses it has come to the end of a sentence.
export function say(sentence) {
  const live = $('live');
  live.textContent = '';
  // The same sentence twice is news twice.
  setTimeout(() => (live.textContent = sentence), 50);
}
