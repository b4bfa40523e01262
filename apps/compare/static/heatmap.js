/** How sure is the network, and where? Heatmaps as colours, on the image or alone. */

import { divergingFor, sequential } from './colourmaps.js';
import { rasterTransform } from './surface.js';

/**
 * @typedef {Object} Raster values of one keypoint on a grid
 * @property {Float32Array} values [h, w]
 * @property {number} h
 * @property {number} w
 * @property {number[][]} toImage (column, row) of a cell centre to image pixels
 */

/**
 * The map of one keypoint. SimCC has none of its own: a cell then holds the score that the model
 * would give to this place, by the score rule in force (`min` or `mean` of the two logits); below 0 counts as 0,
 * since the decoder gives no place to it.
 * @param {import('./pictures.js').Maps} maps
 * @param {number} k
 * @param {string} rule `mean`, else min
 * @returns {Raster}
 */
export function rasterOf(maps, k, rule) {
  if (maps.kind === 'heatmap') {
    const { h, w, low, high, toImage } = maps;
    const step = (high - low) / 255;
    const values = Float32Array.from(maps.grey.subarray(k * h * w, (k + 1) * h * w), (grey) => low + grey * step);
    return { values, h, w, toImage };
  }
  const [across, down] = [pooled(maps.x, k, maps.binsX), pooled(maps.y, k, maps.binsY)];
  const [w, h] = [across.values.length, down.values.length];
  const values = new Float32Array(w * h);
  for (let row = 0; row < h; row += 1) {
    for (let column = 0; column < w; column += 1) {
      const [x, y] = [across.values[column], down.values[row]];
      values[row * w + column] = Math.max(0, rule === 'mean' ? (x + y) / 2 : Math.min(x, y));
    }
  }
  const [[a, b, c], [d, e, f]] = maps.toImage;
  const [sx, sy, ox, oy] = [across.step, down.step, (across.step - 1) / 2, (down.step - 1) / 2];
  return { values, h, w, toImage: [[a * sx, b * sy, a * ox + b * oy + c], [d * sx, e * sy, d * ox + e * oy + f]] };
}

/** On a picture the scale begins here: its dark end would look like shadow, not like little. */
const LIFT = 0.3;
/** At most this many cells a side: 512 bins at half a pixel show nothing that 128 cells do not. */
const CELLS = 128;

function pooled(logits, k, bins) {
  const step = Math.max(1, Math.round(bins / CELLS));
  const values = new Float32Array(Math.ceil(bins / step));
  values.fill(-Infinity);
  for (let bin = 0; bin < bins; bin += 1) {
    const cell = Math.floor(bin / step);
    values[cell] = Math.max(values[cell], logits[k * bins + bin]); // the peak must keep its height
  }
  return { values, step };
}

/** Smallest and largest value. */
export function rangeOf(raster) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of raster.values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return { low, high };
}

/** b - a on the grid of b; null where the grids differ. */
export function differenceOf(a, b) {
  if (a.h !== b.h || a.w !== b.w) return null;
  return { ...b, values: b.values.map((value, i) => value - a.values[i]) };
}

/**
 * Draws a raster in image coordinates.
 * @param {Raster} raster
 * @param {{high: number, centred: boolean, blend: boolean, smooth: boolean, dark: boolean}} look
 *   values from 0 (or -high when centred on 0) to high; blend: see-through where there is little
 */
export function drawRaster(context, raster, map, look) {
  const { h, w, values } = raster;
  const pixels = new ImageData(w, h);
  const lut = look.centred ? divergingFor(look.dark) : sequential;
  const high = look.high > 0 ? look.high : 1;
  for (let i = 0; i < values.length; i += 1) {
    const t = look.centred ? 0.5 + values[i] / (2 * high) : values[i] / high;
    const shade = look.blend && !look.centred ? LIFT + (1 - LIFT) * t : t;
    const at = 3 * Math.round(255 * Math.min(1, Math.max(0, shade)));
    pixels.data[4 * i] = lut[at];
    pixels.data[4 * i + 1] = lut[at + 1];
    pixels.data[4 * i + 2] = lut[at + 2];
    const weight = look.centred ? Math.abs(2 * t - 1) : t;
    // The power lifts weak second modes out of the picture, they are what one looks for, and not the noise.
    pixels.data[4 * i + 3] = look.blend ? 240 * Math.min(1, Math.max(0, weight)) ** 0.7 : 255;
  }
  const sheet = new OffscreenCanvas(w, h);
  sheet.getContext('2d').putImageData(pixels, 0, 0);
  context.save();
  rasterTransform(context, raster.toImage, map);
  context.imageSmoothingEnabled = look.smooth;
  context.imageSmoothingQuality = 'high';
  context.drawImage(sheet, 0, 0);
  context.restore();
}
