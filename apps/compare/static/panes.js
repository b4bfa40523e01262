/** The panes side by side: per epoch the keypoints on the image and the maps, then what changed. */

import { element, offer, say } from './element.js';
import { hasKeypoints, meanError, oksAt, predictionAt, truthAt, unready } from './measures.js';
import { commonReach, drawDifference, drawMaps, scaleGradient, valueAt } from './mapviews.js';
import { mapsName } from './maprun.js';
import { drawMovement, movements } from './movement.js';
import { drawOverlay } from './overlay.js';
import { cleared, sizeOf } from './surface.js';
import { fitted, gestures, mapping } from './view.js';
import { fraction, LETTERS, pixels, printable } from './words.js';

const NEAR = 16; // CSS pixels within which a click means a keypoint

export class Panes {
  /**
   * @param {HTMLElement} root the grid the panes stand in
   * @param {HTMLElement} bar stands between images and maps
   * @param {import('./store.js').Store} store
   * @param {import('./pictures.js').Pictures} pictures
   * @param {() => Object} theme
   * @param {(keypoint: number) => void} choose
   */
  constructor(root, bar, store, pictures, theme, choose) {
    Object.assign(this, { root, bar, store, pictures, theme, choose, columns: [], writes: [] });
    new ResizeObserver(() => store.set({ arrived: store.state.arrived + 1 })).observe(root);
  }

  /** One column per epoch and one for the difference, made anew only when their number changes. */
  lay(count) {
    if (this.columns.length === count + 1) return;
    this.root.style.setProperty('--columns', String(count + 1));
    this.columns = Array.from({ length: count + 1 }, (_, i) => this.column(i < count ? LETTERS[i] : ''));
    this.root.replaceChildren(
      ...this.columns.map((c) => c.head), ...this.columns.map((c) => c.above.cell), this.bar, ...this.columns.map((c) => c.below.cell),
    );
  }

  column(letter) {
    const name = letter ? letter.toLowerCase() : 'difference';
    const title = element('span.cmp-pane-title', { data: { testid: `pane-title-${name}` } });
    const ends = letter ? [] : ['from', 'to'].map((end, i) => element('select.cmp-pair', { 'aria-label': `difference ${end}`, 'data-testid': `pair-${end}`, onChange: (event) => this.turn(i, Number(event.target.value)) }));
    const [brief, rest] = [element('span'), element('span.long')];
    const note = element('span.cmp-pane-note', { data: { testid: `pane-note-${name}` } }, brief, rest);
    const head = element('div.cmp-pane-head', { data: { letter } }, letter ? element('span.cmp-letter', { data: { letter }, text: letter }) : null, title, ...ends, note);
    const column = { letter, head, title, ends, brief, rest, above: this.pane(`overlay-${name}`, true), below: this.pane(`maps-${name}`, false) };
    for (const part of ['above', 'below']) this.connect(column, part);
    return column;
  }

  /** The difference is taken from one column to another; both ends on one column swap. */
  turn(end, place) {
    const { pair } = this.store.state;
    const other = pair[1 - end] === place ? pair[end] : pair[1 - end];
    this.store.set({ pair: end ? [other, place] : [place, other] });
  }

  pane(testid, image) {
    const canvas = element('canvas', { role: 'img', 'data-testid': testid });
    const message = element('p.cmp-pane-message', { hidden: true, role: 'status' });
    const readout = element('span.cmp-readout', { hidden: true });
    const low = element('span', { text: '0' });
    const high = element('span');
    const ramp = element('i');
    const scale = image ? null : element('div.cmp-scale', { hidden: true }, low, ramp, high);
    const cell = element(image ? 'div.cmp-pane.cmp-image' : 'div.cmp-pane.cmp-maps', {}, canvas, message, readout, scale);
    return { cell, canvas, message, readout, scale, low, high, ramp };
  }

