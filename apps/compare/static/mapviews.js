/** The maps of the chosen keypoint, one pane per epoch and one for their difference. */

import { divergingFor, gradient, sequential } from './colourmaps.js';
import { differenceOf, drawRaster, rangeOf, rasterOf } from './heatmap.js';
import { predictionAt, truthAt } from './measures.js';
import { cross, ring } from './overlay.js';
import { curveDifference, curveOf, drawCurves } from './simcc.js';
import { cleared, drawImage } from './surface.js';
import { fraction, pixels } from './words.js';

const known = new WeakMap();

/** A value computed once per maps object. */
function once(maps, key, compute) {
  if (!known.has(maps)) known.set(maps, new Map());
  const kept = known.get(maps);
  if (!kept.has(key)) kept.set(key, compute());
  return kept.get(key);
}

const raster = (maps, k, rule) => once(maps, `raster ${k} ${rule}`, () => rasterOf(maps, k, rule));
const curve = (maps, k, axis, softmax) => once(maps, `curve ${k} ${axis} ${softmax}`, () => curveOf(maps, k, axis, softmax));

/** Lowest and highest value of one keypoint, as it is shown. */
function reach(maps, k, { curves, softmax, rule }) {
  return once(maps, `reach ${k} ${curves} ${softmax} ${rule}`, () => {
    const ranges = curves ? ['x', 'y'].map((axis) => rangeOf(curve(maps, k, axis, softmax))) : [rangeOf(raster(maps, k, rule))];
    return { low: Math.min(0, ...ranges.map((r) => r.low)), high: Math.max(...ranges.map((r) => r.high)) };
  });
}

/** One scale for all epochs whose maps are here: it stays while the slider moves, and heights compare. */
export function commonReach(all, k, look) {
  const ranges = all.map((maps) => reach(maps, k, look));
  return { low: Math.min(0, ...ranges.map((r) => r.low)), high: Math.max(1e-6, ...ranges.map((r) => r.high)) };
}

/**
 * Draws the map of one epoch.
 * @param {HTMLCanvasElement} canvas
 * @param {import('./overlay.js').Scene & {reach: Object, curves: boolean}} scene
 * @param {import('./pictures.js').Maps} maps
 */
export function drawMaps(canvas, scene, maps, epoch, colour) {
  const surface = cleared(canvas);
  if (!surface) return;
  const { state, comparison, sample, theme } = scene;
  if (scene.curves) {
    strips(surface, scene, (axis) => [{ curve: curve(maps, state.keypoint, axis, state.softmax), colour, marked: true, filled: true }], scene.reach);
    return;
  }
  const map = ground(surface, scene, canvas);
  drawRaster(surface.context, raster(maps, state.keypoint, comparison.score), map, {
    high: scene.reach.high, centred: false, blend: state.maps === 'image', smooth: state.smooth, dark: theme.dark,
  });
  const found = predictionAt(comparison.values, epoch, sample, state.keypoint);
  places(surface.context, scene, map, found ? [[found, comparison.skeleton.colours[state.keypoint]]] : []);
}

/** Draws B - A: curves as signed areas, maps on a scale centred on 0. */
export function drawDifference(canvas, scene, before, after, [a, b], [colourA, colourB]) {
  const surface = cleared(canvas);
  if (!surface) return '';
  const { state, comparison, sample, theme } = scene;
  const k = state.keypoint;
  const reached = scene.reach.high;
  if (scene.curves) {
    const difference = (axis) => {
      const whole = curveDifference(curve(before, k, axis, state.softmax), curve(after, k, axis, state.softmax));
      const side = (sign) => ({ ...whole, values: whole.values.map((v) => (v * sign > 0 ? v : 0)) });
      return [[1, colourB], [-1, colourA]].map(([sign, colour]) => ({ curve: side(sign), colour, marked: false, filled: true }));
    };
    strips(surface, scene, difference, { low: -reached, high: reached });
    return '';
  }
  const difference = differenceOf(raster(before, k, comparison.score), raster(after, k, comparison.score));
  if (!difference) return 'The maps of these epochs have different sizes, so they cannot be subtracted.';
  const map = ground(surface, scene, canvas);
  drawRaster(surface.context, difference, map, { high: reached, centred: true, blend: state.maps === 'image', smooth: state.smooth, dark: theme.dark });
  const dots = [[a, colourA], [b, colourB]].map(([epoch, colour]) => [predictionAt(comparison.values, epoch, sample, k), colour]);
  places(surface.context, scene, map, dots.filter(([found]) => found));
  return '';
}

function strips({ context, width, height }, scene, lines, { low, high }) {
  const { comparison, sample, state, theme, lead } = scene;
  const truth = state.truth ? truthAt(comparison.values, sample, state.keypoint) : null;
  // x lies straight under the image above it; y is laid along the same width, top of the image to the left.
  const along = (y) => ((y - lead.map.imageY(0)) / (lead.map.imageY(lead.height) - lead.map.imageY(0))) * width;
  for (const [i, axis] of ['x', 'y'].entries()) {
    const strip = { top: (i * height) / 2, height: height / 2, width };
    const across = axis === 'x' ? lead.map.x : along;
    drawCurves(context, strip, { axis, low, high, across, truth: truth ? truth[axis] : null, theme }, lines(axis));
  }
  context.fillStyle = theme.line;
  context.fillRect(0, Math.round(height / 2), width, 1);
}

function ground({ context, width, height }, scene, canvas) {
  const map = scene.mapOf(canvas);
  if (scene.state.maps === 'image' && scene.bitmap) drawImage(context, scene.bitmap, scene.comparison.samples[scene.sample], map, 0.5, true);
  return { ...map, width, height };
}

function places(context, { comparison, sample, state, theme }, map, dots) {
  const truth = state.truth ? truthAt(comparison.values, sample, state.keypoint) : null;
  if (truth) ring(context, map.x(truth.x), map.y(truth.y), 6, theme.truth, 1.6);
  for (const [found, colour] of dots) cross(context, map.x(found.x), map.y(found.y), colour);
}

/** The value under the pointer, in words; "" outside. `x`, `y` are CSS pixels of the canvas. */
export function valueAt(canvas, scene, maps, x, y) {
  const k = scene.state.keypoint;
  if (scene.curves) {
    const axis = y < canvas.clientHeight / 2 ? 'x' : 'y';
    const drawn = curve(maps, k, axis, scene.state.softmax);
    const { map, height } = scene.lead;
    const image = axis === 'x' ? map.imageX(x) : map.imageY(0) + (x / canvas.clientWidth) * (map.imageY(height) - map.imageY(0));
    const bin = Math.round((image - drawn.at(0)) / (drawn.at(1) - drawn.at(0)));
    return bin >= 0 && bin < drawn.values.length ? `${axis} ${pixels(drawn.at(bin))} px: ${fraction(drawn.values[bin])}` : '';
  }
  const map = scene.mapOf(canvas);
  const { values, h, w, toImage } = raster(maps, k, scene.comparison.score);
  const [ix, iy] = [map.imageX(x), map.imageY(y)];
  // Crops are upright: the affine has no turn, so each axis is inverted alone.
  const [column, row] = [Math.round((ix - toImage[0][2]) / toImage[0][0]), Math.round((iy - toImage[1][2]) / toImage[1][1])];
  if (column < 0 || row < 0 || column >= w || row >= h) return '';
  return `(${pixels(ix)}, ${pixels(iy)}) px: ${fraction(values[row * w + column])}`;
}

/** The colours of the scale in force, as CSS. */
export function scaleGradient(centred, dark) {
  return gradient(centred ? divergingFor(dark) : sequential);
}
