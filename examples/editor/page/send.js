// Requests, and a clock that does not stand still.

// The answer, with its body read. Throws where there is none, or not in time.
export async function send(method, path, { json, headers = {}, patience = 5000, signal } = {}) {
  const signals = [AbortSignal.timeout(patience), ...(signal ? [signal] : [])];
  const request = { method, headers: { Accept: 'application/json', ...headers }, signal: AbortSignal.any(signals) };
  if (json !== undefined) {
    request.body = JSON.stringify(json);
    request.headers['Content-Type'] = 'application/json';
  }
  const response = await fetch(path, request);
  const text = await response.text();
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    // Not everything has a body, and what has one that is no JSON comes from somebody in between.
  }
  return { status: response.status, body: body ?? {} };
}

// Milliseconds since the page was opened. Of two clocks, the one that went further: one of them stops while the machine
// sleeps, the other can be set. Somebody who believes that more time went by than did lets go of a lock too early, and
// that does no harm.
let jumped = 0, start = Date.now() - performance.now();
export function now() {
  const steady = performance.now(), ahead = Date.now() - start - steady;
  if (Math.abs(ahead) > 500) {
    start += ahead;
    jumped += Math.max(ahead, 0);
  }
  return steady + jumped;
}

// The time of day when `now()` will be this, to the second.
export const timeOfDay = (then) => Math.round((Date.now() + then - now()) / 1000) * 1000;

export const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
