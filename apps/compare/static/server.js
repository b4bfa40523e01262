/** Asking the server: addresses, answers, and failures as one sentence. */

/** The API lies beside the static files, wherever a proxy put both. */
const ROOT = new URL('../../api/', import.meta.url);

/** An address that the server gave, below the root of its pages. */
export function below(path) {
  return new URL(path, new URL('../../', ROOT));
}

/** A failure that the server put into words. */
export class Refusal extends Error {
  /** @param {string} sentence @param {number} status @param {?Object} job */
  constructor(sentence, status, job) {
    super(sentence);
    this.status = status;
    this.job = job;
  }
}

/**
 * Address of an API call; empty values are left out.
 * @param {string} path e.g. `compare`
 * @param {Object<string, string|number|null|undefined>} [query]
 */
export function address(path, query = {}) {
  const url = new URL(path, ROOT);
  for (const [key, value] of Object.entries(query)) {
    if (value !== '' && value !== null && value !== undefined) url.searchParams.set(key, String(value));
  }
  return url.href;
}

/**
 * The answer to a call.
 * @throws {Refusal} the server refused, with its sentence
 * @throws {Error} no server answered
 */
export async function ask(url, options = {}) {
  let answer;
  try {
    answer = await fetch(url, { credentials: 'same-origin', ...options });
  } catch (reason) {
    if (reason.name === 'AbortError') throw reason;
    throw new Error('The workbench does not answer; see whether `make app` still runs, then reload.');
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new Refusal(body.error ?? `the server answered ${answer.status} to ${new URL(url).pathname}`, answer.status, body.job ?? null);
}

/** The JSON answer to a call, with its status. */
export async function askJson(url, options) {
  const answer = await ask(url, options);
  return { status: answer.status, body: await answer.json() };
}

/** Ends a job on the server. */
export async function cancelJob(id) {
  return (await askJson(address(`jobs/${encodeURIComponent(id)}/cancel`), { method: 'POST' })).body;
}
