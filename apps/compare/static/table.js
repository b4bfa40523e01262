/**
 * Which keypoints became better or worse, in this sample or over the set?
 *
 * Of a sample: distance to the annotation in image pixels, and score. Of the set: the median distance, and the
 * keypoint's part of OKS. The change is that between the two columns of the difference.
 */

import { element, say } from './element.js';
import { errorAt, mean, predictionAt, truthAt } from './measures.js';
import { fraction, LETTERS, pixelChange, pixels, printable, change } from './words.js';

export class Table {
  /** @param {HTMLElement} root @param {import('./store.js').Store} store @param {(keypoint: number) => void} choose */
  constructor(root, store, choose) {
    Object.assign(this, { root, store, choose, layout: '' });
  }

  /** Column keys in order: `keypoint`, `error-A`, `score-A`, …, `error-change`, `score-change`. */
  columns(state) {
    const letters = state.epochs.map((_, i) => LETTERS[i]);
    return ['keypoint', ...letters.flatMap((letter) => [`error-${letter}`, `score-${letter}`]), 'error-change', 'score-change'];
  }

  lay(state, keypoints) {
    const columns = this.columns(state);
    const set = state.tableOf === 'set';
    // With more than two columns the change says between which of them it is.
    const ends = state.epochs.length > 2 ? ` ${state.pair.map((p) => LETTERS[p]).join('→')}` : '';
    const layout = [state.comparison.skeleton.name, keypoints.length, set, ends, ...columns].join(' ');
    if (layout === this.layout) return;
    this.layout = layout;
    this.heads = columns.map((by) => {
      const [what, who] = by.split('-');
      const word = { error: set ? 'median px' : 'error px', score: set ? 'OKS' : 'score' }[what] ?? what;
      const chip = LETTERS.includes(who) ? element('span.cmp-letter', { data: { letter: who }, text: who }) : null;
      const button = element('button', { type: 'button', 'data-testid': `head-${by}`, title: `sort by ${by.replace('-', ' of ')}`, onClick: () => this.sortBy(by) }, what === 'error' ? chip : null, who === 'change' ? `Δ ${word}${ends}` : word);
      return element('th', { scope: 'col', data: { by, what } }, button, by === 'keypoint' ? this.choice(set) : null);
    });
    this.rows = keypoints.map((name, k) => this.row(state, name, k, columns));
    this.means = columns.map((by) => element('td', { data: { by, what: by.split('-')[0] }, 'data-testid': `mean-${by}` }));
    this.body = element('tbody', {}, ...this.rows.map((r) => r.node));
    this.root.replaceChildren(element('table.cmp-table', { 'data-testid': 'keypoints' }, element('thead', {}, element('tr', {}, ...this.heads)), this.body, element('tfoot', {}, element('tr', {}, ...this.means))));
  }

  /** Sample or set: stands in the head of the first column. */
  choice(set) {
    const choose = (of, text, title) => element('button', { type: 'button', title, 'aria-pressed': String((of === 'set') === set), 'data-testid': `table-of-${of}`, onClick: () => this.store.set({ tableOf: of }) }, text);
    return element('span.cmp-segments', { role: 'group', 'aria-label': 'numbers of' }, choose('sample', 'sample', 'error and score in the chosen sample'), choose('set', 'set', 'median error and OKS over all samples'));
  }

  row(state, name, k, columns) {
    const cells = columns.map((by) => element('td', { data: { by, what: by.split('-')[0] }, 'data-testid': by === 'keypoint' ? null : `${by}-${k}` }));
    const swatch = element('i.cmp-swatch');
    swatch.style.background = state.comparison.skeleton.colours[k];
    cells[0].append(swatch, printable(name), element('span.cmp-flag'));
    const node = element('tr', {
      tabindex: 0, 'data-testid': `keypoint-${k}`,
      onClick: () => this.choose(k),
      onKeydown: (event) => { if (event.key === 'Enter') this.choose(k); },
      onPointerenter: () => this.store.set({ hovered: k }),
      onPointerleave: () => this.store.set({ hovered: -1 }),
    }, ...cells);
    return { node, cells, k };
  }

  sortBy(by) {
    const { tableSort } = this.store.state;
    const again = tableSort.by === by;
    this.store.set({ tableSort: { by, down: again ? !tableSort.down : by !== 'keypoint' } });
  }

