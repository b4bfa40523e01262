/** What is shown when nobody chose: checked wishes of the link first, then the most telling default. */

import { defaultMaps, epochName } from './link.js';
import { errorAt, ofSize, ordered } from './measures.js';

/**
 * Run, data and columns to begin with.
 * @param {Object} wish of the link
 * @param {string} demo id of the run to show when nothing is chosen, where it is served
 * @returns {{run: string, data: string, epochs: number[], error: string}} error: why there is nothing to show
 */
export function firstSubject(runs, wish, demo) {
  const nothing = (error) => ({ run: '', data: '', epochs: [], error });
  const openable = runs.filter((r) => r.family && r.epochs.length);
  if (!openable.length) {
    const reason = runs.find((r) => r.reason)?.reason;
    return nothing(reason ?? 'No checkpoints here; put a run folder of .pth files below the root, or start with `make app ROOT=folder`.');
  }
  const usual = openable.find((r) => r.id === demo) ?? openable[0];
  const asked = runs.find((r) => r.id === wish.run);
  let error = '';
  if (wish.run && !asked) error = `The run ${wish.run} of this link is not here; ${usual.title} is shown.`;
  else if (asked && !openable.includes(asked)) error = `${asked.title} cannot be opened: ${asked.reason ?? 'it holds no checkpoint'}`;
  const run = openable.includes(asked) ? asked : usual;
  const data = run.data.includes(wish.data) ? wish.data : run.data[0] ?? '';
  if (!data) return { run: run.id, data: '', epochs: firstEpochs(run, wish.epochs, wish.last), error: withoutData(run) };
  if (wish.data && data !== wish.data) error ||= `Data ${wish.data} does not fit ${run.title}; ${data} is shown instead.`;
  error ||= missingEpochs(run, wish);
  error = [error, wish.refused].filter(Boolean).join(' ');
  return { run: run.id, data, epochs: firstEpochs(run, wish.epochs, wish.last), error };
}

/** Why a run is shown on no data: its model cannot be built, or no set has its keypoints. */
export function withoutData(run) {
  return run.reason ? `${run.title} cannot be run: ${run.reason}` : `No data set here has the keypoints of ${run.title}; name one with --data.`;
}

/** A sentence about epochs that a link names and the run does not have; "" when it has them all. */
export function missingEpochs(run, { epochs = [], last = '' }) {
  const names = [...epochs, ...(last ? [last] : [])];
  const missing = names.filter((name) => !run.epochs.some((e) => epochName(e) === name));
  if (!missing.length) return '';
  const shown = firstEpochs(run, epochs, last).map((index) => run.epochs.find((e) => e.index === index).label);
  return `${run.title} has no epoch ${missing.join(', ')}; shown: ${[...new Set(shown)].join(', ')}.`;
}

/**
 * The epochs of the columns: the asked ones that exist, else one of the first third against the last.
 * @param {string[]} [names] as in the link @param {string} [last] name of the one to be B
 */
export function firstEpochs(run, names = [], last = '') {
  const found = names.map((name) => run.epochs.find((e) => epochName(e) === name)?.index).filter((index) => index !== undefined);
  if (found.length >= 2) return found;
  const end = run.epochs.find((e) => epochName(e) === last) ?? run.epochs[run.epochs.length - 1];
  const early = run.epochs[Math.floor((run.epochs.length - 1) / 3)];
  const start = found[0] ?? early.index;
  return [start === end.index && run.epochs.length > 1 ? run.epochs[start === run.epochs[0].index ? run.epochs.length - 1 : 0].index : start, end.index];
}

/** Sample, keypoint and map shape for a comparison that has just come; what still fits stays. */
export function firstLook(state, comparison, wish) {
  const [a, b] = state.pair.map((p) => state.epochs[p]);
  const names = comparison.samples.map((s) => s.key);
  const before = state.comparison;
  const wanted = before?.data === comparison.data ? before.samples[state.sample]?.key : wish.sample;
  // The page chose before both epochs were there: with both, it can choose the sample that tells most.
  const both = (values) => Boolean(values) && values.epochs.has(a) && values.epochs.has(b);
  const again = before && !state.chosen && !both(before.values) && both(comparison.values);
  let sample = again ? -1 : names.indexOf(wanted);
  if (sample < 0) sample = ofSize(ordered(comparison.values, names, a, b, state.sort, state.right || comparison.oks_threshold), comparison.samples, state.size)[0] ?? -1;
  const known = again ? '' : before?.skeleton.keypoints[state.keypoint] ?? wish.keypoint;
  let keypoint = comparison.skeleton.keypoints.indexOf(known);
  if (keypoint < 0) keypoint = mostChanged(comparison.values, a, b, sample);
  const simcc = comparison.maps === 'simcc';
  let maps = state.maps || wish.maps || defaultMaps(comparison.maps);
  if (maps === 'curves' && !simcc) maps = 'image';
  if (before && before.maps !== comparison.maps) maps = defaultMaps(comparison.maps);
  const absent = [];
  if (wish.sample && !before && wanted && !names.includes(wanted)) absent.push(`There is no sample ${wanted} in ${comparison.data}.`);
  if (wish.keypoint && !before && !comparison.skeleton.keypoints.includes(wish.keypoint)) absent.push(`There is no keypoint ${wish.keypoint} in ${comparison.data}.`);
  if (wish.maps === 'curves' && !before && comparison.maps && !simcc) absent.push('maps=curves is of SimCC outputs alone; maps are shown.');
  const missing = absent.join(' ');
  return { sample, keypoint, maps, missing };
}

/** The keypoint whose error changed most: the one a reader asks about first. */
function mostChanged(values, a, b, sample) {
  let [best, most] = [0, -1];
  for (let k = 0; sample >= 0 && k < values.K; k += 1) {
    const moved = Math.abs(errorAt(values, b, sample, k) - errorAt(values, a, sample, k));
    if (moved > most) [best, most] = [k, moved];
  }
  return best;
}
