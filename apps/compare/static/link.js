/** The page as a link: what a reader chose stands in the address, and comes back from it. */

import { SORTS } from './measures.js';

const OWN = ['run', 'data', 'epochs', 'epoch', 'pair', 'decoder', 'score', 'sample', 'keypoint', 'threshold', 'right', 'sort', 'size', 'truth', 'view', 'fit', 'maps', 'softmax', 'smooth', 'table'];

/** How an epoch is named in a link: by its number, which survives new checkpoints, else by its place. */
export function epochName(epoch) {
  return epoch.epoch === null || epoch.epoch === undefined ? `i${epoch.index}` : String(epoch.epoch);
}

/**
 * What the address asks for, not yet checked against what there is.
 * @returns {Object} any of the State's keys; `epochs` are names, `sample` a key, `keypoint` a name
 */
export function readLink(search) {
  const query = new URLSearchParams(search);
  const asked = {};
  for (const key of ['run', 'data', 'decoder', 'score', 'sample', 'keypoint']) if (query.has(key)) asked[key] = query.get(key);
  if (query.has('epochs')) asked.epochs = query.get('epochs').split(',').filter(Boolean).slice(0, 4);
  // Pages that look at one epoch link with it alone: it becomes B.
  if (query.has('epoch') && !asked.epochs) asked.last = query.get('epoch');
  const pair = (query.get('pair') ?? '').split('').map((letter) => 'ABCD'.indexOf(letter));
  if (pair.length === 2 && pair.every((p) => p >= 0) && pair[0] !== pair[1]) asked.pair = pair;
  if (Number(query.get('threshold')) > 0) asked.threshold = Number(query.get('threshold'));
  const right = Number(query.get('right'));
  if (right >= 0.5 && right <= 0.95) asked.right = Math.round(right * 20) / 20;
  if (SORTS.some(([name]) => name === query.get('sort'))) asked.sort = query.get('sort');
  if (['medium', 'large'].includes(query.get('size'))) asked.size = query.get('size');
  if (['curves', 'image', 'alone'].includes(query.get('maps'))) asked.maps = query.get('maps');
  if (query.get('truth') === '0') asked.truth = false;
  if (query.get('fit') === 'image') asked.whole = true;
  if (query.get('table') === 'set') asked.tableOf = 'set';
  if (query.get('softmax') === '1') asked.softmax = true;
  if (query.get('smooth') === '1') asked.smooth = true;
  const view = (query.get('view') ?? '').split(',').map(Number);
  if (view.length === 3 && view.every(Number.isFinite) && view[2] > 0) asked.view = { x: view[0], y: view[1], span: view[2] };
  return asked;
}

/**
 * The query that brings this state back; what others put into the address stays.
 * @param {import('./store.js').State} state
 */
export function writeLink(state, search) {
  const query = new URLSearchParams(search);
  for (const key of OWN) query.delete(key);
  const run = state.runs.find((r) => r.id === state.run);
  const put = (key, value) => { if (value) query.set(key, String(value)); };
  put('run', state.run);
  put('data', state.data);
  put('epochs', run && state.epochs.map((index) => epochName(run.epochs.find((e) => e.index === index) ?? { index })).join(','));
  if (state.pair[0] !== 0 || state.pair[1] !== 1) put('pair', state.pair.map((p) => 'ABCD'[p]).join(''));
  put('decoder', state.decoder);
  put('score', state.score);
  put('sample', state.comparison?.samples[state.sample]?.key);
  put('keypoint', state.comparison?.skeleton.keypoints[state.keypoint]);
  put('threshold', state.threshold && Number(state.threshold.toFixed(3)));
  put('right', state.right);
  if (state.sort !== 'changed') put('sort', state.sort);
  put('size', state.size);
  if (state.comparison && state.maps !== defaultMaps(state.comparison.maps)) put('maps', state.maps);
  if (!state.truth) query.set('truth', '0');
  if (state.whole) query.set('fit', 'image');
  if (state.softmax) query.set('softmax', '1');
  if (state.smooth) query.set('smooth', '1');
  if (state.tableOf === 'set') query.set('table', 'set');
  if (state.view) put('view', [state.view.x, state.view.y, state.view.span].map((v) => Number(v.toFixed(1))).join(','));
  // Commas and slashes are legal in a query and far easier to read than their codes.
  return `?${query.toString().replaceAll('%2C', ',').replaceAll('%2F', '/')}`;
}

/** How the output of a kind is shown first. */
export function defaultMaps(kind) {
  return kind === 'simcc' ? 'curves' : 'image';
}
