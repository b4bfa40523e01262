/** The page as a link: what a reader chose stands in the address, and comes back from it. */

import { SORTS } from './measures.js';

export const OWN = ['run', 'data', 'epochs', 'epoch', 'pair', 'decoder', 'score', 'sample', 'keypoint', 'threshold', 'right', 'sort', 'size', 'truth', 'view', 'fit', 'maps', 'softmax', 'smooth', 'table'];

/** Epochs beside each other. */
const MOST = 4;

/** How an epoch is named in a link: by its number, which survives new checkpoints, else by its place. */
export function epochName(epoch) {
  return epoch.epoch === null || epoch.epoch === undefined ? `i${epoch.index}` : String(epoch.epoch);
}

const oneOf = (names, make) => [names.join(', '), (word) => (names.includes(word) ? make(word) : null)];
const switched = (key, on, off) => oneOf(['0', '1'], (word) => ({ [key]: word === '1' ? on : off }));

/** Words whose values the page itself knows: what is expected, and what they make of the State; null refuses. */
const WORDS = {
  pair: ['two different letters of A to D', (word) => {
    const pair = word.split('').map((letter) => 'ABCD'.indexOf(letter));
    return pair.length === 2 && pair.every((p) => p >= 0) && pair[0] !== pair[1] ? { pair } : null;
  }],
  threshold: ['a number above 0', (word) => (Number(word) > 0 && Number.isFinite(Number(word)) ? { threshold: Number(word) } : null)],
  right: ['0.5 to 0.95', (word) => (Number(word) >= 0.5 && Number(word) <= 0.95 ? { right: Math.round(Number(word) * 20) / 20 } : null)],
  sort: oneOf(SORTS.map(([name]) => name), (sort) => ({ sort })),
  size: oneOf(['medium', 'large'], (size) => ({ size })),
  maps: oneOf(['curves', 'image', 'alone'], (maps) => ({ maps })),
  truth: switched('truth', true, false),
  fit: oneOf(['image'], () => ({ whole: true })),
  table: oneOf(['set'], () => ({ tableOf: 'set' })),
  softmax: switched('softmax', true, false),
  smooth: switched('smooth', true, false),
  view: ['x,y,span', (word) => {
    const [x, y, span, ...more] = word.split(',').map(Number);
    return !more.length && [x, y, span].every(Number.isFinite) && span > 0 ? { view: { x, y, span } } : null;
  }],
};

/**
 * What the address asks for, not yet checked against what there is.
 * @returns {Object} any of the State's keys; `epochs` are names, `sample` a key, `keypoint` a name; `refused` is a
 *   sentence about words that nothing can be made of, "" where there are none
 */
export function readLink(search) {
  const query = new URLSearchParams(search);
  const asked = {};
  for (const key of ['run', 'data', 'decoder', 'score', 'sample', 'keypoint']) if (query.has(key)) asked[key] = query.get(key);
  const named = (query.get('epochs') ?? '').split(',').filter(Boolean);
  if (query.has('epochs')) asked.epochs = named.slice(0, MOST);
  // Pages that look at one epoch link with it alone: it becomes B.
  if (query.has('epoch') && !asked.epochs) asked.last = query.get('epoch');
  const refused = named.length > MOST ? [`epochs ${named.slice(MOST).join(', ').slice(0, 40)} (expected at most ${MOST})`] : [];
  for (const [key, [wanted, read]] of Object.entries(WORDS)) {
    if (!query.get(key)) continue;
    const found = read(query.get(key));
    if (found) Object.assign(asked, found);
    else refused.push(`${key}=${query.get(key).slice(0, 40)} (expected ${wanted})`);
  }
  asked.refused = refused.length ? `Of this link is not used: ${refused.join(', ')}.` : '';
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
