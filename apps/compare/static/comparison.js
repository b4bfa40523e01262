/** The comparison the page reads: asked for, waited for, and kept per decoder and score rule. */

import { address, ask, askJson, below } from './server.js';
import { readPack } from './pack.js';

/** Between two looks at a running job, milliseconds: a person sees it move, the server hardly notices. */
const PAUSE = 700;
/** The same for a folder of predictions, where only figures are missing and an answer names hundreds of epochs. */
const LONG_PAUSE = 2500;

/**
 * @typedef {Object} Comparison the answer of `GET compare`, and
 * @property {import('./measures.js').Arrays} values
 * @property {{decoder: string, score: string}} asked as they were asked for: "" is the model's own
 */

export class Comparisons {
  /**
   * @param {() => number[]} first epochs the reader looks at: the server computes them before the others
   * @param {(news: {comparison: ?Comparison, job: ?Object}) => void} arrived
   * @param {(reason: Error) => void} failed
   * @param {(body: Object) => {get: (sample: number) => Float32Array|undefined}} tracksOf keypoints of single samples
   */
  constructor(first, arrived, failed, tracksOf) {
    this.tracksOf = tracksOf;
    this.first = first;
    this.arrived = arrived;
    this.failed = failed;
    this.kept = new Map();
    this.turn = 0;
    this.timer = 0;
    this.opening = true;
  }

  /**
   * Ask for a comparison; what an earlier call still waits for is dropped.
   * @param {{run: string, data: string, decoder: string, score: string}} wish
   * @param {boolean} [anew] start again after a cancelled or failed job
   */
  want({ run, data, decoder, score }, anew = false) {
    this.drop();
    const key = [run, data, decoder, score].join('\n');
    const kept = this.kept.get(key);
    // Keypoints over the whole set are evaluated for the shown epochs of a folder of predictions alone.
    const whole = !kept?.predictions || this.first().every((index) => kept.epochs.find((e) => e.index === index)?.per_keypoint);
    if (kept && whole && !anew && !kept.job && kept.epochs.every((e) => e.ready)) {
      this.arrived({ comparison: kept, job: null });
      return;
    }
    // What another page cancelled is begun again by a page that opens.
    this.look(key, { run, data, decoder, score }, anew ? 1 : this.opening ? 2 : null, this.turn);
    this.opening = false;
  }

  /** What is still waited for is no longer wanted. */
  drop() {
    this.turn += 1;
    clearTimeout(this.timer);
  }

  async look(key, query, start, turn) {
    try {
      const { status, body } = await askJson(address('compare', { ...query, first: this.first().join(','), start, known: this.kept.get(key)?.version }), { method: 'POST' });
      if (turn !== this.turn) return;
      if (status === 202) {
        this.arrived({ comparison: null, job: body.job });
      } else {
        const before = this.kept.get(key);
        body.samples ??= before.samples;
        const values = body.predictions ? await this.oksOnly(body, before) : await this.values(body, before);
        if (turn !== this.turn) return;
        const comparison = { ...body, values, asked: { decoder: query.decoder, score: query.score } };
        this.kept.set(key, comparison);
        this.arrived({ comparison, job: body.job });
      }
      if (body.job && ['queued', 'running'].includes(body.job.state)) {
        this.timer = setTimeout(() => this.look(key, query, null, turn), body.predictions ? LONG_PAUSE : PAUSE);
      }
    } catch (reason) {
      if (turn === this.turn) this.failed(reason);
    }
  }

  /** Annotations and the OKS of every sample in every epoch of a folder of predictions. */
  async oksOnly(body, before) {
    if (before?.version === body.version) return before.values;
    const { head, blocks } = readPack(await (await ask(below(body.arrays).href)).arrayBuffer());
    const [N, K] = [body.samples.length, body.skeleton.keypoints.length];
    if (blocks.oks.length !== N * head.epochs.length || blocks.truth.length !== N * K * 3) {
      throw new Error(`the server's arrays hold ${head.samples.length} samples, its list ${N}; reload the page`);
    }
    const epochs = new Map(head.epochs.map((epoch, place) => [epoch, { oks: blocks.oks.subarray(place * N, (place + 1) * N), predictions: null, place }]));
    return { N, K, truth: blocks.truth, epochs, tracks: this.tracksOf(body) };
  }

  /**
   * The arrays of all ready epochs. While a job goes on, those that an earlier answer brought are not fetched
   * again; after it, an answer may be about changed files.
   */
  async values(body, before) {
    const ready = body.epochs.filter((e) => e.ready).map((e) => e.index);
    const same = before && (before.version === body.version || before.job?.state === 'running');
    const missing = same ? ready.filter((e) => !before.values.epochs.has(e)) : ready;
    if (same && !missing.length) return before.values;
    const url = below(body.arrays);
    url.searchParams.set('epochs', missing.join(','));
    const { head, blocks } = readPack(await (await ask(url.href)).arrayBuffer());
    const N = body.samples.length;
    const K = body.skeleton.keypoints.length;
    if (head.samples.length !== N || blocks.truth.length !== N * K * 3) {
      throw new Error(`the server's arrays hold ${head.samples.length} samples, its list ${N}; reload the page`);
    }
    const epochs = new Map(same ? before.values.epochs : []);
    head.epochs.forEach((epoch, i) => epochs.set(epoch, {
      predictions: blocks.predictions.subarray(i * N * K * 3, (i + 1) * N * K * 3),
      oks: blocks.oks.subarray(i * N, (i + 1) * N),
    }));
    return { N, K, truth: blocks.truth, epochs };
  }
}

/** AP of B less AP of A with its interval, asked once per pair and remembered. */
export class Intervals {
  /** @param {() => void} arrived */
  constructor(arrived) {
    this.arrived = arrived;
    this.kept = new Map();
    this.latest = new Map(); // of a pair, whatever the version
    this.asked = new Set(); // on their way
    this.timer = 0;
  }

  /** @returns {?{delta: number, low: number, high: number, level: number, resamples: number}|string} string: why not */
  of(comparison, a, b) {
    return this.kept.get(this.key(comparison, a, b)) ?? null;
  }

  /** The interval of this pair before the last epoch came in; null where there was none. */
  before(comparison, a, b) {
    return this.latest.get(this.key({ ...comparison, version: '' }, a, b)) ?? null;
  }

  key({ run, data, version, asked }, a, b) {
    return [run, data, version, asked.decoder, asked.score, a, b].join(' ');
  }

  /** A slider began to move: what was about to be asked is not. */
  drop() {
    clearTimeout(this.timer);
  }

  /** Ask in a moment: while a slider moves, the pairs it passes are not worth a bootstrap. */
  want(comparison, a, b) {
    clearTimeout(this.timer);
    const { run, data, asked, version } = comparison;
    const key = this.key(comparison, a, b);
    if (this.kept.has(key) || this.asked.has(key)) return;
    this.timer = setTimeout(async () => {
      this.asked.add(key);
      try {
        const { body } = await askJson(address('interval', { run, data, a, b, ...asked, v: version }));
        this.kept.set(key, body);
        this.latest.set(this.key({ ...comparison, version: '' }, a, b), body);
      } catch (reason) {
        this.kept.set(key, reason.message);
      }
      this.asked.delete(key);
      this.arrived();
    }, 180);
  }
}
