/** What changes how predictions are read, without a forward pass: threshold, decoder, score rule. */

import { element, offer, say } from './element.js';
import { rightFrom } from './learning.js';
import { keptAbove } from './measures.js';
import { fraction, LETTERS, pixels } from './words.js';

/** OKS thresholds of COCO: from which of them on is a sample right? */
const RIGHT = Array.from({ length: 10 }, (_, i) => (0.5 + i / 20).toFixed(2));

export class Dials {
  /** @param {HTMLElement} root @param {import('./store.js').Store} store @param {Object} on `threshold(value, at)`, `right(oks)`, `decoder(name)`, `score(name)` */
  constructor(root, store, on) {
    this.store = store;
    this.range = element('input.cmp-plain-range', { type: 'range', min: 0, max: 1, step: 0.01, value: '0', 'data-testid': 'threshold', 'aria-label': 'score threshold', onInput: (event) => on.threshold(Number(this.range.value), event.timeStamp) });
    this.value = element('output', { 'data-testid': 'threshold-value' });
    this.kept = element('span.cmp-kept', { 'data-testid': 'kept', title: 'labelled keypoints that are predicted with a score that reaches the threshold, and the median error of those; the figures above use no threshold' });
    this.right = element('select', { 'data-testid': 'right', title: 'a sample is right from this OKS on: gained, lost, first right and forgotten follow it', onChange: () => on.right(Number(this.right.value)) });
    this.rightLabel = element('label.cmp-choice', {}, element('span', { text: 'right from OKS' }), this.right);
    this.decoder = element('select', { 'data-testid': 'decoder', onChange: () => on.decoder(this.decoder.value) });
    this.score = element('select', { 'data-testid': 'score', onChange: () => on.score(this.score.value) });
    this.scoreLabel = element('label.cmp-choice', {}, element('span', { text: 'score' }), this.score);
    this.decoderLabel = element('label.cmp-choice', {}, element('span', { text: 'decoder' }), this.decoder);
    root.append(
      element('label.cmp-choice.cmp-threshold', {}, element('span', {}, 'threshold ', this.value), this.range, this.kept),
      this.rightLabel, this.decoderLabel, this.scoreLabel,
    );
  }

  render(state, changed) {
    const { comparison } = state;
    say(this.value, fraction(state.threshold, 2));
    if (!comparison) return;
    offer(this.decoder, comparison.decoders.map((name) => [name, name]), state.decoder || comparison.decoder);
    offer(this.score, comparison.score_rules.map((name) => [name, name]), state.score || comparison.score);
    offer(this.right, RIGHT.map((oks) => [oks, fraction(Number(oks), 2)]), rightFrom(state).toFixed(2));
    this.rightLabel.hidden = !comparison.skeleton.sigmas?.length;
    // A network that groups what it finds in the whole image reads its maps in one way.
    this.decoderLabel.hidden = !comparison.decoders.length;
    this.scoreLabel.hidden = !comparison.score_rules.length;
    if (changed.has('comparison')) this.range.max = String(highestScore(comparison.values));
    if (Number(this.range.value) !== state.threshold) this.range.value = String(state.threshold);
    const letter = LETTERS[state.pair[1]];
    const { share, median } = keptAbove(comparison.values, state.epochs[state.pair[1]], state.threshold);
    say(this.kept, Number.isFinite(share) ? `${letter} keeps ${Math.round(100 * share)} %, median ${pixels(median)} px` : '');
  }
}

/** The slider's end: just above the highest score there is. Raw SimCC logits exceed 1; of folders only some are here. */
function highestScore(values) {
  let top = values.tracks ? 0.95 : 0;
  for (const { predictions } of values.epochs.values()) for (let at = 2; at < (predictions?.length ?? 0); at += 3) if (predictions[at] > top) top = predictions[at];
  return Math.ceil(top * 20 + 1) / 20;
}
