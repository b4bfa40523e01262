/** What do two epochs say about each sample and keypoint? Pure functions of the arrays. */

import { learningOf } from './learning.js';

/**
 * @typedef {Object} Arrays
 * @property {number} N samples
 * @property {number} K keypoints
 * @property {Float32Array} truth [N, K, 3] x, y in image pixels, visibility 0, 1, 2
 * @property {Map<number, {oks: Float32Array, predictions: ?Float32Array, place: number}>} epochs by index in the
 *   run: [N]; [N, K, 3] x, y, score, nan where unknown, null in a folder of predictions; place in a track
 * @property {{get: (sample: number) => Float32Array|undefined}} [tracks] of a folder of predictions: what came of
 *   single samples, [E, K, 3] x, y, score in every epoch
 */

export const SORTS = [
  ['worst', 'worst in B'],
  ['changed', 'most changed'],
  ['gained', 'gained'],
  ['lost', 'lost'],
  ['first', 'right last or never'],
  ['forgotten', 'forgotten most'],
  ['name', 'name'],
];

/** (x, y, visibility) of an annotated keypoint in image pixels; null where it is not labelled. */
export function truthAt(arrays, sample, keypoint) {
  const at = (sample * arrays.K + keypoint) * 3;
  const visibility = arrays.truth[at + 2];
  return visibility > 0 ? { x: arrays.truth[at], y: arrays.truth[at + 1], visibility } : null;
}

/** (x, y, score) of a predicted keypoint in image pixels; null where there is none. */
export function predictionAt(arrays, epoch, sample, keypoint) {
  const held = arrays.epochs.get(epoch);
  if (!held) return null;
  const values = held.predictions ?? arrays.tracks?.get(sample);
  if (!values) return null;
  const at = ((held.predictions ? sample : held.place) * arrays.K + keypoint) * 3;
  const x = values[at];
  return Number.isFinite(x) ? { x, y: values[at + 1], score: values[at + 2] } : null;
}

/** Whether the keypoints of a sample are here; those of a folder of predictions come sample by sample. */
export function hasKeypoints(arrays, sample) {
  return !arrays.tracks || arrays.tracks.get(sample) !== undefined;
}

/** Distance from prediction to annotation in image pixels; nan without either. */
export function errorAt(arrays, epoch, sample, keypoint) {
  const truth = truthAt(arrays, sample, keypoint);
  const found = predictionAt(arrays, epoch, sample, keypoint);
  return truth && found ? Math.hypot(found.x - truth.x, found.y - truth.y) : NaN;
}

/** OKS of a sample; nan when the epoch is not there or nothing is annotated. */
export function oksAt(arrays, epoch, sample) {
  return arrays.epochs.get(epoch)?.oks[sample] ?? NaN;
}

/** Mean distance over the labelled keypoints of a sample, image pixels. */
export function meanError(arrays, epoch, sample) {
  return mean(Array.from({ length: arrays.K }, (_, k) => errorAt(arrays, epoch, sample, k)));
}

/** Mean of the finite values; nan without one. */
export function mean(values) {
  const finite = values.filter(Number.isFinite);
  return finite.length ? finite.reduce((a, b) => a + b, 0) / finite.length : NaN;
}

/** `computing` or `not computed` while an epoch's numbers are not there; "" when all are. */
export function unready({ values, epochs }, wanted) {
  const missing = wanted.filter((index) => !values.epochs.has(index));
  if (!missing.length) return '';
  return missing.some((index) => epochs.find((e) => e.index === index)?.error) ? 'not computed' : 'computing';
}

/** `lost`, `gained` or "": on which side of the OKS threshold a sample is in each epoch. */
export function markOf(arrays, a, b, sample, threshold) {
  const [before, after] = [oksAt(arrays, a, sample), oksAt(arrays, b, sample)];
  if (before >= threshold && after < threshold) return 'lost';
  return before < threshold && after >= threshold ? 'gained' : '';
}

/** How many samples were gained and lost. */
export function countMarks(arrays, a, b, threshold) {
  const counts = { gained: 0, lost: 0 };
  for (let n = 0; n < arrays.N; n += 1) {
    const mark = markOf(arrays, a, b, n, threshold);
    if (mark) counts[mark] += 1;
  }
  return counts;
}

/**
 * Sample positions in the order of the list. Unknown values stand last, ties in the set's order.
 * @param {string} sort one of SORTS; `gained` and `lost` put those that crossed the OKS threshold first
 * @param {number} threshold of OKS
 */
export function ordered(arrays, names, a, b, sort, threshold) {
  const positions = Array.from({ length: arrays.N }, (_, n) => n);
  if (sort === 'name') {
    const collator = new Intl.Collator('en', { numeric: true });
    return positions.sort((i, j) => collator.compare(names[i], names[j]) || i - j);
  }
  const change = (n) => oksAt(arrays, b, n) - oksAt(arrays, a, n);
  const crossed = (n, mark) => (markOf(arrays, a, b, n, threshold) === mark ? -2 : 0); // below any change of OKS
  const learned = ['first', 'forgotten'].includes(sort) ? learningOf(arrays, threshold) : null;
  const keys = {
    worst: (n) => oksAt(arrays, b, n), changed: (n) => -Math.abs(change(n)),
    gained: (n) => crossed(n, 'gained') - change(n), lost: (n) => crossed(n, 'lost') + change(n),
    first: (n) => (learned.first[n] < 0 ? -Infinity : -learned.first[n]), forgotten: (n) => -learned.forgotten[n],
  };
  const values = Float64Array.from(positions, keys[sort]);
  const last = (value) => (Number.isNaN(value) ? Infinity : value);
  return positions.sort((i, j) => {
    const [x, y] = [last(values[i]), last(values[j])];
    return x === y ? i - j : x - y;
  });
}

/** Areas of COCO's size ranges, square pixels; APM and APL count the instances within. */
const SIZES = { medium: [32 ** 2, 96 ** 2], large: [96 ** 2, 1e5 ** 2] };

/** Positions of a list that are of a size; all of them for "", or where areas are not annotated. */
export function ofSize(order, samples, size) {
  if (!SIZES[size] || !samples.every((s) => Number.isFinite(s.area))) return order;
  const [least, most] = SIZES[size];
  return order.filter((n) => samples[n].area >= least && samples[n].area <= most);
}

/**
 * What a score threshold leaves of one epoch, over all labelled keypoints. One that is not predicted is not kept,
 * whatever its score.
 * @returns {{share: number, median: number}} share of them kept, median error of those in image pixels
 */
export function keptAbove(arrays, epoch, threshold) {
  const held = arrays.epochs.get(epoch);
  if (!held?.predictions) return { share: NaN, median: NaN };
  const errors = [];
  let labelled = 0;
  for (let at = 0; at < arrays.truth.length; at += 3) {
    if (!(arrays.truth[at + 2] > 0)) continue;
    labelled += 1;
    const distance = Math.hypot(held.predictions[at] - arrays.truth[at], held.predictions[at + 1] - arrays.truth[at + 1]);
    if (held.predictions[at + 2] >= threshold && Number.isFinite(distance)) errors.push(distance);
  }
  errors.sort((x, y) => x - y);
  return { share: labelled ? errors.length / labelled : NaN, median: errors.length ? errors[errors.length >> 1] : NaN };
}
