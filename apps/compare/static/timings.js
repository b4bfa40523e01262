/**
 * How long from an input to the painted answer?
 *
 * `window.workbenchTimings` is the page's only global: [{what, ms, at}], oldest first, at most 500.
 * `ms` runs from the input event to the frame after the one that drew everything, maps included.
 */

const KEPT = 500;
const pending = new Map();
window.workbenchTimings = [];

/** An input came: `what` is `epoch`, `sample`, `keypoint`, `threshold` or `decoder`. */
export function began(what, at = performance.now()) {
  if (!pending.has(what)) pending.set(what, at);
}

/** A frame was drawn. @param {boolean} complete nothing it shows is still on its way */
export function drew(complete) {
  if (!complete || !pending.size) return;
  const asked = [...pending];
  pending.clear();
  requestAnimationFrame(() => {
    const channel = new MessageChannel(); // a task after the frame: the picture has left for the screen
    channel.port1.onmessage = () => {
      const at = performance.now();
      for (const [what, start] of asked) window.workbenchTimings.push({ what, ms: at - start, at });
      window.workbenchTimings.splice(0, Math.max(0, window.workbenchTimings.length - KEPT));
    };
    channel.port2.postMessage(null);
  });
}
