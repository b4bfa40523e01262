/** The page's places, in the order they are read; each part fills its own. */

import { element } from './element.js';
import { KEYS } from './keys.js';

/** @returns {Object<string, HTMLElement>} the places by name, already on the page */
export function laidOut(root) {
  const place = (name, tag = 'div') => element(`${tag}.cmp-${name}`);
  const places = {
    choices: place('choices'), figures: place('head'), notices: place('notices'), samples: place('list', 'aside'),
    panes: place('panes'), table: place('table-place'), strip: place('strip'), dials: place('dials'), help: help(),
  };
  const work = element('div.cmp-work', {}, places.panes, places.table);
  const foot = element('div.cmp-foot', {}, places.strip, places.dials);
  root.replaceChildren(places.choices, places.figures, places.notices, element('div.cmp-body', {}, places.samples, work), foot, places.help);
  root.setAttribute('aria-busy', 'false');
  return places;
}

function help() {
  const close = () => { card.hidden = true; };
  const rows = KEYS.flatMap(([keys, text]) => [element('dt', {}, ...keys.split(' ').map((key) => element('kbd', { text: key }))), element('dd', { text })]);
  const mouse = [['wheel, drag', 'zoom and move all panes'], ['double click', 'fit again'], ['click', 'choose a keypoint'], ['Alt + slider', 'epoch of A']]
    .flatMap(([what, text]) => [element('dt', { text: what }), element('dd', { text })]);
  const card = element(
    'div.cmp-help', { hidden: true, role: 'dialog', 'aria-label': 'keys', 'data-testid': 'help' },
    element('h3', { text: 'Keys' }), element('dl', {}, ...rows, ...mouse),
    element('button.cmp-button', { type: 'button', onClick: close }, 'Close'),
  );
  return card;
}

/**
 * Keeps the page as high as the window leaves room for, so that slider and panes are in sight together.
 * A window that is too low for its parts scrolls: layout.css says how much they need.
 * @param {HTMLElement} root
 */
export function fillWindow(root) {
  const fit = () => {
    const top = root.getBoundingClientRect().top + window.scrollY;
    root.style.setProperty('--height', `${Math.max(0, window.innerHeight - top - 10)}px`);
  };
  fit();
  window.addEventListener('resize', fit);
  new ResizeObserver(fit).observe(document.body);
}

/**
 * Follows the theme: Gradio's class on the body where there is Gradio, else the system's wish.
 * @param {HTMLElement} root @param {() => void} changed
 */
export function followTheme(root, changed) {
  const system = window.matchMedia('(prefers-color-scheme: dark)');
  const read = () => {
    const gradio = document.querySelector('.gradio-container') !== null || 'gradio_config' in window;
    const dark = document.body.classList.contains('dark') || (!gradio && system.matches);
    const theme = dark ? 'dark' : 'light';
    if (root.dataset.theme === theme) return;
    root.dataset.theme = theme;
    changed();
  };
  read();
  system.addEventListener('change', read);
  new MutationObserver(read).observe(document.body, { attributes: true, attributeFilter: ['class'] });
}
