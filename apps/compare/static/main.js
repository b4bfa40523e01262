/** The Compare page: joins the parts, and turns what a reader does into changes of the one state. */

import { actions } from './actions.js';
import { firstLook, firstSubject } from './beginnings.js';
import { Choices } from './choices.js';
import { Comparisons, Intervals } from './comparison.js';
import { Dials } from './dials.js';
import { Figures } from './figures.js';
import { listenToKeys } from './keys.js';
import { defaultMaps, readLink, writeLink } from './link.js';
import { MapBar } from './mapbar.js';
import { computeMaps } from './maprun.js';
import { Notices } from './notices.js';
import { fillWindow, followTheme, laidOut } from './page.js';
import { Panes } from './panes.js';
import { Pictures } from './pictures.js';
import { Samples } from './samples.js';
import { address, askJson } from './server.js';
import { firstState, Store, touches } from './store.js';
import { Strip } from './strip.js';
import { onResize, themeOf } from './surface.js';
import { Table } from './table.js';
import { drew } from './timings.js';
import { takeawayTools } from './tools.js';
import { prefetchOrder } from './prefetch.js';

/** @param {HTMLElement} root the page's element, holding its placeholders */
export function start(root) {
  const wish = readLink(window.location.search);
  const store = new Store({ ...firstState(), chosen: 'sample' in wish, ...pick(wish, ['decoder', 'score', 'threshold', 'right', 'sort', 'size', 'truth', 'view', 'whole', 'softmax', 'smooth', 'tableOf', 'pair']) });
  let linked = wish; // until the first look, and as long as run and data are those of the link
  const places = laidOut(root);
  let theme = null;
  followTheme(root, () => { theme = themeOf(root); store.set({ theme: store.state.theme + 1 }); });
  fillWindow(root);

  const arrived = () => store.set({ arrived: store.state.arrived + 1 });
  onResize(() => { arrived(); samples.fill(); });
  const pictures = new Pictures(arrived);
  const intervals = new Intervals(arrived);
  const comparisons = new Comparisons(
    () => store.state.epochs,
    ({ comparison, job }) => receive(comparison, job),
    refused,
    (body) => pictures.tracksOf(body),
  );

  let moved = false; // by the reader, since the address was written: Back is to undo it
  const act = actions(store, {
    comparisons, pictures, places, beside: (n, step) => samples.beside(n, step), page: () => samples.page(), strip: () => strip, begin,
    left: () => { linked = {}; }, moved: () => { moved = true; },
  });
  const bar = new MapBar(store, act.keypoint, () => computeMaps(store));
  const panes = new Panes(places.panes, bar.node, store, pictures, () => theme, act.keypoint);
  const samples = new Samples(places.samples, store, act.sample, act.sortBy);
  const table = new Table(places.table, store, act.keypoint);
  const strip = new Strip(places.strip, store, act.epoch);
  const dials = new Dials(places.dials, store, act);
  const figures = new Figures(places.figures, store, intervals, act.instances);
  const notices = new Notices(places.notices, { cancel: act.cancel, again: act.again, dismiss: () => store.set({ error: '', job: null }) });
  const choices = new Choices(places.choices, act.choices, takeawayTools(store, places));
  listenToKeys(root, act.keys(figures));

  function refused(reason) {
    const { comparison, decoder, score } = store.state;
    if ([400, 409].includes(reason.status) && !comparison && (decoder || score)) {
      // The words of a link: no choice here offers them.
      store.set({ decoder: '', score: '', error: `${reason.message}; shown as the model is read by itself.`, retry: false });
      comparisons.want(store.state);
      return;
    }
    store.set({ error: reason.message, retry: true, job: reason.job ?? null, waiting: false });
  }

  function receive(comparison, job) {
    const patch = { job, waiting: !comparison };
    if (comparison) {
      const shown = store.state.comparison;
      // Maps that were computed on demand stay when figures arrive.
      if (shown?.predictions && shown.run === comparison.run && shown.data === comparison.data) comparison.maps ??= shown.maps;
      const { missing, ...look } = firstLook(store.state, comparison, linked);
      linked = {};
      const { asked } = comparison;
      const own = { ...store.state.own };
      for (const key of ['decoder', 'score']) if (!asked[key]) own[key] = comparison[key];
      Object.assign(patch, { own, comparison, ...look, error: [store.state.error, missing].filter(Boolean).join(' ') });
    }
    store.set(patch);
  }

  store.listen((state, changed) => {
    // Panes first: text on a canvas asks for its font, and what was written before would be laid out for that.
    const complete = panes.render(state);
    root.classList.toggle('waiting', state.waiting);
    root.classList.toggle('empty', !state.comparison);
    root.classList.toggle('nothing', !state.comparison && !state.waiting);
    root.style.setProperty('--count', String(state.epochs.length));
    if (touches(changed, 'runs', 'sets', 'run', 'data', 'epochs', 'comparison')) choices.render(state);
    if (touches(changed, 'comparison', 'epochs', 'pair', 'arrived', 'settled')) figures.render(state);
    if (touches(changed, 'job', 'error', 'retry', 'comparison')) notices.render(state);
    if (touches(changed, 'comparison', 'epochs', 'pair', 'sample', 'sort', 'size', 'right', 'settled')) samples.render(state, changed);
    bar.render(state);
    if (touches(changed, 'comparison', 'epochs', 'pair', 'sample', 'keypoint', 'hovered', 'threshold', 'tableSort', 'tableOf', 'settled') || (state.comparison?.predictions && changed.has('arrived'))) table.render(state);
    if (touches(changed, 'comparison', 'epochs', 'run', 'runs')) strip.render(state);
    if (touches(changed, 'comparison', 'sample', 'right', 'run', 'runs', 'theme')) strip.follow(state, theme);
    if (touches(changed, 'comparison', 'threshold', 'right', 'decoder', 'score', 'pair', 'epochs')) dials.render(state, changed);
    if (state.comparison && touches(changed, 'comparison', 'sample', 'epochs', 'computed', 'settled')) pictures.want(state.comparison, prefetchOrder(state, samples.order, pictures.room()));
    if (touches(changed, 'settled', 'epochs', 'tableOf') && lacksSet(state)) comparisons.want(state);
    if (state.settled && state.run && state.comparison) {
      keepLink(state, moved);
      moved = false;
    }
    drew(complete && !state.waiting);
  });

  function begin() {
    store.set({ error: '', retry: false, waiting: true });
    Promise.all([askJson(address('runs')), askJson(address('data'))]).then(([runs, sets]) => {
      const { error, ...subject } = firstSubject(runs.body, wish, root.dataset.firstRun);
      const pair = subject.epochs.length > Math.max(...store.state.pair) ? store.state.pair : [0, 1];
      store.set({ runs: runs.body, sets: sets.body, ...subject, pair, error, waiting: Boolean(subject.data) });
      if (subject.data) comparisons.want(store.state);
    }, (reason) => store.set({ error: reason.message, retry: true, waiting: false }));
  }

  /** Back and forward: what the address names now is shown. */
  function followLink() {
    const { runs, run, data, decoder, score } = store.state;
    if (!runs.length) return;
    strip.stop();
    moved = false;
    const now = readLink(window.location.search);
    const { error, ...subject } = firstSubject(runs, now, root.dataset.firstRun);
    const told = { ...pick(firstState(), LINKED), ...pick(now, LINKED) };
    const patch = { ...told, ...subject, error, retry: false, view: now.view ?? null, settled: true };
    const { comparison } = store.state;
    const same = comparison && subject.run === run && subject.data === data && told.decoder === decoder && told.score === score;
    if (same) {
      const sample = comparison.samples.findIndex((s) => s.key === now.sample);
      const keypoint = comparison.skeleton.keypoints.indexOf(now.keypoint);
      if (sample >= 0) patch.sample = sample;
      if (keypoint >= 0) patch.keypoint = keypoint;
      patch.maps = now.maps ?? defaultMaps(comparison.maps);
      store.set(patch);
      return;
    }
    linked = now;
    // Another decoder reads the same samples; another run or set has its own.
    const other = subject.run !== run || subject.data !== data;
    store.set({ ...patch, ...(other ? { comparison: null, sample: -1, keypoint: -1, maps: now.maps ?? '', own: { decoder: '', score: '' } } : {}), waiting: Boolean(subject.data) });
    if (subject.data) comparisons.want(store.state);
  }

  window.addEventListener('popstate', followLink);
  begin();
}

/** Whether the table over the set is shown, and an epoch of it is not evaluated yet. */
function lacksSet({ comparison, settled, tableOf, epochs }) {
  if (!comparison?.predictions || !settled || tableOf !== 'set' || !comparison.skeleton.sigmas.length) return false;
  return epochs.some((index) => !comparison.epochs.find((e) => e.index === index)?.per_keypoint);
}

/** What a link may say beside run, data, epochs, sample and keypoint. */
const LINKED = ['decoder', 'score', 'threshold', 'right', 'sort', 'size', 'truth', 'whole', 'softmax', 'smooth', 'tableOf', 'pair'];

function pick(from, keys) {
  return Object.fromEntries(keys.filter((key) => key in from).map((key) => [key, from[key]]));
}

/** Writes the address; a step of its own in the browser's history where the reader chose something else. */
function keepLink(state, moved) {
  const query = writeLink(state, window.location.search);
  if (query === window.location.search) return;
  const how = moved ? 'pushState' : 'replaceState';
  window.history[how](window.history.state, '', query + window.location.hash);
  window.wb?.links?.(); // the shell's rail keeps the subject in its links
}
