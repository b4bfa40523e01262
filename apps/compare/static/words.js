/** How numbers and names are written on this page. Unknown is a dash. */

export const LETTERS = ['A', 'B', 'C', 'D'];
const UNKNOWN = '–';

/** `.633`, `1.000`, `–`: a figure between 0 and 1. */
export function fraction(value, digits = 3) {
  if (!Number.isFinite(value)) return UNKNOWN;
  return value.toFixed(digits).replace(/^(-?)0\./, '$1.').replace('-', '−');
}

/** `+.221`, `−.014`, `.000`: a change of such a figure; the sign is never left out. */
export function change(value, digits = 3) {
  if (!Number.isFinite(value)) return UNKNOWN;
  const text = fraction(Math.abs(value), digits);
  if (Number(Math.abs(value).toFixed(digits)) === 0) return text;
  return (value < 0 ? '−' : '+') + text;
}

/** `6.1`, `128`, `–`: image pixels, without the unit. */
export function pixels(value) {
  if (!Number.isFinite(value)) return UNKNOWN;
  return value.toFixed(Math.abs(value) < 99.95 ? 1 : 0).replace('-', '−');
}

/** `+3.2`, `−14.0`: a change in image pixels. */
export function pixelChange(value) {
  if (!Number.isFinite(value)) return UNKNOWN;
  const text = pixels(Math.abs(value));
  if (text === '0.0') return text;
  return (value < 0 ? '−' : '+') + text;
}

/** `40 s`, `2 min 10 s`: a time to wait. */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return '';
  const whole = Math.max(1, Math.round(seconds));
  return whole < 90 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

// Control characters but the newline, and signs that change the direction of text or hide: the set of
// `printable` in workbench/core/report.py.
const OBEYED = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/g;

/** Text for showing: what a browser would obey, such as a bidi override in a keypoint's name, as an escape. */
export function printable(text) {
  return String(text).replaceAll(OBEYED, (sign) => {
    if (sign === '\t' || sign === '\r') return sign === '\t' ? '\\t' : '\\r';
    const code = sign.codePointAt(0).toString(16);
    return code.length > 2 ? `\\u${code.padStart(4, '0')}` : `\\x${code.padStart(2, '0')}`;
  });
}
