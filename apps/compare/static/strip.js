/** The epochs of the run as a slider, with the AP of each above it: where did it become better? */

import { Course } from './course.js';
import { drawn, element, say } from './element.js';
import { onResize, sizeOf } from './surface.js';
import { fraction, LETTERS } from './words.js';

const MANY = 4; // epochs to a named tick: from here on the others get none
const THUMB = 18; // CSS pixels, as the range's thumb in the style sheet: its centre is the value
const HEIGHT = 46; // of the curve
const STEP = 420; // milliseconds per epoch while it plays: slow enough to see, fast enough to be a film
const [FILM, FASTEST] = [30_000, 60]; // milliseconds that hundreds of epochs take in all, and one of them at least

export class Strip {
  /**
   * @param {HTMLElement} root
   * @param {import('./store.js').Store} store
   * @param {(place: number, index: number, input: {settled: boolean, at?: number}) => void} setEpoch
   *   `place` in state.epochs; `index` of the epoch in the run
   */
  constructor(root, store, setEpoch) {
    Object.assign(this, { store, setEpoch, playing: 0, alt: false, layout: '' });
    this.button = element('button.cmp-play', { type: 'button', 'data-testid': 'play', 'aria-pressed': 'false', 'aria-label': 'play the epochs', title: 'play the epochs (space)', onClick: () => this.play() });
    this.range = element('input.cmp-range', { type: 'range', min: 0, step: 1, 'data-testid': 'epoch-slider', 'aria-label': 'epoch of B', title: 'epoch of B; with Alt, of A' });
    this.curve = drawn('svg.cmp-curve', { 'aria-hidden': 'true', preserveAspectRatio: 'none' });
    this.ticks = element('div.cmp-ticks', { 'aria-hidden': 'true' });
    this.flags = element('div.cmp-flags');
    this.name = element('span.cmp-curve-name', { 'aria-hidden': 'true', text: 'AP' });
    this.tip = element('div.cmp-tip', { hidden: true, role: 'tooltip' });
    this.track = element('div.cmp-track', {}, this.curve, this.ticks, this.name, this.range, this.flags, this.tip);
    this.course = new Course((place, count) => this.across(place, count), (index) => { this.stop(); setEpoch(1, index, { settled: true }); });
    root.append(this.button, element('div.cmp-slider', {}, this.track, this.course.node));
    this.listen();
    onResize(() => {
      if (this.laid?.width === sizeOf(this.track).width && this.courseWidth === sizeOf(this.course.canvas).width) return;
      this.courseWidth = sizeOf(this.course.canvas).width;
      this.layout = '';
      this.render(store.state);
      this.course.render(store.state, this.theme);
    });
  }

  listen() {
    const held = (event) => { this.alt = event.altKey; };
    this.range.addEventListener('pointerdown', held);
    this.range.addEventListener('keydown', held);
    this.range.addEventListener('input', (event) => {
      this.stop();
      this.setEpoch(this.alt ? 0 : 1, this.epochs()[Number(this.range.value)].index, { settled: false, at: event.timeStamp });
    });
    this.range.addEventListener('change', () => {
      this.alt = false;
      this.store.set({ settled: true });
    });
    this.track.addEventListener('pointermove', (event) => this.point(event));
    this.track.addEventListener('pointerleave', () => { this.tip.hidden = true; });
  }

  epochs() {
    const { runs, run } = this.store.state;
    return runs.find((r) => r.id === run)?.epochs ?? [];
  }

  /** CSS pixels from the track's left end to an epoch, by its place in the run. */
  across(place, count) {
    const { width } = sizeOf(this.track);
    return count < 2 ? width / 2 : THUMB / 2 + ((width - THUMB) * place) / (count - 1);
  }

  /** The place in the run that is nearest to a pointer. */
  placeAt(event, count) {
    const part = (event.clientX - this.track.getBoundingClientRect().left - THUMB / 2) / (this.track.clientWidth - THUMB);
    return Math.max(0, Math.min(count - 1, Math.round(part * (count - 1))));
  }

  point(event) {
    const epochs = this.epochs();
    if (!epochs.length) return;
    const place = this.placeAt(event, epochs.length);
    const held = this.store.state.comparison?.epochs.find((e) => e.index === epochs[place].index);
    const figures = held?.figures ? `AP ${fraction(held.figures.AP)} · AR ${fraction(held.figures.AR)}` : held?.error ?? 'computing';
    say(this.tip, `${epochs[place].label} · ${figures}`);
    this.tip.hidden = false;
    const x = this.across(place, epochs.length);
    this.tip.style.left = `${Math.max(70, Math.min(this.track.clientWidth - 70, x))}px`;
  }

  /** Runs B through the epochs, from where it stands, or from the start when it stands at the end. */
  play() {
    if (this.playing) return this.stop();
    const epochs = this.epochs();
    let place = epochs.findIndex((e) => e.index === this.store.state.epochs[1]);
    if (place >= epochs.length - 1) place = -1;
    const step = () => {
      place += 1;
      if (place >= epochs.length) return this.stop();
      return this.setEpoch(1, epochs[place].index, { settled: false });
    };
    this.playing = setInterval(step, Math.max(FASTEST, Math.min(STEP, FILM / epochs.length)));
    this.button.setAttribute('aria-pressed', 'true');
    return step();
  }

