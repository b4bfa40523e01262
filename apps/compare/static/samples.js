/** Which samples changed? A list of any length; only the rows in sight exist. */

import { element, offer, say } from './element.js';
import { epochName } from './link.js';
import { learningOf, rightFrom } from './learning.js';
import { countMarks, markOf, oksAt, ofSize, ordered, SORTS, unready } from './measures.js';
import { address } from './server.js';
import { sizeOf } from './surface.js';
import { fraction, LETTERS } from './words.js';

const ROW = 60; // CSS pixels, as .cmp-sample in the style sheet
const SPARE = 3; // rows kept beyond the edges, so that scrolling shows no gap

export class Samples {
  /**
   * @param {HTMLElement} root
   * @param {import('./store.js').Store} store
   * @param {(sample: number) => void} choose
   * @param {(sort: string) => void} sortBy
   */
  constructor(root, store, choose, sortBy) {
    Object.assign(this, { store, choose, sortBy });
    this.order = [];
    this.top = 0; // of the part in sight, CSS pixels
    this.rows = new Map();
    this.sort = element('select', { 'aria-label': 'sort the samples', 'data-testid': 'sample-sort', onChange: () => this.sortBy(this.sort.value) });
    this.marks = element('div.cmp-marks');
    this.gained = this.chip('gained');
    this.lost = this.chip('lost');
    this.size = element('button.cmp-mark.on', { type: 'button', hidden: true, title: 'show samples of every size again', 'data-testid': 'size', onClick: () => store.set({ size: '' }) });
    this.marks.append(this.gained, this.lost, this.size);
    this.sheet = element('div.cmp-sheet');
    this.list = element('div.cmp-samples', {
      role: 'listbox', tabindex: 0, 'aria-label': 'samples', 'data-testid': 'samples', onScroll: () => { this.top = this.list.scrollTop; this.fill(); },
    }, this.sheet);
    this.total = element('p.cmp-total', { 'data-testid': 'sample-total' });
    root.append(element('div.cmp-samples-head', {}, this.sort, this.marks), this.list, this.total);
  }

  chip(mark) {
    const title = mark === 'gained' ? 'OKS below the threshold in A, above it in B' : 'OKS above the threshold in A, below it in B';
    return element(`button.cmp-mark.${mark}`, { type: 'button', title, 'data-testid': `count-${mark}`, onClick: () => this.sortBy(mark) });
  }

  /** The sample `step` places on in the order shown. */
  beside(sample, step) {
    const at = this.order.indexOf(sample) + step;
    return this.order[Math.max(0, Math.min(this.order.length - 1, at))] ?? sample;
  }

  /** How many rows are in sight, less one that stays for the eye. */
  page() {
    return Math.max(1, Math.floor(this.list.clientHeight / ROW) - 1);
  }

  render(state, changed) {
    const { comparison } = state;
    const letters = state.pair.map((p) => LETTERS[p]);
    offer(this.sort, SORTS.map(([value, label]) => [value, label.replace('B', letters[1])]), state.sort);
    if (!comparison) return;
    const [a, b] = state.pair.map((p) => state.epochs[p]);
    const { values, samples } = comparison;
    const threshold = rightFrom(state);
    // While a slider moves the rows keep their places: a list that jumps cannot be read.
    const stale = ['comparison', 'sort', 'size', 'right', 'settled'].some((key) => changed.has(key)) || (state.settled && (changed.has('epochs') || changed.has('pair')));
    if (stale && state.settled) {
      const names = samples.map((s) => s.key);
      this.order = ofSize(ordered(values, names, a, b, state.sort, threshold), samples, state.size);
      this.sheet.style.height = `${this.order.length * ROW}px`;
    }
    const open = unready(comparison, [a, b]);
    const counts = countMarks(values, a, b, threshold);
    for (const mark of ['gained', 'lost']) {
      say(this[mark], `${open || counts[mark]} ${mark}`);
      this[mark].classList.toggle('on', state.sort === mark);
      this[mark].classList.toggle('none', Boolean(open) || !counts[mark]);
      this[mark].hidden = Boolean(open) && mark === 'lost';
    }
    if (open) say(this.gained, open);
    const all = comparison.count < comparison.total ? `${comparison.count} of ${comparison.total} annotated samples` : `${comparison.count} annotated samples`;
    say(this.total, this.order.length < samples.length ? `${this.order.length} ${state.size} of ${all}` : all);
    this.size.hidden = !state.size;
    say(this.size, `${state.size} ✕`);
    if (changed.has('sample') || (stale && state.settled)) this.reveal(state.sample, changed.has('sample'));
    this.fill();
  }