  connect(column, part) {
    const pane = column[part];
    const show = (text) => {
      pane.readout.hidden = !text;
      say(pane.readout, text);
    };
    gestures(pane.cell, {
      current: () => this.scene && { view: this.scene.view, map: part === 'above' ? this.scene.lead.map : this.scene.mapOf(pane.canvas) },
      moved: (view) => this.store.set({ view }),
      clicked: (x, y) => {
        const k = part === 'above' ? this.nearest(column, x, y) : -1;
        if (k >= 0) this.choose(k);
      },
      hovered: (x, y) => {
        if (part === 'above') {
          const k = x === null ? -1 : this.nearest(column, x, y);
          pane.cell.classList.toggle('over-keypoint', k >= 0);
          this.store.set({ hovered: k });
        } else if (x === null || !this.scene || !column.maps) show('');
        else show(valueAt(pane.canvas, this.scene, column.maps, x, y));
      },
    });
  }

  /** The keypoint under a place of an image pane, -1 without one. */
  nearest(column, x, y) {
    if (!this.scene) return -1;
    const { comparison, sample, lead, state } = this.scene;
    const epochs = column.letter ? [state.epochs[LETTERS.indexOf(column.letter)]] : state.pair.map((p) => state.epochs[p]);
    let [best, distance] = [-1, NEAR];
    for (let k = 0; k < comparison.values.K; k += 1) {
      const points = epochs.map((e) => predictionAt(comparison.values, e, sample, k));
      if (state.truth) points.push(truthAt(comparison.values, sample, k));
      for (const point of points) {
        const far = point ? Math.hypot(lead.map.x(point.x) - x, lead.map.y(point.y) - y) : Infinity;
        if (far < distance) [best, distance] = [k, far];
      }
    }
    return best;
  }

  /**
   * Draws on all canvases, and writes into the page then: text on a canvas asks for the style of the page, which
   * would be computed anew for each of them after something was written.
   * @returns {boolean} nothing shown is still on its way
   */
  render(state) {
    const { comparison, sample, epochs } = state;
    this.lay(Math.max(2, epochs.length));
    turn(this.root, 'empty', !comparison || sample < 0);
    turn(this.root, 'without-maps', Boolean(comparison) && !comparison.maps);
    this.scene = comparison && sample >= 0 ? this.sceneOf(state) : null;
    if (!this.scene) return true;
    const shown = comparison.maps ? comparison.epochs.map((e) => this.pictures.mapsOf(comparison, e.index, sample)).filter(Boolean) : [];
    if (shown.length) this.scene.reach = commonReach(shown, state.keypoint, { curves: this.scene.curves, softmax: state.softmax, rule: comparison.score });
    this.here = hasKeypoints(comparison.values, sample);
    turn(this.root, 'without-keypoints', !this.here);
    const complete = this.columns.map((column) => (column.letter ? this.showEpoch(column, state) : this.showDifference(column, state)));
    for (const write of this.writes.splice(0)) write();
    return complete.every(Boolean) && this.here && Boolean(this.scene.bitmap);
  }

  sceneOf(state) {
    const { comparison, sample } = state;
    const { width, height } = sizeOf(this.columns[0].above.canvas);
    const pane = { width: width || 1, height: height || 1 };
    const points = comparison.skeleton.keypoints.map((_, k) => truthAt(comparison.values, sample, k)).filter(Boolean);
    const view = state.view ?? fitted(comparison.samples[sample], points, pane, state.whole);
    const lead = { ...pane, map: mapping(view, pane) };
    const mapOf = (canvas) => mapping(view, sizeOf(canvas), pane);
    const curves = comparison.maps === 'simcc' && state.maps === 'curves';
    return { comparison, sample, state, view, lead, map: lead.map, mapOf, curves, bitmap: this.pictures.imageOf(comparison, sample), theme: this.theme() };
  }

  showEpoch(column, state) {
    const { comparison, sample } = state;
    const place = LETTERS.indexOf(column.letter);
    const index = state.epochs[place];
    const epoch = comparison.epochs.find((e) => e.index === index);
    const ready = comparison.values.epochs.has(index);
    const [oks, error] = [oksAt(comparison.values, index, sample), meanError(comparison.values, index, sample)];
    const surface = cleared(column.above.canvas);
    if (surface) drawOverlay(surface.context, this.scene, index);
    const track = comparison.predictions ? this.pictures.failureOf(this.pictures.trackKey(comparison, comparison.samples[sample].index)) : '';
    this.writes.push(() => {
      say(column.title, epoch?.label ?? '');
      say(column.brief, ready ? `OKS ${fraction(oks, 2)}` : unready(comparison, [index]));
      say(column.rest, ready ? ` · ${pixels(error)} px` : '');
      column.above.canvas.setAttribute('aria-label', printable(`${epoch?.label}: predicted keypoints on ${comparison.samples[sample].key}, OKS ${fraction(oks, 2)}`));
      column.above.cell.classList.toggle('loading', !this.here && !track);
      this.tell(column.above, epoch?.error || track || this.pictures.failureOf(this.pictures.imageKey(comparison, sample)));
    });
    return this.maps(column, state, [index], (maps) => drawMaps(column.below.canvas, this.scene, maps[0], index, this.scene.theme.epochs[place]));
  }

