/** Taking what is seen elsewhere: a picture, the numbers, or the Python that makes them again. */

import { element } from './element.js';
import { errorAt, oksAt, predictionAt } from './measures.js';
import { LETTERS } from './words.js';

/** Numbers of the shown sample and all figures, as plain data. @param {import('./store.js').State} state */
export function facts(state) {
  const { comparison, sample, epochs } = state;
  const { keypoints } = comparison.skeleton;
  // What is of one checkpoint alone stands with its epoch.
  const { checkpoint, sha256, loaded_fraction, complete, ...protocol } = comparison.protocol;
  const number = (value) => (Number.isFinite(value) ? value : null);
  return {
    run: comparison.run, data: comparison.data, protocol, protocol_text: comparison.protocol_text,
    epochs: epochs.map((index, i) => {
      const epoch = comparison.epochs.find((e) => e.index === index);
      return { column: LETTERS[i], epoch: epoch.epoch, file: epoch.file, sha256: epoch.sha256 ?? null, loaded_fraction: epoch.loaded_fraction ?? null, figures: epoch.figures, oks: number(oksAt(comparison.values, index, sample)) };
    }),
    sample: comparison.samples[sample].key,
    keypoints: keypoints.map((keypoint, k) => ({
      keypoint,
      ...Object.fromEntries(epochs.flatMap((index, i) => [
        [`error_px_${LETTERS[i]}`, number(errorAt(comparison.values, index, sample, k))],
        [`score_${LETTERS[i]}`, number(predictionAt(comparison.values, index, sample, k)?.score ?? NaN)],
      ])),
    })),
  };
}

/** The table as CSV, one line per keypoint. */
export function csv(state) {
  const rows = facts(state).keypoints;
  const heads = Object.keys(rows[0]);
  // A name that a spreadsheet would take for a formula gets an apostrophe in front, as in workbench/core/files.py.
  const harmless = (text) => (/^[=+\-@\t\r\n＝＋－＠]/.test(text) ? `'${text}` : text);
  const quoted = (value) => (typeof value === 'string' ? harmless(value).replace(/^.*[",\r\n].*$/s, (text) => `"${text.replaceAll('"', '""')}"`) : value ?? '');
  return [heads, ...rows.map((row) => heads.map((head) => quoted(row[head])))].map((line) => line.join(',')).join('\n');
}

/** All panes as one picture, at the screen's own resolution. @param {HTMLElement} panes */
export function picture(panes, background) {
  const canvases = [...panes.querySelectorAll('canvas')];
  const frame = panes.getBoundingClientRect();
  const places = canvases.map((canvas) => ({ canvas, box: canvas.getBoundingClientRect() }));
  const height = Math.max(...places.map(({ box }) => box.bottom)) - frame.top;
  const ratio = window.devicePixelRatio || 1;
  const sheet = Object.assign(document.createElement('canvas'), { width: frame.width * ratio, height: height * ratio });
  const context = sheet.getContext('2d');
  context.fillStyle = background;
  context.fillRect(0, 0, sheet.width, sheet.height);
  for (const { canvas, box } of places) context.drawImage(canvas, (box.left - frame.left) * ratio, (box.top - frame.top) * ratio);
  // Which epoch a pane is of stands in its head, which is no canvas.
  for (const head of panes.querySelectorAll('.cmp-pane-head')) {
    const box = head.getBoundingClientRect();
    const { color, fontFamily } = getComputedStyle(head);
    [context.fillStyle, context.font, context.textBaseline] = [color, `${13 * ratio}px ${fontFamily}`, 'middle'];
    const words = [...head.querySelectorAll('.cmp-letter, .cmp-pane-title, .cmp-pane-note')].map((part) => part.textContent.trim()).filter(Boolean);
    context.fillText(words.join('  '), (box.left - frame.left + 8) * ratio, ((box.top + box.bottom) / 2 - frame.top) * ratio, (box.width - 16) * ratio);
  }
  return sheet;
}

/** Hands a file to the browser's downloads. */
export function save(name, content) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type: 'text/plain' }));
  const link = element('a', { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** Text into the clipboard. @returns {Promise<boolean>} whether it is there */
export async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) {
    return navigator.clipboard.writeText(text).then(() => true, () => false);
  }
  const area = element('textarea', { value: text });
  document.body.append(area);
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  return done;
}
