// Which page this is: the list, or a document.

import { $, avatar } from './dom.js';
import { openDocument } from './editor.js';
import { openList } from './list.js';
import { pause, send } from './send.js';

const user = await whoAmI();
$('me').replaceChildren(avatar(user.name), user.name);

const document_ = /^\/edit\/([^/]+)$/.exec(location.pathname);
if (document_) openDocument(decodeURIComponent(document_[1]), user);
else openList(user);

async function whoAmI() {
  for (;;) {
    const { status, body } = await send('GET', '/me').catch(() => ({}));
    if (status === 200) return body;
    if (status === 401) location.assign('/sign-in');
    $('offline').hidden = false;
    await pause(1000);
    $('offline').hidden = true;
  }
}
