/** What will the reader look at next? The order in which pictures and maps are fetched ahead. */

import { mapsName } from './maprun.js';

/**
 * @param {import('./store.js').State} state
 * @param {number[]} order sample positions as the list shows them
 * @param {number} room maps that may be asked for, so that the cache keeps all of them
 * @returns {Array<{sample: number, epochs: number[]}>} most urgent first
 */
export function prefetchOrder(state, order, room) {
  const { comparison, sample, epochs, computed, settled } = state;
  const at = order.indexOf(sample);
  // While a slider moves, neighbours wait: no step competes with what it does not show.
  const beside = settled ? [order[at + 1], order[at - 1]].filter((n) => n !== undefined) : [];
  if (comparison.predictions) { // maps are there only where the reader had them computed
    const there = epochs.filter((e) => computed.has(mapsName(comparison, e, comparison.samples[sample].index)));
    return [{ sample, epochs: there }, ...beside.map((n) => ({ sample: n, epochs: [] }))];
  }
  const place = comparison.epochs.findIndex((e) => e.index === epochs[1]);
  const ready = comparison.epochs.map((e, i) => ({ ...e, far: Math.abs(i - place) })).filter((e) => e.ready);
  const shown = ready.filter((e) => epochs.includes(e.index)).map((e) => e.index);
  // The slider goes to neighbours first.
  const others = ready.filter((e) => !epochs.includes(e.index)).sort((a, b) => a.far - b.far).map((e) => e.index);
  const all = [
    { sample, epochs: shown }, { sample, epochs: others },
    ...beside.map((n) => ({ sample: n, epochs: shown })), ...beside.map((n) => ({ sample: n, epochs: others })),
  ];
  let left = room;
  return all.map((request) => {
    const taken = request.epochs.slice(0, Math.max(0, left));
    left -= taken.length;
    return { sample: request.sample, epochs: taken };
  });
}
