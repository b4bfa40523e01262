/** What the page shows: one state, changed in one place, painted once per frame. */

/**
 * @typedef {Object} State
 * @property {Array} runs as `GET runs` gives them
 * @property {Array} sets as `GET data` gives them
 * @property {string} run id
 * @property {string} data id
 * @property {number[]} epochs indices in the run, in the order of the columns A, B, C, D
 * @property {[number, number]} pair positions in `epochs` that the difference is taken between
 * @property {string} decoder "" takes the model's own
 * @property {{decoder: string, score: string}} own what that is, once an answer told
 * @property {string} score "" takes the model's own
 * @property {?import('./comparison.js').Comparison} comparison
 * @property {?Object} job of the server
 * @property {string} error one sentence, or ""
 * @property {boolean} retry asking again may help against the error
 * @property {boolean} chosen the reader chose the sample or keypoint; until then the page may choose better ones
 * @property {boolean} waiting an answer is on its way
 * @property {number} sample position in `comparison.samples`, -1 before there is one
 * @property {number} keypoint index
 * @property {number} hovered keypoint index under the pointer, or -1
 * @property {number} threshold of keypoint scores
 * @property {number} right OKS from which a sample is right; 0 takes the comparison's own
 * @property {string} sort of the sample list
 * @property {string} size `medium` or `large` shows samples of that size alone, "" all
 * @property {boolean} truth drawn
 * @property {?{x: number, y: number, span: number}} view image pixels: centre, and how many fill
 *   the height of an overlay; null fits
 * @property {boolean} whole fit the whole image instead of the instance
 * @property {string} maps `curves`, `image` or `alone`
 * @property {boolean} softmax curves as probabilities
 * @property {boolean} smooth interpolated heatmap cells
 * @property {string} tableOf `sample`, or `set`: the table over all samples
 * @property {{by: string, down: boolean}} tableSort
 * @property {Set<string>} computed names (maprun.js) of the maps that were computed on demand, in a folder of predictions
 * @property {boolean} settled no slider is being dragged and nothing plays
 * @property {number} arrived counts pictures and maps that came in
 */

/** @returns {State} */
export function firstState() {
  return {
    runs: [], sets: [], run: '', data: '', epochs: [], pair: [0, 1], decoder: '', score: '', own: { decoder: '', score: '' },
    comparison: null, job: null, error: '', retry: false, chosen: false, waiting: true, sample: -1, keypoint: -1, hovered: -1,
    threshold: 0, right: 0, sort: 'changed', size: '', truth: true, view: null, whole: false, maps: '', softmax: false,
    smooth: false, tableOf: 'sample', tableSort: { by: 'keypoint', down: false }, computed: new Set(), settled: true, arrived: 0, theme: 0,
  };
}

export class Store {
  /** @param {State} state */
  constructor(state) {
    this.state = state;
    this.listeners = [];
    this.changed = new Set();
    this.frame = 0;
  }

  /** @param {(state: State, changed: Set<string>) => void} listener called once per frame with what changed */
  listen(listener) {
    this.listeners.push(listener);
  }

  /** @param {Partial<State>} patch */
  set(patch) {
    for (const [key, value] of Object.entries(patch)) {
      if (Object.is(this.state[key], value)) continue;
      this.state[key] = value;
      this.changed.add(key);
    }
    if (this.changed.size && !this.frame) this.frame = requestAnimationFrame(() => this.paint());
  }

  paint() {
    const changed = this.changed;
    this.changed = new Set();
    this.frame = 0;
    for (const listener of this.listeners) listener(this.state, changed);
  }
}

/** Whether any of the keys changed. */
export function touches(changed, ...keys) {
  return keys.some((key) => changed.has(key));
}
