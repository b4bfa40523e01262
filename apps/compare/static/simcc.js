/** Where along x and along y does the network see the keypoint? Its logits, one curve per axis. */

import { label } from './surface.js';
import { fraction, pixels } from './words.js';

/** A pane of fewer CSS pixels has room for the peak's words alone. */
const NARROW = 215;
/** A second mode lies farther than this from the peak, as a part of the axis: 13 of 256 input pixels. */
const APART = 0.05;
/** Between it and the peak the curve falls below this part of its height: a bump on the peak's flank is no second opinion. */
const DIP = 0.5;
/** RTMPose is trained on softmax(10 logit); softmax of the bare logits would be flat. Source: mmpose KLDiscretLoss. */
export const BETA = 10;

/**
 * @typedef {Object} Curve one axis of one keypoint
 * @property {Float32Array} values logits, or probabilities
 * @property {number} peak bin of the largest value
 * @property {number} second bin of the largest other mode, -1 without one
 * @property {(bin: number) => number} at image pixel of a bin along this axis
 */

/** @param {import('./pictures.js').Maps} maps @param {"x"|"y"} axis @returns {Curve} */
export function curveOf(maps, k, axis, softmax) {
  const bins = axis === 'x' ? maps.binsX : maps.binsY;
  const logits = maps[axis].subarray(k * bins, (k + 1) * bins);
  const values = softmax ? probabilities(logits) : logits;
  let peak = 0;
  for (let i = 1; i < bins; i += 1) if (values[i] > values[peak]) peak = i;
  let second = -1;
  for (const step of [-1, 1]) {
    let valley = values[peak]; // the lowest value on the way from the peak
    for (let i = peak + step; i > 0 && i < bins - 1; i += step) {
      valley = Math.min(valley, values[i]);
      const top = values[i] >= values[i - 1] && values[i] >= values[i + 1];
      if (!top || Math.abs(i - peak) <= APART * bins || valley >= DIP * values[i]) continue;
      if (second < 0 || values[i] > values[second]) second = i;
    }
  }
  const row = maps.toImage[axis === 'x' ? 0 : 1];
  return { values, peak, second, at: (bin) => row[axis === 'x' ? 0 : 1] * bin + row[2] };
}

function probabilities(logits) {
  let top = -Infinity;
  for (const value of logits) top = Math.max(top, value);
  const values = logits.map((value) => Math.exp(BETA * (value - top)));
  const sum = values.reduce((a, b) => a + b, 0);
  return values.map((value) => value / sum);
}

/**
 * Draws curves of one axis into a strip of the pane.
 * @param {{top: number, height: number, width: number}} strip CSS pixels
 * @param {{axis: string, low: number, high: number, across: (image: number) => number, truth: ?number, theme: Object}}
 *   frame values at the strip's ends; `across` from image to CSS pixels; `truth` in image pixels
 * @param {Array<{curve: Curve, colour: string, marked: boolean, filled: boolean}>} lines
 */
export function drawCurves(context, strip, frame, lines) {
  const { theme } = frame;
  const pad = { top: 16, bottom: 4 };
  const { across } = frame;
  const up = (value) => strip.top + strip.height - pad.bottom
    - ((value - frame.low) / (frame.high - frame.low || 1)) * (strip.height - pad.top - pad.bottom);
  context.save();
  context.beginPath();
  context.rect(0, strip.top, strip.width, strip.height);
  context.clip();
  rule(context, 0, up(0), strip.width, up(0), theme.line, 1);
  if (frame.truth !== null) {
    const x = across(frame.truth);
    context.setLineDash([3, 3]);
    rule(context, x, strip.top, x, strip.top + strip.height, theme.soft, 1.4);
    context.setLineDash([]);
  }
  for (const { curve, colour, marked, filled } of lines) {
    trace(context, curve, across, up, colour, filled);
    if (marked) for (const bin of [curve.second, curve.peak]) if (bin >= 0) mark(context, across(curve.at(bin)), up(curve.values[bin]), colour, bin === curve.peak);
  }
  const plain = { rim: theme.panel, colour: theme.soft, size: 10.5 };
  label(context, frame.axis, 6, strip.top + 9, theme, { ...plain, weight: 700, colour: theme.ink });
  const only = lines.length === 1 && lines[0].marked ? lines[0].curve : null;
  if (only) {
    const place = (bin) => `${fraction(only.values[bin], 2)} at ${pixels(only.at(bin))}`;
    const words = `peak ${place(only.peak)}${only.second >= 0 && strip.width > NARROW ? ` · 2nd ${place(only.second)}` : ''}`;
    label(context, `${words} px`, strip.width - 6, strip.top + 9, theme, { ...plain, align: 'right', weight: 500 });
  }
  context.restore();
}

function trace(context, curve, across, up, colour, filled) {
  context.beginPath();
  curve.values.forEach((value, bin) => context.lineTo(across(curve.at(bin)), up(value)));
  Object.assign(context, { strokeStyle: colour, lineWidth: 1.7, lineJoin: 'round' });
  context.stroke();
  if (!filled) return;
  context.lineTo(across(curve.at(curve.values.length - 1)), up(0));
  context.lineTo(across(curve.at(0)), up(0));
  context.globalAlpha = 0.16;
  context.fillStyle = colour;
  context.fill();
  context.globalAlpha = 1;
}

/** Filled triangle: the peak that is decoded; hollow: the second mode. */
function mark(context, x, y, colour, filled) {
  context.beginPath();
  context.moveTo(x, y - 2);
  context.lineTo(x - 4.5, y - 9);
  context.lineTo(x + 4.5, y - 9);
  context.closePath();
  Object.assign(context, { strokeStyle: colour, fillStyle: colour, lineWidth: 1.4 });
  if (filled) context.fill();
  context.stroke();
}

function rule(context, x0, y0, x1, y1, colour, width) {
  Object.assign(context, { strokeStyle: colour, lineWidth: width });
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

/** b - a as a curve with its sign; the peak marks are those of the largest rise. */
export function curveDifference(a, b) {
  return { ...b, values: b.values.map((value, i) => value - a.values[i]), second: -1 };
}
