/** Where does this epoch put the keypoints, and where are they? Drawn on the original image. */

import { errorAt, predictionAt, truthAt } from './measures.js';
import { drawImage, label, sizeOf } from './surface.js';
import { fraction, pixels, printable } from './words.js';

const CASING = 'rgb(0 0 0 / .6)';
const FAINT = 0.35; // keypoints below the score threshold stay visible as rings

/**
 * @typedef {Object} Scene what every overlay needs
 * @property {import('./comparison.js').Comparison} comparison
 * @property {number} sample position in comparison.samples
 * @property {ImageBitmap|undefined} bitmap
 * @property {Object} map image pixels to CSS pixels
 * @property {import('./store.js').State} state
 * @property {Object} theme
 */

/** @param {CanvasRenderingContext2D} context @param {Scene} scene @param {number} epoch index in the run */
export function drawOverlay(context, scene, epoch) {
  const { comparison, sample, bitmap, map, state } = scene;
  if (bitmap) drawImage(context, bitmap, comparison.samples[sample], map);
  drawBox(context, scene);
  if (state.truth) drawTruth(context, scene);
  drawPrediction(context, scene, epoch);
  for (const k of new Set([state.keypoint, state.hovered])) if (k >= 0) drawChosen(context, scene, epoch, k);
}

function drawBox(context, { comparison, sample, map }) {
  const [x0, y0, x1, y1] = comparison.samples[sample].box;
  context.save();
  context.setLineDash([5, 4]);
  for (const [colour, width] of [[CASING, 2.5], ['rgb(255 255 255 / .75)', 1]]) {
    Object.assign(context, { strokeStyle: colour, lineWidth: width });
    context.strokeRect(map.x(x0), map.y(y0), (x1 - x0) * map.scale, (y1 - y0) * map.scale);
  }
  context.restore();
}

/** Annotation: white rings and thin white limbs; occluded keypoints dashed. */
export function drawTruth(context, { comparison, sample, map, theme }, quiet = false) {
  const { skeleton, values } = comparison;
  const points = skeleton.keypoints.map((_, k) => truthAt(values, sample, k));
  context.save();
  if (quiet) context.globalAlpha = 0.6;
  for (const [i, j] of quiet ? [] : skeleton.limbs) {
    if (points[i] && points[j]) line(context, map, points[i], points[j], theme.truth, 1.4, 3);
  }
  for (const point of points) {
    if (!point) continue;
    context.setLineDash(point.visibility === 1 ? [2.5, 2] : []);
    ring(context, map.x(point.x), map.y(point.y), quiet ? 3.5 : 5.5, theme.truth, 1.6);
  }
  context.restore();
}

function drawPrediction(context, { comparison, sample, map, state }, epoch) {
  const { skeleton, values } = comparison;
  const points = skeleton.keypoints.map((_, k) => predictionAt(values, epoch, sample, k));
  const kept = (point) => point && !(point.score < state.threshold);
  for (const [i, j] of skeleton.limbs) {
    if (kept(points[i]) && kept(points[j])) line(context, map, points[i], points[j], skeleton.colours[j], 2.6, 4.6);
  }
  points.forEach((point, k) => {
    if (!point) return;
    const [x, y] = [map.x(point.x), map.y(point.y)];
    if (kept(point)) return dot(context, x, y, 4, skeleton.colours[k]);
    context.save();
    context.globalAlpha = FAINT;
    ring(context, x, y, 3.5, skeleton.colours[k], 1.5);
    return context.restore();
  });
}

/** The chosen keypoint: a halo, the way to its annotation, its name, error and score. */
function drawChosen(context, { comparison, sample, map, theme }, epoch, k) {
  const { skeleton, values } = comparison;
  const found = predictionAt(values, epoch, sample, k);
  const truth = truthAt(values, sample, k);
  if (found && truth) {
    context.save();
    context.setLineDash([3, 3]);
    line(context, map, found, truth, '#fff', 1.4, 3);
    context.restore();
  }
  const place = found ?? truth;
  if (!place) return;
  const [x, y] = [map.x(place.x), map.y(place.y)];
  if (found) {
    ring(context, x, y, 9, skeleton.colours[k], 2.6);
    dot(context, x, y, 4.2, skeleton.colours[k]);
  }
  tell(context, [skeleton.keypoints[k], ...standing(comparison, epoch, sample, k)].join(' · '), x, y, theme);
}

/**
 * Error and score of a keypoint, or why there is none: an epoch that is not computed says nothing about
 * the annotation.
 * @returns {string[]}
 */
export function standing({ values, epochs }, epoch, sample, k) {
  if (!values.epochs.has(epoch)) return [epochs.find((e) => e.index === epoch)?.error ? 'not computed' : 'computing'];
  const found = predictionAt(values, epoch, sample, k);
  const error = errorAt(values, epoch, sample, k);
  return [
    ...(truthAt(values, sample, k) ? [] : ['not annotated']), ...(Number.isFinite(error) ? [`${pixels(error)} px`] : []),
    found ? fraction(found.score, 2) : 'no prediction',
  ];
}

/** Words beside a place, on the side where they fit into the pane. */
export function tell(context, text, x, y, theme) {
  const words = printable(text);
  const { width: clientWidth } = sizeOf(context.canvas);
  context.font = `600 11px ${theme.font}`;
  let { width } = context.measureText(words);
  if (width > clientWidth - 14) {
    context.font = `600 9px ${theme.font}`; // of a narrow pane: small and whole
    ({ width } = context.measureText(words));
  }
  const left = x + 14 + width < clientWidth ? x + 14 : x - 14 - width;
  label(context, words, Math.max(5, Math.min(clientWidth - width - 5, left)), Math.max(10, y - 15), theme);
}

/** A cased cross that leaves its centre free, so that the cell under it can be seen; CSS pixels. */
export function cross(context, x, y, colour) {
  for (const [stroke, thick] of [[CASING, 3.6], [colour, 1.8]]) {
    Object.assign(context, { strokeStyle: stroke, lineWidth: thick, lineCap: 'round' });
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + 3.5 * dx, y + 3.5 * dy);
      context.lineTo(x + 8 * dx, y + 8 * dy);
    }
    context.stroke();
  }
}

/** A cased straight line between two image points. */
export function line(context, map, from, to, colour, width, casing) {
  for (const [stroke, thick] of [[CASING, casing], [colour, width]]) {
    Object.assign(context, { strokeStyle: stroke, lineWidth: thick, lineCap: 'round' });
    context.beginPath();
    context.moveTo(map.x(from.x), map.y(from.y));
    context.lineTo(map.x(to.x), map.y(to.y));
    context.stroke();
  }
}

/** A cased ring, CSS pixels. */
export function ring(context, x, y, radius, colour, width) {
  for (const [stroke, thick] of [[CASING, width + 1.8], [colour, width]]) {
    Object.assign(context, { strokeStyle: stroke, lineWidth: thick });
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.stroke();
  }
}

/** A filled dot with a dark rim, CSS pixels. */
export function dot(context, x, y, radius, colour) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  Object.assign(context, { fillStyle: colour, strokeStyle: 'rgb(0 0 0 / .75)', lineWidth: 1.4 });
  context.fill();
  context.stroke();
}
