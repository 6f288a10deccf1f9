// Work that follows a pointer or a slider: one request at a time, and of those that wait only the newest.

/** Runs `task(...)` in turn, `begun()` before, and `ended(error)` when nothing is left to do. */
export function turns(task, { begun, ended }) {
  let waiting = null;
  let busy = false;
  return async function run(...wanted) {
    waiting = wanted;
    if (busy) return;
    busy = true;
    begun();
    let failure = null;
    while (waiting) {
      const now = waiting;
      waiting = null;
      failure = await task(...now).then(() => null, (error) => error);
    }
    busy = false;
    ended(failure);
  };
}
