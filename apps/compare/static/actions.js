/** Everything a reader can do on this page, by name. */

import { firstEpochs, withoutData } from './beginnings.js';
import { rightFrom } from './learning.js';
import { ofSize, ordered } from './measures.js';
import { MOST } from './choices.js';
import { cancelJob } from './server.js';
import { began } from './timings.js';

/**
 * @param {import('./store.js').Store} store
 * @param {{comparisons: Object, pictures: Object, places: Object, beside: (sample: number, step: number) => number,
 *   page: () => number, strip: () => Object, begin: () => void, left: () => void, moved: () => void}} parts
 *   `beside` gives the sample some rows on in the list, `page` how many are in sight; `begin` asks what there
 *   is; `left` hears that the reader left what the link named, `moved` that Back shall undo what follows
 */
export function actions(store, { comparisons, pictures, places, beside, page, strip, begin, left, moved }) {
  const { state } = store;
  const want = (anew = false) => {
    store.set({ error: '', retry: false, waiting: true });
    comparisons.want(state, anew);
  };
  const act = {
    sample(n, at) {
      if (n === state.sample) return;
      began('sample', at);
      moved();
      store.set({ sample: n, view: null, chosen: true });
    },
    keypoint(k) {
      if (k === state.keypoint) return;
      began('keypoint');
      store.set({ keypoint: k, chosen: true });
    },
    epoch(place, index, { settled, at } = { settled: true }) {
      if (state.epochs[place] === index) return store.set({ settled });
      began('epoch', at);
      moved();
      return store.set({ epochs: state.epochs.map((e, i) => (i === place ? index : e)), settled });
    },
    threshold(value, at) {
      began('threshold', at);
      store.set({ threshold: value });
    },
    right(oks) {
      moved();
      store.set({ right: oks === state.comparison?.oks_threshold ? 0 : oks });
    },
    decoder(name) {
      began('decoder');
      store.set({ decoder: name === state.own.decoder ? '' : name });
      want();
    },
    score(name) {
      began('decoder');
      store.set({ score: name === state.own.score ? '' : name });
      want();
    },
    /** Another order of the list; its first sample is shown, for that is what one sorts for. */
    sortBy(sort) {
      store.set({ sort });
      const { comparison } = state;
      if (!comparison) return;
      const [a, b] = state.pair.map((p) => state.epochs[p]);
      const order = ordered(comparison.values, comparison.samples.map((s) => s.key), a, b, sort, rightFrom(state));
      const [first] = ofSize(order, comparison.samples, state.size);
      if (first !== undefined) act.sample(first);
    },
    instances(sort, size = '') {
      const { comparison } = state;
      if (!comparison) return;
      const [a, b] = state.pair.map((p) => state.epochs[p]);
      const order = ordered(comparison.values, comparison.samples.map((s) => s.key), a, b, sort, rightFrom(state));
      const [first] = ofSize(order, comparison.samples, size);
      store.set({ sort, size });
      if (first !== undefined) act.sample(first);
      places.samples.querySelector('[role=listbox]').focus({ preventScroll: true });
    },
    /** @returns {Promise<boolean>} whether the server heard it */
    async cancel(id) {
      try {
        const job = await cancelJob(id);
        if (state.job?.id === id) store.set({ job }); // else another answer has come meanwhile
        return true;
      } catch (reason) {
        store.set({ error: reason.message, retry: false });
        return false;
      }
    },
    again() {
      pictures.retry();
      if (state.runs.length) want(true);
      else begin();
    },
    choices: {
      run(id) {
        left();
        moved();
        strip().stop(); // it would go on through the epochs of the run before
        comparisons.drop();
        const run = state.runs.find((r) => r.id === id);
        const data = run.data.includes(state.data) ? state.data : run.data[0] ?? '';
        store.set({ run: id, data, epochs: firstEpochs(run), pair: [0, 1], own: { decoder: '', score: '' }, decoder: '', score: '', comparison: null, sample: -1, keypoint: -1, chosen: false, view: null });
        if (data) want();
        else store.set({ error: withoutData(run), waiting: false });
      },
      data(id) {
        left();
        moved();
        store.set({ size: '', data: id, comparison: null, sample: -1, chosen: false, view: null });
        want();
      },
      epoch: (place, index) => act.epoch(place, index),
      add() {
        const { epochs } = state.runs.find((r) => r.id === state.run);
        const free = epochs.filter((e) => !state.epochs.includes(e.index));
        if (!free.length || state.epochs.length >= MOST) return; // clicked faster than painted
        moved();
        // The middle of what is not shown yet tells most about the way between the columns.
        store.set({ epochs: [...state.epochs, free[free.length >> 1].index] });
      },
      remove(place) {
        if (state.epochs.length <= 2) return;
        moved();
        store.set({ epochs: state.epochs.filter((_, i) => i !== place), pair: [0, 1] });
      },
    },
    keys: (figures) => ({
      sample: (step, at) => { if (state.comparison) act.sample(beside(state.sample, step), at); },
      page: (step, at) => { if (state.comparison) act.sample(beside(state.sample, step * page()), at); },
      epoch(place, step, at) {
        const { epochs } = state.runs.find((r) => r.id === state.run) ?? { epochs: [] };
        const now = epochs.findIndex((e) => e.index === state.epochs[place]);
        const next = epochs[Math.max(0, Math.min(epochs.length - 1, now + step))];
        if (now >= 0) act.epoch(place, next.index, { settled: true, at });
      },
      keypoint(step) {
        const K = state.comparison?.values.K;
        if (K) act.keypoint((state.keypoint + step + K) % K);
      },
      truth: () => store.set({ truth: !state.truth }),
      whole: () => store.set({ whole: !state.whole, view: null }),
      play: () => strip().play(),
      escape() {
        strip().stop();
        figures.close();
        places.help.hidden = true;
        store.set({ view: null, whole: false });
      },
      help: () => { places.help.hidden = !places.help.hidden; },
    }),
  };
  return act;
}
