/** The buttons at the right end of the first row: link, takeaways, keys. */

import { element } from './element.js';
import { address, askJson } from './server.js';
import { copy, csv, facts, picture, save } from './takeaway.js';

/** @param {import('./store.js').Store} store @param {Object<string, HTMLElement>} places @returns {HTMLElement[]} */
export function takeawayTools(store, places) {
  // An address of this machine means another one on the reader's: said before it is sent.
  const local = onlyHere(window.location.hostname);
  const where = local ? 'opens on this machine only: start the app with --host to serve others' : 'opens wherever this host is reached';
  const share = element('button.cmp-button', { type: 'button', title: `copy a link to exactly this view; it ${where}`, 'data-testid': 'share' }, 'Share link');
  share.addEventListener('click', async () => told(share, await copy(window.location.href), local ? 'Copied: for this machine only' : 'Copied'));
  const query = () => {
    const { run, data, decoder, score, epochs } = store.state;
    return { run, data, decoder, score, epochs: epochs.join(',') };
  };
  const ready = () => store.state.comparison && store.state.sample >= 0;
  const name = (ending) => `compare-${store.state.run}-${store.state.comparison.samples[store.state.sample].key}.${ending}`.replaceAll(/[^\w.-]+/g, '_');
  const entry = (text, title, testid, act) => element('button', { type: 'button', role: 'menuitem', title, 'data-testid': testid, onClick: () => { menu.hidden = true; if (ready()) act(); } }, text);
  const menu = element(
    'div.cmp-popover.cmp-menu', { hidden: true, role: 'menu' },
    entry('PNG of the panes', 'at the resolution of this screen', 'save-png', () => picture(places.panes, getComputedStyle(places.panes).backgroundColor).toBlob((blob) => save(name('png'), blob))),
    entry('CSV of the keypoints', 'error and score of each keypoint of this sample', 'save-csv', () => save(name('csv'), csv(store.state))),
    entry('JSON of figures and keypoints', 'with the protocol', 'save-json', () => save(name('json'), JSON.stringify(facts(store.state), null, 2))),
    entry('Python of this comparison', 'lines for a notebook, into the clipboard', 'save-code', async () => {
      const { body } = await askJson(address('compare/code', query()));
      told(open, await copy(body.code));
    }),
  );
  const open = element('button.cmp-button', { type: 'button', 'aria-haspopup': 'menu', title: 'take what is seen elsewhere', 'data-testid': 'save', onClick: () => { menu.hidden = !menu.hidden; } }, 'Save ▾');
  document.addEventListener('pointerdown', (event) => { if (!menu.contains(event.target) && event.target !== open) menu.hidden = true; });
  const keys = element('button.cmp-button.quiet', { type: 'button', title: 'keys (?)', 'aria-label': 'keys', 'data-testid': 'keys', onClick: () => { places.help.hidden = !places.help.hidden; } }, '?');
  return [share, element('span.cmp-menu-place', {}, open, menu), keys];
}

/** Whether a host name means the machine that reads it. */
export function onlyHere(hostname) {
  return /^(localhost|.*\.localhost|127(\.\d+){3}|\[?::1\]?|0\.0\.0\.0)$/.test(hostname);
}

/** Says on a button what came of it, for a moment. */
function told(button, done, words = 'Copied') {
  const before = button.textContent;
  button.textContent = done ? words : 'Not copied: take it from the address bar';
  setTimeout(() => { button.textContent = before; }, 1600);
}