  stop() {
    if (!this.playing) return;
    clearInterval(this.playing);
    this.playing = 0;
    this.button.setAttribute('aria-pressed', 'false');
    this.store.set({ settled: true });
  }

  render(state) {
    const epochs = this.epochs();
    const count = epochs.length;
    this.range.max = String(Math.max(0, count - 1));
    this.range.disabled = this.button.disabled = count < 2;
    this.range.style.visibility = count < 2 ? 'hidden' : ''; // one epoch stands in the middle, a slider at its left end
    const places = state.epochs.map((index) => epochs.findIndex((e) => e.index === index));
    if (!this.alt && places[1] >= 0) this.range.value = String(places[1]);
    this.range.setAttribute('aria-valuetext', epochs[places[1]]?.label ?? '');
    this.relay(state, epochs);
    this.drawFlags(places, epochs);
  }

  /** The curve and its ticks, anew only where the comparison or the width is another: not in every step. */
  relay({ comparison, run }, epochs) {
    const { width } = sizeOf(this.track);
    if (!width || (this.layout && this.laid?.comparison === comparison && this.laid.width === width && this.laid.run === run)) return;
    this.laid = { comparison, run, width };
    const figures = new Map((comparison?.epochs ?? []).map((e) => [e.index, e.figures?.AP ?? NaN]));
    const ap = epochs.map((e) => figures.get(e.index) ?? NaN);
    const layout = [width, run, ...epochs.map((e) => e.label), ...ap].join();
    if (layout === this.layout) return;
    this.layout = layout;
    this.drawCurve(epochs, ap);
    this.drawTicks(epochs, ap);
  }

  /** What the chosen sample does over the epochs. */
  follow(state, theme) {
    this.theme = theme;
    this.course.render(state, theme);
  }

  drawCurve(epochs, ap) {
    const { width } = sizeOf(this.track);
    this.curve.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
    const known = ap.filter(Number.isFinite);
    const [low, high] = [Math.min(...known), Math.max(...known)];
    const up = (value) => (high > low ? 38 - (30 * (value - low)) / (high - low) : 22);
    this.curve.replaceChildren();
    let stretch = []; // neighbours only: a line over an epoch that is not computed would invent its AP
    const finish = () => {
      const path = stretch.map(([x, y], i) => `${i ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`).join('');
      if (stretch.length > 1) this.curve.append(drawn('path.area', { d: `${path}L${stretch.at(-1)[0]} ${HEIGHT}L${stretch[0][0]} ${HEIGHT}Z` }), drawn('path.line', { d: path }));
      this.curve.append(...stretch.map(([cx, cy]) => drawn('circle', { cx, cy, r: ap.length > 60 ? 1.4 : 2.6 })));
      stretch = [];
    };
    ap.forEach((value, i) => {
      if (Number.isFinite(value)) stretch.push([this.across(i, ap.length), up(value)]);
      else finish();
    });
    finish();
  }

  drawTicks(epochs, ap) {
    const words = epochs.map((epoch) => String(epoch.epoch ?? epoch.label));
    const wide = Math.max(34, ...words.map((word) => word.length * 7)); // px of the longest label
    const room = Math.max(1, Math.ceil((epochs.length * wide) / this.track.clientWidth));
    const last = epochs.length - 1;
    const isNamed = (i) => i === last || (i % room === 0 && last - i >= room);
    const shown = epochs.map((epoch, i) => i).filter((i) => room < MANY || isNamed(i));
    this.ticks.replaceChildren(...shown.map((i) => {
      const named = isNamed(i);
      const tick = element('span', { data: { ready: String(Number.isFinite(ap[i])) } }, named ? words[i] : '');
      tick.style.left = `${this.across(i, epochs.length)}px`;
      return tick;
    }));
  }

  /** One flag per column; each can be dragged, which the range does for B alone. */
  drawFlags(places, epochs) {
    while (this.flags.childElementCount > places.length) this.flags.lastChild.remove();
    places.forEach((place, i) => {
      const flag = this.flags.children[i] ?? this.flags.appendChild(this.flag(i));
      flag.style.left = `${this.across(place, epochs.length)}px`;
      // Columns on one epoch would hide each other's flag: they fan out.
      const beside = places.slice(0, i).filter((p) => p === place).length;
      flag.style.marginLeft = `${beside * 17}px`;
      flag.hidden = place < 0;
    });
  }

  flag(i) {
    const flag = element('button.cmp-flag-handle', { type: 'button', tabindex: -1, data: { letter: LETTERS[i], testid: `flag-${LETTERS[i]}` }, title: `drag to set the epoch of ${LETTERS[i]}`, text: LETTERS[i] });
    flag.addEventListener('pointerdown', (event) => {
      this.stop();
      flag.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    flag.addEventListener('pointermove', (event) => {
      if (!flag.hasPointerCapture(event.pointerId)) return;
      const epochs = this.epochs();
      this.setEpoch(i, epochs[this.placeAt(event, epochs.length)].index, { settled: false, at: event.timeStamp });
    });
    flag.addEventListener('pointerup', () => this.store.set({ settled: true }));
    return flag;
  }
}
