/** What is compared: run, data, the epochs of the columns; and the link to exactly this. */

import { element, offer } from './element.js';
import { LETTERS } from './words.js';

export const MOST = 4; // columns that stay readable at 1280 px

export class Choices {
  /**
   * @param {HTMLElement} root
   * @param {Object} on `run(id)`, `data(id)`, `epoch(place, index)`, `add()`, `remove(place)`
   * @param {Node[]} tools buttons at the right end
   */
  constructor(root, on, tools) {
    this.on = on;
    this.run = this.chooser('run', 'run', (value) => on.run(value));
    this.data = this.chooser('data', 'data', (value) => on.data(value));
    this.columns = element('div.cmp-columns');
    this.add = element('button.cmp-button.quiet', { type: 'button', title: 'one more epoch beside these', 'data-testid': 'add-epoch', onClick: () => on.add() }, '+ add');
    root.append(this.run.label, this.data.label, this.columns, this.add, element('span.cmp-space'), ...tools);
  }

  chooser(name, testid, chosen) {
    const select = element('select', { 'data-testid': testid, onChange: () => chosen(select.value) });
    return { select, label: element('label.cmp-choice', {}, element('span', { text: name }), select) };
  }

  render(state) {
    const run = state.runs.find((r) => r.id === state.run);
    offer(this.run.select, state.runs.map((r) => [r.id, r.title, !r.family]), state.run);
    const fitting = state.sets.filter((set) => run?.data.includes(set.id));
    offer(this.data.select, fitting.map((set) => [set.id, set.title]), state.data);
    while (this.columns.childElementCount > state.epochs.length) this.columns.lastChild.remove();
    state.epochs.forEach((index, i) => {
      const column = this.columns.children[i] ?? this.columns.appendChild(this.column(i));
      offer(column.querySelector('select'), this.epochsOf(run, state.comparison), String(index));
      column.querySelector('button').hidden = state.epochs.length <= 2;
    });
    this.add.hidden = state.epochs.length >= Math.min(MOST, run?.epochs.length ?? 0);
  }

  /** Epochs as options; the same list while run and comparison are the same. */
  epochsOf(run, comparison) {
    if (this.known?.run !== run || this.known.comparison !== comparison) {
      const ready = new Map(comparison?.epochs.map((e) => [e.index, e.ready]));
      const options = (run?.epochs ?? []).map((e) => [String(e.index), e.label + (ready.get(e.index) === false ? ' …' : '')]);
      this.known = { run, comparison, options };
    }
    return this.known.options;
  }

  column(i) {
    const letter = LETTERS[i];
    const { select, label } = this.chooser('', `epoch-${letter}`, (value) => this.on.epoch(i, Number(value)));
    select.setAttribute('aria-label', `epoch of ${letter}`);
    label.firstChild.replaceWith(element('span.cmp-letter', { data: { letter }, text: letter }));
    const remove = element('button.cmp-remove', { type: 'button', title: `remove ${letter}`, 'aria-label': `remove ${letter}`, 'data-testid': `remove-${letter}`, onClick: (event) => { event.preventDefault(); this.on.remove(i); } }, '×');
    label.append(remove);
    return label;
  }
}
