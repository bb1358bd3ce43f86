// Four ticks a second, from a worker: the timers of a page in the background are put off for a minute at a time, which is
// longer than a lock lives.
setInterval(() => postMessage(null), 250);
