/** A canvas that is sharp on every screen, and the colours of the theme it is painted in. */

import { printable } from './words.js';

const sizes = new WeakMap();
const resized = new Set();
let observer = null;

/**
 * Size of an element in CSS pixels as of the last layout. Asked for in every frame, the element itself would
 * lay the page out anew each time something was written before.
 * @returns {{width: number, height: number}}
 */
export function sizeOf(node) {
  if (!sizes.has(node)) {
    observer ??= new ResizeObserver((entries) => {
      for (const { target } of entries) sizes.set(target, { width: target.clientWidth, height: target.clientHeight });
      for (const listener of resized) listener();
    });
    sizes.set(node, { width: node.clientWidth, height: node.clientHeight });
    observer.observe(node);
  }
  return sizes.get(node);
}

/** @param {() => void} listener called when an element that `sizeOf` was asked for has another size */
export function onResize(listener) {
  resized.add(listener);
}

/**
 * The canvas ready for one picture, in CSS pixels.
 * @param {HTMLCanvasElement} canvas laid out by CSS
 * @returns {?{context: CanvasRenderingContext2D, width: number, height: number}} null while it has no size
 */
export function cleared(canvas) {
  const { width, height } = sizeOf(canvas);
  if (!width || !height) return null;
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const context = canvas.getContext('2d');
  context.setTransform(w / width, 0, 0, h / height, 0, 0);
  context.globalAlpha = 1;
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/**
 * The theme's colours, read from the style sheet so that they stand in one place.
 * @param {HTMLElement} root
 */
export function themeOf(root) {
  const style = getComputedStyle(root);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    dark: root.dataset.theme === 'dark',
    ink: colour('ink'), soft: colour('soft'), line: colour('line'), panel: colour('panel'), well: colour('well'),
    gain: colour('gain'), loss: colour('loss'), truth: colour('truth'),
    epochs: ['a', 'b', 'c', 'd'].map((letter) => colour(`epoch-${letter}`)),
    font: style.fontFamily,
  };
}

/** Text with a rim, readable on any picture. */
export function label(context, words, x, y, theme, { align = 'left', size = 11, colour = '#fff', rim = 'rgb(0 0 0 / .78)', weight = 600 } = {}) {
  const text = printable(words);
  context.font = `${weight} ${size}px ${theme.font}`;
  context.textAlign = align;
  context.textBaseline = 'middle';
  context.lineJoin = 'round';
  context.lineWidth = 3;
  context.strokeStyle = rim;
  context.strokeText(text, x, y);
  context.fillStyle = colour;
  context.fillText(text, x, y);
}

/** The affine of a canvas for a raster whose cell (column, row) centres `toImage` takes to image pixels. */
export function rasterTransform(context, toImage, map) {
  const [[a, b, c], [d, e, f]] = toImage;
  const s = map.scale;
  // A raster's cell centre (0, 0) lies half a cell inside its corner.
  context.transform(a * s, d * s, b * s, e * s, map.x(c - (a + b) / 2), map.y(f - (d + e) / 2));
}

const greys = new WeakMap();

/** The same picture without colour, made once: a canvas filter in every frame would cost the frame. */
function greyOf(bitmap) {
  if (!greys.has(bitmap)) {
    const sheet = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = sheet.getContext('2d');
    context.drawImage(bitmap, 0, 0);
    context.globalCompositeOperation = 'saturation';
    context.fillStyle = '#808080';
    context.fillRect(0, 0, bitmap.width, bitmap.height);
    greys.set(bitmap, sheet);
  }
  return greys.get(bitmap);
}

/**
 * The image of a sample, placed so that its pixel centres are integers of the image frame.
 * @param {boolean} [grey] without colour: under a map colour must mean the map
 */
export function drawImage(context, bitmap, sample, map, alpha = 1, grey = false) {
  context.save();
  context.globalAlpha = alpha;
  // Magnified pixels are shown as they are; a shrunken image is averaged.
  context.imageSmoothingEnabled = (map.scale * sample.width) / bitmap.width < 3;
  context.imageSmoothingQuality = 'high';
  context.drawImage(grey ? greyOf(bitmap) : bitmap, map.x(-0.5), map.y(-0.5), sample.width * map.scale, sample.height * map.scale);
  context.restore();
}
