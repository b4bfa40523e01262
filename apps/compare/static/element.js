/** Elements in one call, so that a page part reads like what it shows.
 *
 * Every text that is shown passes through `printable` here: names come from other people's files.
 */

import { printable } from './words.js';

const SVG = 'http://www.w3.org/2000/svg';

/**
 * A new HTML element.
 * @param {string} tag e.g. `button`, or with classes `button.chip.on`
 * @param {Object<string, *>} [given] attributes; `on…` keys are listeners, `data` sets data attributes
 * @param {...(Node|string|number|null|undefined)} children null and undefined are left out
 * @returns {HTMLElement}
 */
export function element(tag, given = {}, ...children) {
  const [name, ...classes] = tag.split('.');
  return filled(document.createElement(name), classes, given, children);
}

/** A new SVG element; arguments as for `element`. */
export function drawn(tag, given = {}, ...children) {
  const [name, ...classes] = tag.split('.');
  return filled(document.createElementNS(SVG, name), classes, given, children);
}

function filled(node, classes, given, children) {
  if (classes.length) node.setAttribute('class', classes.join(' '));
  for (const [key, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith('on')) node.addEventListener(key.slice(2).toLowerCase(), value);
    else if (key === 'data') for (const [k, v] of Object.entries(value)) node.dataset[k] = v;
    else if (key === 'text') node.textContent = printable(value);
    else if (key === 'title' || key === 'aria-label') node.setAttribute(key, printable(value));
    else if (key === 'value') node.value = value;
    else node.setAttribute(key, value === true ? '' : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined).map((child) => (child instanceof Node ? child : printable(child))));
  return node;
}

/** Text set only where it differs: untouched nodes cost no layout. */
export function say(node, text) {
  const shown = printable(text);
  if (node.textContent !== shown) node.textContent = shown;
}

/** The words that a pointer over a node shows. */
export function hint(node, text) {
  node.title = printable(text);
}

const offered = new WeakMap();

/**
 * The options of a select, rebuilt only when they differ.
 * @param {HTMLSelectElement} select
 * @param {Array<[string, string, boolean?]>} options value, label, disabled
 * @param {string} chosen
 */
export function offer(select, options, chosen) {
  // The same list as before costs nothing: a run of hundreds of epochs is offered in every frame.
  const key = offered.get(select)?.options === options ? null : JSON.stringify(options);
  if (key !== null && offered.get(select)?.key !== key) {
    select.replaceChildren(
      ...options.map(([value, label, disabled]) => element('option', { value, disabled: Boolean(disabled), text: label })),
    );
  }
  if (key !== null) offered.set(select, { key, options });
  if (select.value !== chosen) select.value = chosen;
}
