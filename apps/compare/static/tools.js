/** The buttons at the right end of the first row: link, takeaways, keys. */

import { element } from './element.js';
import { copy, csv, facts, picture, save } from './takeaway.js';

/** @param {import('./store.js').Store} store @param {Object<string, HTMLElement>} places @returns {HTMLElement[]} */
export function takeawayTools(store, places) {
  const share = element('button.cmp-button', { type: 'button', title: 'copy a link to exactly this view', 'data-testid': 'share' }, 'Share link');
  share.addEventListener('click', async () => told(share, await copy(window.location.href)));
  const ready = () => store.state.comparison && store.state.sample >= 0;
  const name = (ending) => `compare-${store.state.run}-${store.state.comparison.samples[store.state.sample].key}.${ending}`.replaceAll(/[^\w.-]+/g, '_');
  const entry = (text, title, testid, act) => element('button', { type: 'button', role: 'menuitem', title, 'data-testid': testid, onClick: () => { menu.hidden = true; if (ready()) act(); } }, text);
  const menu = element(
    'div.cmp-popover.cmp-menu', { hidden: true, role: 'menu' },
    entry('PNG of the panes', 'at the resolution of this screen', 'save-png', () => picture(places.panes, getComputedStyle(places.panes).backgroundColor).toBlob((blob) => save(name('png'), blob))),
    entry('CSV of the keypoints', 'error and score of each keypoint of this sample', 'save-csv', () => save(name('csv'), csv(store.state))),
    entry('JSON of figures and keypoints', 'with the protocol', 'save-json', () => save(name('json'), JSON.stringify(facts(store.state), null, 2))),
  );
  const open = element('button.cmp-button', { type: 'button', 'aria-haspopup': 'menu', title: 'take what is seen elsewhere', 'data-testid': 'save', onClick: () => { menu.hidden = !menu.hidden; } }, 'Save ▾');
  document.addEventListener('pointerdown', (event) => { if (!menu.contains(event.target) && event.target !== open) menu.hidden = true; });
  const keys = element('button.cmp-button.quiet', { type: 'button', title: 'keys (?)', 'aria-label': 'keys', 'data-testid': 'keys', onClick: () => { places.help.hidden = !places.help.hidden; } }, '?');
  return [share, element('span.cmp-menu-place', {}, open, menu), keys];
}

/** Says on a button what came of it, for a moment. */
function told(button, done) {
  const before = button.textContent;
  button.textContent = done ? 'Copied' : 'Not copied: take it from the address bar';
  setTimeout(() => { button.textContent = before; }, 1600);
}