  showDifference(column, state) {
    const { comparison, sample } = state;
    const [a, b] = state.pair.map((p) => state.epochs[p]);
    const many = state.epochs.length > 2;
    const moved = movements(comparison.values, a, b, sample);
    const count = (verdict) => moved.filter((m) => m.verdict === verdict).length;
    const ready = [a, b].every((index) => comparison.values.epochs.has(index));
    const surface = cleared(column.above.canvas);
    if (surface) drawMovement(surface.context, this.scene, a, b);
    this.writes.push(() => {
      say(column.title, many ? 'difference' : `${LETTERS[state.pair[0]]} → ${LETTERS[state.pair[1]]}`);
      column.ends.forEach((select, i) => {
        select.hidden = !many;
        offer(select, state.epochs.map((_, place) => [String(place), `${i ? '→ ' : ''}${LETTERS[place]}`]), String(state.pair[i]));
      });
      say(column.brief, moved.length ? `${count('closer')} closer` : !this.here ? '' : ready ? 'no keypoint in both' : unready(comparison, [a, b]));
      say(column.rest, moved.length ? ` · ${count('farther')} farther` : '');
      column.above.canvas.setAttribute('aria-label', `How the keypoints moved: ${count('closer')} closer, ${count('farther')} farther`);
    });
    const colours = state.pair.map((p) => this.scene.theme.epochs[p]);
    return this.maps(column, state, [a, b], ([before, after]) => drawDifference(column.below.canvas, this.scene, before, after, [a, b], colours));
  }

  maps(column, state, indices, draw) {
    const { comparison, sample } = state;
    if (!comparison.maps) return true;
    const { below } = column;
    const { index } = comparison.samples[sample];
    const missing = comparison.predictions ? indices.filter((e) => !state.computed.has(mapsName(comparison, e, index))) : [];
    if (missing.length) {
      const names = missing.map((e) => comparison.epochs.find((one) => one.index === e)?.label ?? '');
      cleared(below.canvas);
      column.maps = null;
      this.writes.push(() => {
        below.cell.classList.remove('loading');
        below.scale.hidden = true;
        this.tell(below, state.settled ? `The heatmap of ${names.join(' and ')} is not computed for this sample.` : '');
      });
      return true;
    }
    const maps = indices.map((e) => this.pictures.mapsOf(comparison, e, sample));
    const failure = indices.map((e) => this.pictures.failureOf(this.pictures.mapsKey(comparison, e, sample))).find(Boolean);
    const here = maps.every(Boolean) && state.keypoint >= 0;
    column.maps = column.letter && here ? maps[0] : null;
    const message = here ? draw(maps) ?? '' : failure ?? '';
    this.writes.push(() => {
      below.cell.classList.toggle('loading', !here && !failure);
      below.canvas.setAttribute('aria-label', printable(`${column.letter || 'B − A'}: ${comparison.maps === 'simcc' ? 'SimCC output' : 'heatmap'} of ${comparison.skeleton.keypoints[state.keypoint] ?? ''}`));
      below.scale.hidden = this.scene.curves || !here;
      if (here && !this.scene.curves) {
        const { high } = this.scene.reach;
        below.ramp.style.background = scaleGradient(!column.letter, this.scene.theme.dark);
        say(below.low, column.letter ? '0' : fraction(-high, 2));
        say(below.high, column.letter ? fraction(high, 2) : `+${fraction(high, 2)}`);
      }
      this.tell(below, message);
    });
    return here || Boolean(failure);
  }

  tell(pane, message) {
    pane.message.hidden = !message;
    say(pane.message, message);
  }
}

/** A class set only where it differs: styles stay as they were computed. */
function turn(node, name, on) {
  if (node.classList.contains(name) !== on) node.classList.toggle(name, on);
}
