// All documents, and who is editing which.

import { $, avatar, el, fill, time } from './dom.js';
import { send } from './send.js';

const EVERY = 2000;

export function openList(user) {
  $('list').hidden = false;
  $('create').onclick = async () => {
    const { status, body } = await send('POST', '/docs', { json: { text: 'A new page\n\n' } });
    if (status === 201) location.assign(`/edit/${body.id}`);
  };
  refresh(user);
  setInterval(() => document.hidden || refresh(user), EVERY);
  document.addEventListener('visibilitychange', () => document.hidden || refresh(user));
}

async function refresh(user) {
  try {
    const [documents, locks] = await Promise.all([send('GET', '/docs'), send('GET', '/locks?prefix=%2Fdocs')]);
    $('offline').hidden = documents.status === 200;
    if (documents.status === 401) return location.assign('/sign-in');
    if (documents.status !== 200) return;
    const held = new Map((locks.body.locks ?? []).map((lock) => [lock.resource, lock]));
    fill($('cards'), ...documents.body.map((each) => card(each, held.get(`/docs/${each.id}`), user)));
  } catch {
    $('offline').hidden = false;
  }
}

function card({ id, title, saved_by, saved_at }, lock, user) {
  const name = lock?.owner?.name ?? lock?.owner?.id ?? 'Somebody';
  const told = lock?.mine || name === user.name ? 'You are editing' : `${name} is editing`;
  const who = lock && el('span', { class: 'badge' }, avatar(name), told);
  return el(
    'li',
    {},
    el('a', { class: 'card', href: `/edit/${encodeURIComponent(id)}` },
      el('strong', {}, title),
      el('span', { class: 'meta' }, `Saved by ${saved_by}, ${time(saved_at)}`),
      who || el('span', { class: 'badge free' }, 'Free'),
    ),
  );
}
