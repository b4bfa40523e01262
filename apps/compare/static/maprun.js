/** Heatmaps of a folder of predictions: computed on the server from the checkpoints, when a reader asks. */

import { address, askJson } from './server.js';

const PAUSE = 400; // milliseconds between two looks at the job

/** What a state's `computed` calls the maps of one epoch and sample, by their indices in run and set. */
export function mapsName({ run, data }, epoch, index) {
  return `${run} ${data} ${epoch} ${index}`;
}

/**
 * Has the maps of the shown epochs computed for the shown sample; the state then names them as computed.
 * @param {import('./store.js').Store} store
 */
export async function computeMaps(store) {
  const { run, data, epochs, comparison, sample } = store.state;
  const { index } = comparison.samples[sample];
  const url = address('compare/maps', { run, data, sample: index, epochs: epochs.join(',') });
  const same = () => store.state.run === run && store.state.data === data;
  try {
    for (;;) {
      const { status, body } = await askJson(url, { method: 'POST' });
      if (!same()) return;
      if (status === 200) {
        const computed = new Set([...store.state.computed, ...body.ready.map((e) => mapsName(comparison, e, index))]);
        const now = store.state.comparison;
        store.set({ job: null, computed, comparison: { ...now, maps: body.kind }, maps: body.kind === 'simcc' ? 'curves' : 'image' });
        return;
      }
      store.set({ job: body.job });
      await new Promise((done) => { setTimeout(done, PAUSE); });
    }
  } catch (reason) {
    if (same()) store.set({ error: reason.message, retry: false, job: null });
  }
}
