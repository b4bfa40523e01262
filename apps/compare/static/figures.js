/** How good is each epoch on the whole set, by which protocol, and is the difference more than chance? */

import { element, hint, say } from './element.js';
import { change, fraction, LETTERS } from './words.js';

/** Shown large, then small. The order of COCO's own table. */
const LARGE = ['AP', 'AR'];
const SMALL = ['AP50', 'AP75', 'APM', 'APL'];
const MEANING = {
  AP: 'average precision over OKS .50 to .95', AR: 'average recall over OKS .50 to .95', AP50: 'AP at OKS .50',
  AP75: 'AP at OKS .75', APM: 'AP of medium instances (32² to 96² px)', APL: 'AP of large instances (above 96² px)',
};

const SIZE = { APM: 'medium', APL: 'large' };

export class Figures {
  /**
   * @param {HTMLElement} root
   * @param {import('./store.js').Store} store
   * @param {import('./comparison.js').Intervals} intervals
   * @param {(sort: string, size: string) => void} openInstances
   */
  constructor(root, store, intervals, openInstances) {
    Object.assign(this, { root, store, intervals, openInstances, layout: '' });
    this.row = element('div.cmp-figures', { 'data-testid': 'figures' });
    this.protocol = element('button.cmp-protocol', { type: 'button', 'aria-expanded': 'false', 'data-testid': 'protocol', onClick: () => this.toggle() });
    this.detail = element('div.cmp-popover', { hidden: true, role: 'dialog', 'aria-label': 'protocol', 'data-testid': 'protocol-detail' });
    root.append(this.row, element('div.cmp-protocol-place', {}, this.protocol, this.detail));
    document.addEventListener('pointerdown', (event) => { if (!this.detail.contains(event.target) && !this.protocol.contains(event.target)) this.close(); });
  }

  toggle() {
    this.detail.hidden = !this.detail.hidden;
    this.protocol.setAttribute('aria-expanded', String(!this.detail.hidden));
    // Opened towards the middle of the page, wherever the line stands.
    const left = this.protocol.getBoundingClientRect().left > this.root.getBoundingClientRect().left + this.root.clientWidth / 2;
    this.detail.classList.toggle('leftward', left);
  }

  close() {
    this.detail.hidden = true;
    this.protocol.setAttribute('aria-expanded', 'false');
  }

  render(state) {
    const { comparison } = state;
    this.root.classList.toggle('empty', !comparison);
    if (!comparison) return;
    this.lay(state.epochs.length);
    const held = state.epochs.map((index) => comparison.epochs.find((e) => e.index === index));
    const [from, to] = state.pair.map((p) => held[p]?.figures ?? null);
    for (const [name, part] of Object.entries(this.parts)) {
      part.values.forEach((node, i) => {
        const figure = held[i]?.figures?.[name] ?? NaN;
        say(node, fraction(figure));
        node.classList.toggle('waiting', !held[i]?.figures);
      });
      const delta = (to?.[name] ?? NaN) - (from?.[name] ?? NaN);
      say(part.delta, change(delta));
      this.put(part, state);
      part.delta.dataset.mood = delta >= 0.0005 ? 'better' : delta <= -0.0005 ? 'worse' : '';
    }
    this.showInterval(state, Boolean(from && to));
    this.showProtocol(comparison, held);
  }

  /** Puts a change behind the later of the two columns that it is between, and names them where there are more. */
  put({ values, delta, pair, block }, { pair: ends, epochs }) {
    say(pair, epochs.length > 2 ? ends.map((p) => LETTERS[p]).join('→') : '');
    const behind = values[Math.max(...ends)];
    const parts = [pair, delta, ...(block.contains(this.interval) ? [this.interval] : [])];
    if (behind && behind.nextSibling !== pair) behind.after(...parts);
  }