  /** The numbers of one row by column key. */
  numbers(state, k) {
    const { comparison, sample, epochs, pair } = state;
    const row = { keypoint: k };
    epochs.forEach((epoch, i) => {
      if (state.tableOf === 'set') {
        const all = comparison.epochs.find((e) => e.index === epoch)?.per_keypoint?.[k];
        row[`error-${LETTERS[i]}`] = all?.error_px ?? NaN;
        row[`score-${LETTERS[i]}`] = all?.oks ?? NaN;
        return;
      }
      row[`error-${LETTERS[i]}`] = errorAt(comparison.values, epoch, sample, k);
      row[`score-${LETTERS[i]}`] = predictionAt(comparison.values, epoch, sample, k)?.score ?? NaN;
    });
    const [a, b] = pair.map((p) => LETTERS[p]);
    for (const what of ['error', 'score']) row[`${what}-change`] = row[`${what}-${b}`] - row[`${what}-${a}`];
    return row;
  }

  render(state) {
    const { comparison, sample } = state;
    if (!comparison || sample < 0) return;
    const columns = this.columns(state);
    this.lay(state, comparison.skeleton.keypoints);
    const numbers = this.rows.map(({ k }) => this.numbers(state, k));
    const widest = Math.max(1, ...numbers.flatMap((row) => columns.filter((c) => c.startsWith('error')).map((c) => Math.abs(row[c]))).filter(Number.isFinite));
    for (const { node, cells, k } of this.rows) {
      node.classList.toggle('chosen', k === state.keypoint);
      node.classList.toggle('hovered', k === state.hovered);
      node.setAttribute('aria-selected', String(k === state.keypoint));
      const truth = truthAt(comparison.values, sample, k);
      const labelled = comparison.epochs.find((e) => e.per_keypoint)?.per_keypoint[k].labelled;
      let flag = truth === null ? 'not annotated' : truth.visibility === 1 ? 'occluded' : '';
      if (state.tableOf === 'set') flag = labelled === undefined ? '' : `${labelled} labelled`;
      say(cells[0].lastChild, flag);
      columns.forEach((by, i) => { if (i) fill(cells[i], by, numbers[k][by], widest, state.tableOf === 'set' ? -Infinity : state.threshold); });
    }
    columns.forEach((by, i) => {
      if (i) fill(this.means[i], by, mean(numbers.map((row) => row[by])), 0, 0);
      else say(this.means[0], 'mean');
      const sorted = state.tableSort.by === by;
      this.heads[i].setAttribute('aria-sort', sorted ? (state.tableSort.down ? 'descending' : 'ascending') : 'none');
    });
    this.arrange(state, numbers);
  }

  arrange({ tableSort: { by, down }, settled }, numbers) {
    if (!settled) return; // rows keep their places while a slider moves
    const sign = down ? -1 : 1;
    const order = this.rows.map(({ k }) => k).sort((i, j) => {
      const [x, y] = [numbers[i][by], numbers[j][by]];
      if (!Number.isFinite(x) || !Number.isFinite(y)) return Number.isFinite(y) - Number.isFinite(x) || i - j;
      return sign * (x - y) || i - j;
    });
    const key = order.join();
    if (this.arranged === key && this.body.childElementCount === order.length && this.arrangedBody === this.body) return;
    Object.assign(this, { arranged: key, arrangedBody: this.body });
    this.body.append(...order.map((k) => this.rows[k].node));
  }
}

/** Writes one number; a bar behind it gives its size at a glance. */
function fill(cell, by, value, widest, threshold) {
  const [what, who] = by.split('-');
  const changed = who === 'change';
  const text = what === 'error' ? (changed ? pixelChange(value) : pixels(value)) : changed ? change(value, 2) : fraction(value, 2);
  say(cell, text);
  let mood = '';
  // Less than half a pixel, or a hundredth of score, is what decoders round away.
  if (changed && what === 'error' && Math.abs(value) >= 0.5) mood = value < 0 ? 'better' : 'worse';
  if (!changed && what === 'score' && value < threshold) mood = 'below';
  cell.className = mood;
  cell.style.setProperty('--bar', what === 'error' && widest && Number.isFinite(value) ? `${(100 * Math.abs(value)) / widest}%` : '0%');
}
