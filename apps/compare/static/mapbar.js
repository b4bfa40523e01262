/** Which keypoint, and how are its maps shown? Also what the image panes draw. */

import { element, hint, offer, say } from './element.js';
import { mapsName } from './maprun.js';

const SHAPES = { curves: 'curves', image: 'on image', alone: 'alone' };

export class MapBar {
  /**
   * @param {import('./store.js').Store} store
   * @param {(keypoint: number) => void} choose
   * @param {() => void} compute the maps of a folder of predictions, from the checkpoints
   */
  constructor(store, choose, compute) {
    this.store = store;
    this.keypoint = element('select', { 'aria-label': 'keypoint', 'data-testid': 'keypoint', onChange: () => choose(Number(this.keypoint.value)) });
    this.swatch = element('i.cmp-swatch');
    this.shapes = Object.entries(SHAPES).map(([name, text]) => element('button', { type: 'button', 'data-testid': `maps-as-${name}`, data: { name }, onClick: () => store.set({ maps: name }) }, text));
    this.softmax = this.toggle('softmax', 'softmax', 'softmax(10 · logit), as in the loss of RTMPose, instead of raw logits');
    this.smooth = this.toggle('smooth', 'smooth', 'interpolate between cells');
    this.truth = this.toggle('truth', '○ truth', 'annotation, as white rings, on and off (t)');
    this.whole = this.toggle('whole', 'whole image', 'fit the whole image instead of the instance (f)');
    this.legend = element('span.cmp-legend');
    this.compute = element('button.cmp-toggle', { type: 'button', hidden: true, 'data-testid': 'compute-maps', onClick: () => compute() });
    this.node = element(
      'div.cmp-bar', { role: 'group', 'aria-label': 'maps' },
      element('label.cmp-choice', {}, element('span', { text: 'keypoint' }), this.swatch, this.keypoint),
      this.segments = element('span.cmp-segments', { role: 'group', 'aria-label': 'show the maps as' }, ...this.shapes),
      this.softmax, this.smooth, this.compute, this.legend, element('span.cmp-space'), this.truth, this.whole,
    );
  }

  toggle(key, text, title) {
    return element('button.cmp-toggle', { type: 'button', title, 'data-testid': `toggle-${key}`, onClick: () => this.store.set(key === 'whole' ? { whole: !this.store.state.whole, view: null } : { [key]: !this.store.state[key] }) }, text);
  }

  render(state) {
    const { comparison } = state;
    for (const key of ['softmax', 'smooth', 'truth', 'whole']) this[key].setAttribute('aria-pressed', String(state[key]));
    if (!comparison) return;
    this.offerMaps(state);
    const { keypoints, colours } = comparison.skeleton;
    offer(this.keypoint, keypoints.map((name, k) => [String(k), name]), String(state.keypoint));
    this.swatch.style.background = colours[state.keypoint] ?? '';
    const simcc = comparison.maps === 'simcc';
    this.segments.hidden = !comparison.maps;
    for (const button of this.shapes) {
      button.hidden = button.dataset.name === 'curves' && !simcc;
      button.setAttribute('aria-pressed', String(button.dataset.name === state.maps));
    }
    const curves = simcc && state.maps === 'curves';
    this.softmax.hidden = !curves;
    this.smooth.hidden = curves || !comparison.maps;
    const words = legend(comparison, state, curves);
    say(this.legend, words);
    hint(this.legend, words);
  }

  /** Maps of a folder of predictions are computed when asked, where the checkpoints are there. */
  offerMaps({ comparison, sample, epochs, computed, settled }) {
    const shown = comparison.epochs.filter((e) => epochs.includes(e.index));
    const { index } = comparison.samples[sample] ?? {};
    const missing = shown.some((e) => !computed.has(mapsName(comparison, e.index, index)));
    this.compute.hidden = !comparison.predictions || !missing || !shown.every((e) => e.checkpoint);
    if (this.compute.hidden || !settled) return;
    say(this.compute, `Compute heatmaps of ${shown.map((e) => e.label).join(', ')}`);
    this.compute.title = 'runs the checkpoints of these epochs on this image';
  }
}

function legend(comparison, state, curves) {
  if (comparison.predictions) {
    const bare = comparison.epochs.filter((e) => state.epochs.includes(e.index) && !e.checkpoint);
    if (bare.length) return `Only predictions of ${bare.map((e) => e.label).join(', ')} are here: no heatmaps without the checkpoint.`;
    if (!comparison.maps) return '';
  }
  if (!comparison.maps) return 'This model leaves no heatmap and no SimCC output to look at.';
  if (curves) return state.softmax ? 'probability per bin' : 'raw logits';
  if (comparison.maps === 'simcc') return `${comparison.score === 'mean' ? 'mean' : 'min'} of x and y logit: the score each place would get`;
  return 'as the network left it';
}
