/** Which keypoints moved from one epoch to the other, and did they come closer to the annotation? */

import { errorAt, predictionAt } from './measures.js';
import { drawTruth, dot, ring, tell } from './overlay.js';
import { drawImage } from './surface.js';
import { pixelChange } from './words.js';

/** Less than this is no movement, image pixels: decoders answer in steps of half a pixel. */
export const STILL = 0.5;

/**
 * One verdict per keypoint: `closer`, `farther`, `still`, or `open` where nothing is annotated.
 * @returns {Array<{k: number, from: Object, to: Object, gone: number, verdict: string}>} image pixels
 */
export function movements(values, a, b, sample) {
  const moved = [];
  for (let k = 0; k < values.K; k += 1) {
    const [from, to] = [predictionAt(values, a, sample, k), predictionAt(values, b, sample, k)];
    if (!from || !to) continue;
    const gone = errorAt(values, b, sample, k) - errorAt(values, a, sample, k);
    const far = Math.hypot(to.x - from.x, to.y - from.y);
    let verdict = 'open';
    if (Number.isFinite(gone)) verdict = Math.abs(gone) < STILL ? 'still' : gone < 0 ? 'closer' : 'farther';
    moved.push({ k, from, to, far, gone, verdict });
  }
  return moved;
}

/** @param {import('./overlay.js').Scene} scene @param {number} a @param {number} b epochs, indices in the run */
export function drawMovement(context, scene, a, b) {
  const { comparison, sample, bitmap, map, state, theme } = scene;
  if (bitmap) drawImage(context, bitmap, comparison.samples[sample], map, 0.42, true);
  if (state.truth) drawTruth(context, scene, true);
  const colours = { closer: theme.gain, farther: theme.loss, still: theme.soft, open: theme.soft };
  const moved = movements(comparison.values, a, b, sample);
  moved.sort((x, y) => (x.k === state.keypoint) - (y.k === state.keypoint));
  for (const { k, from, to, gone, verdict } of moved) {
    const faint = from.score < state.threshold && to.score < state.threshold;
    context.save();
    if (faint) context.globalAlpha = 0.3;
    const [x0, y0, x1, y1] = [map.x(from.x), map.y(from.y), map.x(to.x), map.y(to.y)];
    const chosen = k === state.keypoint || k === state.hovered;
    if (Math.hypot(x1 - x0, y1 - y0) < 5) dot(context, x1, y1, 2.8, colours[verdict]);
    else arrow(context, x0, y0, x1, y1, colours[verdict], chosen ? 3.4 : 2.2);
    if (chosen) {
      ring(context, x1, y1, 9, comparison.skeleton.colours[k], 2.4);
      const text = Number.isFinite(gone) ? `${comparison.skeleton.keypoints[k]} ${pixelChange(gone)} px` : comparison.skeleton.keypoints[k];
      tell(context, text, x1, y1, theme);
    }
    context.restore();
  }
}

function arrow(context, x0, y0, x1, y1, colour, width) {
  const angle = Math.atan2(y1 - y0, x1 - x0);
  const head = 5 + 2 * width;
  const [bx, by] = [x1 - Math.cos(angle) * head * 0.8, y1 - Math.sin(angle) * head * 0.8];
  for (const [stroke, thick] of [['rgb(0 0 0 / .55)', width + 2], [colour, width]]) {
    Object.assign(context, { strokeStyle: stroke, fillStyle: stroke, lineWidth: thick, lineCap: 'round', lineJoin: 'round' });
    context.beginPath();
    context.moveTo(x0, y0);
    context.lineTo(bx, by);
    context.stroke();
    const grow = (thick - width) / 2;
    context.beginPath();
    for (const [turn, length] of [[0, grow], [2.65, head + grow], [-2.65, head + grow]]) {
      context.lineTo(x1 + Math.cos(angle + turn) * length, y1 + Math.sin(angle + turn) * length);
    }
    context.closePath();
    context.fill();
  }
}
