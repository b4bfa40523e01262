/**
 * At which epoch is each sample right first, and which samples are forgotten again? Pure functions of the arrays.
 *
 * A sample is right in an epoch when its OKS reaches a threshold. It is forgotten in an epoch when it is wrong
 * there and was right in the epoch before; an epoch without an OKS of it is passed over.
 */

const known = new WeakMap();

/**
 * @typedef {Object} Learning
 * @property {number[]} epochs indices in the run, rising
 * @property {Int32Array} first [N] place in `epochs` of the first epoch that is right, -1 where there is none
 * @property {Uint16Array} forgotten [N] how often
 * @property {Uint32Array} forgottenIn [E] samples that are forgotten in each epoch
 * @property {Uint32Array} rightIn [E] samples that are right in each epoch
 */

/** @param {import('./measures.js').Arrays} arrays @param {number} right OKS @returns {Learning} computed once */
export function learningOf(arrays, right) {
  if (!known.has(arrays)) known.set(arrays, new Map());
  const kept = known.get(arrays);
  if (!kept.has(right)) kept.set(right, computed(arrays, right));
  return kept.get(right);
}

function computed({ N, epochs: held }, right) {
  const epochs = [...held.keys()].sort((a, b) => a - b);
  const threshold = Math.fround(right); // the arrays are float32: .7 must reach .7
  const [first, forgotten, was] = [new Int32Array(N).fill(-1), new Uint16Array(N), new Uint8Array(N)];
  const [forgottenIn, rightIn] = [new Uint32Array(epochs.length), new Uint32Array(epochs.length)];
  epochs.forEach((index, e) => {
    const { oks } = held.get(index);
    for (let n = 0; n < N; n += 1) {
      const value = oks[n];
      if (value >= threshold) {
        if (first[n] < 0) first[n] = e;
        was[n] = 1;
        rightIn[e] += 1;
      } else if (value < threshold && was[n]) { // nan is neither
        was[n] = 0;
        forgotten[n] += 1;
        forgottenIn[e] += 1;
      }
    }
  });
  return { epochs, first, forgotten, forgottenIn, rightIn };
}

/**
 * One sample over the epochs.
 * @returns {{oks: number[], first: number, lost: number[], last: boolean}} `first` and `lost` are indices of
 *   epochs in the run, `first` -1 where there is none; `last`: right in the last epoch that has an OKS of it
 */
export function courseOf(arrays, sample, right) {
  const { epochs } = learningOf(arrays, right);
  const threshold = Math.fround(right);
  const oks = epochs.map((index) => arrays.epochs.get(index).oks[sample]);
  const lost = [];
  let [first, was] = [-1, false];
  oks.forEach((value, e) => {
    if (value >= threshold) {
      if (first < 0) first = epochs[e];
      was = true;
    } else if (value < threshold) {
      if (was) lost.push(epochs[e]);
      was = false;
    }
  });
  return { oks, first, lost, last: was };
}

/** The OKS from which a sample is right: the reader's, else the comparison's. */
export function rightFrom(state) {
  return state.right || state.comparison.oks_threshold;
}

/** A sample's course in words. @param {(index: number) => string} name of an epoch */
export function spokenCourse({ first, lost, last }, name) {
  if (first < 0) return 'right in no epoch';
  const parts = [`right first in epoch ${name(first)}`];
  if (!lost.length) parts.push('never forgotten');
  else parts.push(`forgotten in ${lost.slice(0, 4).map(name).join(', ')}${lost.length > 4 ? ` and ${lost.length - 4} more` : ''}`);
  if (lost.length) parts.push(last ? 'right at the end' : 'wrong at the end');
  return parts.join(' · ');
}
