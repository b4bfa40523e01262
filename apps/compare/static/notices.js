/** What is the server doing, how long still, and what went wrong: said once, where the reader looks. */

import { element, say } from './element.js';
import { duration } from './words.js';

/** Milliseconds before a job beside a comparison is shown. */
const PATIENCE = 700;

export class Notices {
  /** @param {HTMLElement} root @param {{cancel: (id: string) => Promise<boolean>, again: () => void, dismiss: () => void}} on */
  constructor(root, on) {
    this.fill = element('i');
    this.meter = element('div.cmp-meter', { role: 'progressbar', 'aria-valuemin': 0, 'aria-valuemax': 100, 'data-testid': 'progress' }, this.fill);
    this.words = element('span.cmp-job-words', { 'data-testid': 'job' });
    this.cancel = element('button.cmp-button', { type: 'button', 'data-testid': 'cancel', title: 'Ends it for every page that asks for the same', onClick: () => this.end(on.cancel) }, 'Cancel');
    this.job = element('div.cmp-job', { hidden: true, role: 'status' }, this.words, this.meter, this.cancel);
    this.sentence = element('span', { 'data-testid': 'error' });
    this.again = element('button.cmp-button', { type: 'button', 'data-testid': 'again', onClick: () => on.again() }, 'Try again');
    this.dismiss = element('button.cmp-button.quiet', { type: 'button', 'aria-label': 'dismiss', onClick: () => on.dismiss() }, '×');
    this.error = element('div.cmp-error', { hidden: true, role: 'alert' }, this.sentence, element('span', {}, this.again, this.dismiss));
    root.append(this.job, this.error);
  }

  async end(cancel) {
    const { id } = this;
    this.cancel.disabled = true;
    if (!(await cancel(id)) && this.id === id) this.cancel.disabled = false;
  }

  render(state) {
    const { job, comparison } = state;
    const working = Boolean(job) && ['queued', 'running'].includes(job.state);
    if (working && this.id !== job.id) {
      this.cancel.disabled = false;
      this.id = job.id;
      this.since = performance.now();
      if (comparison) setTimeout(() => this.render(this.state), PATIENCE);
    }
    this.state = state;
    // Where there is something to look at, short work is not worth a bar that moves the page.
    this.job.hidden = !working || (Boolean(comparison) && performance.now() - this.since < PATIENCE);
    if (working) {
      const part = job.total ? job.done / job.total : 0;
      const left = duration(job.seconds_left);
      const epochs = comparison ? ` · ${comparison.epochs.filter((e) => e.ready).length} of ${comparison.epochs.length} epochs ready` : '';
      const queued = job.state === 'queued';
      const far = job.total ? ` · ${job.done} of ${job.total}` : queued ? '' : ' · starting';
      const waiting = queued ? ` · waiting for its turn${job.waits_for ? `; ${job.waits_for}` : ''}` : '';
      say(this.words, `${job.title}${far}${left ? ` · ${left} left` : ''}${epochs}${waiting}`);
      this.fill.style.width = `${100 * part}%`;
      this.meter.setAttribute('aria-valuenow', String(Math.round(100 * part)));
    }
    // A job that ended early leaves its epochs usable, and says so.
    const ended = job && ['failed', 'cancelled'].includes(job.state) && comparison
      ? `${job.state === 'failed' ? job.error : 'Cancelled'}: ${comparison.epochs.filter((e) => e.ready).length} of ${comparison.epochs.length} epochs are ready.` : '';
    const sentence = state.error || ended;
    this.error.hidden = !sentence;
    this.again.hidden = !state.retry && !ended;
    this.dismiss.hidden = !comparison;
    this.error.classList.toggle('calm', state.error ? !state.retry && Boolean(comparison) : job?.state === 'cancelled');
    say(this.sentence, sentence);
  }
}
