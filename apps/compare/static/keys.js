/** The page by keyboard. Fields keep their own keys. */

/** What the help shows, in its order. */
export const KEYS = [
  ['← →', 'sample before, after'], ['Home End', 'first, last sample'], ['PgUp PgDn', 'a list’s height on'], ['↑ ↓', 'later, earlier epoch of B (Alt: of A)'], ['Shift+↑ Shift+↓', 'ten epochs on, back'], ['k', 'next keypoint (Shift: the one before)'],
  ['t', 'annotation on, off'], ['f', 'fit the whole image, the instance'], ['space', 'play the epochs'], ['Esc', 'fit again, close'], ['?', 'these keys'],
];

/**
 * @param {HTMLElement} root whose keys these are
 * @param {Object} on `sample(step)`, `page(step)`, `epoch(place, step)`, `keypoint(step)`, `truth()`, `whole()`, `play()`,
 *   `escape()`, `help()`; each also gets the time stamp of the event last
 */
export function listenToKeys(root, on) {
  document.addEventListener('keydown', (event) => {
    const { target, key } = event;
    if (event.ctrlKey || event.metaKey || event.defaultPrevented) return;
    if (target !== document.body && !root.contains(target)) return;
    const field = target.closest?.('input, select, textarea');
    if (field && key !== 'Escape') return;
    const at = event.timeStamp;
    const button = target.closest?.('button');
    const acts = {
      ArrowLeft: () => on.sample(-1, at), ArrowRight: () => on.sample(1, at),
      Home: () => on.sample(-Infinity, at), End: () => on.sample(Infinity, at),
      PageUp: () => on.page(-1, at), PageDown: () => on.page(1, at),
      ArrowUp: () => on.epoch(event.altKey ? 0 : 1, event.shiftKey ? 10 : 1, at),
      ArrowDown: () => on.epoch(event.altKey ? 0 : 1, event.shiftKey ? -10 : -1, at),
      k: () => on.keypoint(1, at), K: () => on.keypoint(-1, at), t: () => on.truth(), f: () => on.whole(),
      ' ': button ? null : () => on.play(), Escape: () => { if (field) field.blur(); on.escape(); }, '?': () => on.help(),
    };
    if (!acts[key]) return;
    event.preventDefault();
    acts[key]();
  });
}