  /** Scrolls the chosen row into sight. */
  reveal(sample, chosen) {
    const top = this.order.indexOf(sample) * ROW;
    const { scrollTop, clientHeight } = this.list;
    if (top >= scrollTop && top + ROW <= scrollTop + clientHeight) return;
    if (chosen && Math.abs(top - scrollTop) < clientHeight + ROW) this.list.scrollTop = top < scrollTop ? top : top + ROW - clientHeight;
    else this.list.scrollTop = Math.max(0, top - clientHeight / 3);
    this.top = this.list.scrollTop;
  }

  fill() {
    const { state } = this.store;
    if (!state.comparison) return;
    const { height } = sizeOf(this.list);
    const first = Math.max(0, Math.floor(this.top / ROW) - SPARE);
    const last = Math.min(this.order.length, Math.ceil((this.top + height) / ROW) + SPARE);
    const wanted = new Set();
    for (let place = first; place < last; place += 1) {
      const n = this.order[place];
      const key = `${state.comparison.data} ${n}`;
      wanted.add(key);
      if (!this.rows.has(key)) this.rows.set(key, this.row(state.comparison, n));
      this.update(this.rows.get(key), state, n, place);
    }
    for (const [key, row] of this.rows) {
      if (wanted.has(key)) continue;
      row.node.remove();
      this.rows.delete(key);
    }
    this.list.setAttribute('aria-activedescendant', `cmp-sample-${state.sample}`);
  }

  row(comparison, n) {
    const { index, key } = comparison.samples[n];
    const thumb = element('img', { alt: '', width: 48, height: 48, decoding: 'async', src: address('thumb', { data: comparison.data, sample: index, v: comparison.version }) });
    const values = element('span.cmp-oks', { title: 'OKS, A → B' });
    const [from, to, way] = [element('i.from'), element('i.to'), element('i.way')];
    const mark = element('span.cmp-mark');
    const node = element(
      'div.cmp-sample', { role: 'option', id: `cmp-sample-${n}`, 'data-testid': 'sample', data: { key }, onClick: () => this.choose(n) },
      thumb, element('span.cmp-name', { title: key }, element('bdi', { dir: 'ltr', text: key })), element('span.cmp-line', {}, values, mark), element('span.cmp-rail', {}, way, from, to),
    );
    this.sheet.append(node);
    return { node, values, mark, from, to, way };
  }

  update({ node, values, mark, from, to, way }, state, n, place) {
    const { comparison, pair, epochs } = state;
    const [a, b] = pair.map((p) => epochs[p]);
    const [before, after] = [oksAt(comparison.values, a, n), oksAt(comparison.values, b, n)];
    node.style.transform = `translateY(${place * ROW}px)`;
    node.setAttribute('aria-selected', String(n === state.sample));
    node.setAttribute('aria-posinset', String(place + 1));
    node.setAttribute('aria-setsize', String(this.order.length));
    say(values, `${fraction(before, 2)} → ${fraction(after, 2)}`);
    const open = unready(comparison, [a, b]);
    const course = learned(state, n);
    const kind = course ? '' : markOf(comparison.values, a, b, n, rightFrom(state));
    say(mark, course || kind || open);
    mark.className = `cmp-mark ${kind || ((open || course) && 'open')}`;
    for (const [dot, value, p] of [[from, before, pair[0]], [to, after, pair[1]]]) {
      dot.hidden = !Number.isFinite(value);
      dot.dataset.letter = LETTERS[p];
      dot.style.left = `${100 * value}%`;
    }
    way.hidden = !Number.isFinite(before) || !Number.isFinite(after);
    way.style.left = `${100 * Math.min(before, after)}%`;
    way.style.width = `${100 * Math.abs(after - before)}%`;
    way.className = after < before ? 'way worse' : 'way';
  }
}

/** What a row says of a sample's course where the list is in that order; "" else. */
function learned(state, n) {
  const { comparison, sort } = state;
  if (!['first', 'forgotten'].includes(sort)) return '';
  const { first, forgotten, epochs } = learningOf(comparison.values, rightFrom(state));
  if (sort === 'forgotten') return forgotten[n] ? `${forgotten[n]}× lost` : '';
  return first[n] < 0 ? 'never right' : `from ${epochName(comparison.epochs.find((e) => e.index === epochs[first[n]]))}`;
}
