/** Pictures and maps of the samples, fetched ahead so that a slider never waits for the server. */

import { address, ask } from './server.js';
import { readPack } from './pack.js';
import { Lru } from './lru.js';

/** Maps of 8 epochs x 3 samples of 17 x 256 x 192 cells stay; SimCC needs a hundredth of it. */
const MAP_BYTES = 160e6;
const IMAGE_BYTES = 120e6;
const TRACK_BYTES = 40e6; // 300 epochs x 17 keypoints of one sample take 61 kB
/** Requests at a time: the browser allows six to one host, and two stay free for the page. */
const LANES = 4;

/**
 * @typedef {Object} Maps what the network left for one sample
 * @property {"heatmap"|"simcc"} kind
 * @property {number} K
 * @property {number[][]} toImage affine from (column, row) or (bin x, bin y) to image pixels
 * @property {Uint8Array} [grey] [K, h, w]; value = low + grey / 255 * (high - low)
 * @property {Float32Array} [x] [K, binsX] raw logits, and y
 */

export class Pictures {
  /** @param {() => void} arrived */
  constructor(arrived) {
    this.arrived = arrived;
    this.maps = new Lru(MAP_BYTES);
    this.images = new Lru(IMAGE_BYTES);
    this.tracks = new Lru(TRACK_BYTES);
    this.failures = new Map();
    this.waiting = new Map();
    this.queue = [];
  }

  mapsKey(comparison, epoch, sample) {
    // The epoch's own version: it changes with its file, and not with the decoder as the comparison's does.
    return `maps ${comparison.run} ${comparison.data} ${epoch} ${this.versionOf(comparison, epoch)} ${sample}`;
  }

  versionOf(comparison, epoch) {
    return comparison.epochs.find((e) => e.index === epoch)?.version ?? '';
  }

  imageKey(comparison, sample) {
    return `image ${comparison.data} ${comparison.samples[sample].image_id}`;
  }

  trackKey({ run, data, version }, index) {
    return `track ${run} ${data} ${version} ${index}`;
  }

  /** Keypoints of single samples over all epochs of a folder of predictions, as far as they are here. */
  tracksOf(comparison) {
    const { samples } = comparison;
    return { get: (sample) => this.tracks.get(this.trackKey(comparison, samples[sample]?.index)) };
  }

  /** @returns {Maps|undefined} what is here already */
  mapsOf(comparison, epoch, sample) {
    return this.maps.get(this.mapsKey(comparison, epoch, sample));
  }

  /** @returns {ImageBitmap|undefined} */
  imageOf(comparison, sample) {
    return this.images.get(this.imageKey(comparison, sample));
  }

  /** Why a picture or its maps did not come; "" while nothing failed. */
  failureOf(key) {
    return this.failures.get(key) ?? '';
  }

  /**
   * What the page will want next, most urgent first; earlier requests not yet asked for are dropped.
   * @param {Array<{sample: number, epochs: number[]}>} requests positions in comparison.samples
   */
  want(comparison, requests) {
    this.queue = [];
    for (const { sample, epochs } of requests) {
      const { index } = comparison.samples[sample];
      const { run, data, version } = comparison;
      this.ask(this.images, this.imageKey(comparison, sample), address('image', { data, sample: index, v: version }), readImage);
      if (comparison.predictions) this.ask(this.tracks, this.trackKey(comparison, index), address('compare/track', { run, data, sample: index, v: version }), readTrack);
      if (!comparison.maps) continue;
      for (const epoch of epochs) {
        this.ask(this.maps, this.mapsKey(comparison, epoch, sample), address('maps', { run, epoch, data, sample: index, v: this.versionOf(comparison, epoch) }), readMaps);
      }
    }
    this.pump();
  }

  ask(shelf, key, url, read) {
    if (shelf.has(key) || this.waiting.has(key) || this.failures.has(key)) return;
    this.queue.push({ shelf, key, url, read });
  }

  pump() {
    while (this.waiting.size < LANES && this.queue.length) this.load(this.queue.shift());
  }

  async load({ shelf, key, url, read }) {
    this.waiting.set(key, true);
    try {
      const answer = await ask(url);
      if (answer.status !== 202) { // 202: the epoch is still being computed, its turn comes again
        const { value, bytes } = await read(answer);
        shelf.set(key, value, bytes);
      }
    } catch (reason) {
      this.failures.set(key, reason.message);
    }
    this.waiting.delete(key);
    this.arrived();
    this.pump();
  }

  /** Maps that fit at a time, by the size of those that came; the rest of the cache is for the way back. */
  room() {
    const { size } = this.maps.entries;
    return size ? Math.floor((0.7 * MAP_BYTES * size) / this.maps.bytes) : 24;
  }

  /** Forget what failed, so that it is asked for again. */
  retry() {
    this.failures.clear();
  }
}

async function readTrack(answer) {
  const { track } = readPack(await answer.arrayBuffer()).blocks;
  return { value: track, bytes: track.byteLength };
}

async function readImage(answer) {
  const value = await createImageBitmap(await answer.blob());
  return { value, bytes: value.width * value.height * 4 };
}

async function readMaps(answer) {
  const sprite = answer.headers.get('X-Sprite');
  if (!sprite) {
    const { head, blocks } = readPack(await answer.arrayBuffer());
    const value = { kind: 'simcc', K: head.K, binsX: head.bins_x, binsY: head.bins_y, toImage: head.to_image, x: blocks.x, y: blocks.y };
    return { value, bytes: 4 * (blocks.x.length + blocks.y.length) };
  }
  const layout = JSON.parse(sprite);
  // The sprite holds numbers, not a picture: no colour conversion may touch them.
  const bitmap = await createImageBitmap(await answer.blob(), { colorSpaceConversion: 'none', premultiplyAlpha: 'none' });
  const grey = cut(bitmap, layout);
  return { value: { kind: 'heatmap', ...layout, toImage: layout.to_image, grey }, bytes: grey.length };
}

/** The maps of a sprite, one after the other. */
function cut(bitmap, { K, h, w, columns }) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const grey = new Uint8Array(K * h * w);
  for (let k = 0; k < K; k += 1) {
    const left = (k % columns) * w;
    const top = Math.floor(k / columns) * h;
    for (let row = 0; row < h; row += 1) {
      for (let column = 0; column < w; column += 1) {
        grey[(k * h + row) * w + column] = data[4 * ((top + row) * bitmap.width + left + column)];
      }
    }
  }
  return grey;
}