  lay(count) {
    const layout = String(count);
    if (layout === this.layout) return;
    this.layout = layout;
    this.row.dataset.count = layout;
    this.parts = {};
    const blocks = [...LARGE, ...SMALL].map((name) => {
      const values = Array.from({ length: count }, (_, i) => element('button.cmp-value', {
        type: 'button', data: { letter: LETTERS[i], testid: `${name}-${LETTERS[i]}` },
        title: `${MEANING[name]}; opens the instances behind it`, onClick: () => this.openInstances('worst', SIZE[name] ?? ''),
      }));
      const delta = element('button.cmp-delta', { type: 'button', 'data-testid': `${name}-delta`, title: `change of ${name}; opens the instances that changed most`, onClick: () => this.openInstances('changed', SIZE[name] ?? '') });
      const pair = element('span.cmp-delta-pair', { 'data-testid': `${name}-pair` });
      this.parts[name] = { values, delta, pair };
      const parts = values.flatMap((node, i) => (i ? [element('span.cmp-arrow', { 'aria-hidden': 'true', text: '→' }), node] : [node]));
      const block = element(`div.cmp-figure${LARGE.includes(name) ? '.large' : ''}`, { data: { name } }, element('span.cmp-figure-name', { title: MEANING[name], text: name }), ...parts, pair, delta);
      this.parts[name].block = block;
      if (name === 'AP') {
        this.interval = element('span.cmp-interval', { 'data-testid': 'interval' });
        block.append(this.interval);
      }
      return block;
    });
    this.row.replaceChildren(...blocks);
  }

  showInterval(state, both) {
    const { comparison } = state;
    const [a, b] = state.pair.map((p) => state.epochs[p]);
    const found = both && a !== b ? this.intervals.of(comparison, a, b) : null;
    // While a slider moves nothing is asked for: a step is drawn from what is here.
    if (!state.settled) this.intervals.drop();
    else if (both && a !== b && !found) this.intervals.want(comparison, a, b);
    if (typeof found === 'string') {
      say(this.interval, '');
      this.interval.classList.remove('waiting', 'former');
      hint(this.interval, found);
      return;
    }
    // Until the interval is there the former one of this pair stands pale, or dots that appear only if it takes long.
    const shown = found ?? (both && a !== b ? this.intervals.before(comparison, a, b) : null);
    // Too few images give no interval: its ends are null.
    const ends = shown && (shown.low === null ? 'too few images' : `[${change(shown.low, 2)}, ${change(shown.high, 2)}]`);
    say(this.interval, shown ? ends : both && a !== b ? '[ … ]' : '');
    this.interval.classList.toggle('waiting', !found && both && a !== b);
    this.interval.classList.toggle('former', !found && Boolean(shown));
    this.interval.title = found?.low === null ? 'too few images for an interval' : found ? `${Math.round(100 * found.level)} % interval of the change, paired bootstrap over images, ${found.resamples} resamples` : '';
  }

  showProtocol(comparison, held) {
    const loaded = held.map((e) => e?.loaded_fraction ?? 1);
    const partly = loaded.some((part) => part < 1);
    // Epochs of another protocol are marked where they are shown: their figures do not compare.
    const named = held.map((e) => `epoch ${e?.epoch}:`);
    const differ = (comparison.differences ?? []).filter((text) => named.some((name) => text.startsWith(name)));
    say(this.protocol, `${differ.length ? `≠ protocols differ, do not compare (${differ.join('; ')}) · ` : ''}${comparison.protocol_text}${partly ? ' · not fully loaded' : ''}`);
    hint(this.protocol, `${comparison.protocol_text}\nall columns and all figures follow this protocol; click for every part of it`);
    this.protocol.classList.toggle('warn', partly || differ.length > 0);
    const key = JSON.stringify([comparison.version, comparison.protocol, held.map((e) => e?.index), loaded]);
    if (this.protocolKey === key) return;
    this.protocolKey = key;
    const { text, checkpoint, sha256, loaded_fraction, complete, ...shared } = comparison.protocol;
    const rows = Object.entries(shared).map(([name, value]) => [name.replaceAll('_', ' '), spoken(value)]);
    held.forEach((e, i) => { if (e) rows.push([LETTERS[i], `${e.label}, ${e.file}, ${(100 * loaded[i]).toFixed(loaded[i] < 1 ? 2 : 0)} % of the parameters loaded`]); });
    if (sha256) rows.push([`sha256 of ${checkpoint}`, sha256]);
    for (const text of comparison.differences ?? []) rows.push(['differs', text]);
    rows.push(['samples', `${comparison.count} of ${comparison.total} annotated`]);
    this.detail.replaceChildren(element('h3', { text: 'Protocol of every number on this page' }), element('dl', {}, ...rows.flatMap(([name, value]) => [element('dt', { text: name }), element('dd', { text: value })])));
  }
}

function spoken(value) {
  if (value === null || value === '') return '–';
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  return typeof value === 'object' ? Object.entries(value).map(([k, v]) => (Array.isArray(value) ? v : `${k} ${v}`)).join(', ') : String(value);
}
