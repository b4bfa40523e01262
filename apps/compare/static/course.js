/** One sample over all epochs, under the slider: its OKS in each, and how many samples each epoch forgets. */

import { element, say } from './element.js';
import { epochName } from './link.js';
import { courseOf, learningOf, rightFrom, spokenCourse } from './learning.js';
import { cleared } from './surface.js';

/** Runs of fewer epochs are read off the slider itself. */
const LEAST = 6;
const [TOP, BASE] = [22, 26]; // CSS pixels of the two halves: OKS upwards, forgotten samples downwards

export class Course {
  /** @param {(place: number, count: number) => number} across CSS pixels of an epoch, as on the slider */
  constructor(across, choose) {
    this.across = across;
    this.canvas = element('canvas.cmp-course', { role: 'img', 'data-testid': 'course' });
    this.words = element('span', { 'data-testid': 'course-words' });
    this.jump = element('button.cmp-jump', { type: 'button', 'data-testid': 'first-right', title: 'set B to the first epoch in which this sample is right', onClick: () => choose(this.first) }, 'show');
    this.total = element('span.cmp-course-total', { 'data-testid': 'forgotten-total' });
    this.node = element('div.cmp-course-place', { hidden: true }, this.canvas, element('p.cmp-course-words', {}, this.words, this.jump, this.total));
  }

  /** @param {import('./store.js').State} state @param {?Object} theme */
  render(state, theme) {
    const { comparison, sample, runs, run } = state;
    const epochs = runs.find((r) => r.id === run)?.epochs ?? [];
    const known = comparison && sample >= 0 && theme && comparison.values.epochs.size >= LEAST && comparison.skeleton.sigmas?.length;
    this.node.hidden = !known;
    if (!known) return;
    const right = rightFrom(state);
    const course = courseOf(comparison.values, sample, right);
    const learning = learningOf(comparison.values, right);
    const name = (index) => epochName(epochs.find((e) => e.index === index) ?? { index });
    this.first = course.first;
    this.jump.hidden = course.first < 0;
    say(this.words, `this sample: ${spokenCourse(course, name)}`);
    const ever = learning.forgotten.reduce((sum, times) => sum + (times > 0), 0);
    say(this.total, `all samples: ${ever} of ${comparison.values.N} forgotten at least once`);
    this.canvas.setAttribute('aria-label', `OKS of this sample over ${epochs.length} epochs, and how many samples each epoch forgets`);
    this.draw(course, learning, epochs, right, theme);
  }

  draw(course, learning, epochs, right, theme) {
    const surface = cleared(this.canvas);
    if (!surface) return;
    const { context, width } = surface;
    const places = new Map(epochs.map((e, i) => [e.index, i]));
    const pitch = epochs.length > 1 ? this.across(1, epochs.length) - this.across(0, epochs.length) : 6;
    const wide = Math.max(1, Math.min(7, pitch - 0.6));
    const most = Math.max(1, ...learning.forgottenIn);
    learning.epochs.forEach((index, e) => {
      const x = this.across(places.get(index), epochs.length) - wide / 2;
      const value = course.oks[e];
      if (Number.isFinite(value)) {
        context.fillStyle = value >= Math.fround(right) ? theme.gain : theme.loss;
        context.globalAlpha = index === course.first || course.lost.includes(index) ? 1 : 0.62;
        const high = Math.max(1, value * TOP);
        context.fillRect(x, TOP - high, wide, high);
      }
      context.globalAlpha = 0.8;
      context.fillStyle = theme.loss;
      const deep = (learning.forgottenIn[e] / most) * (surface.height - BASE);
      if (deep) context.fillRect(x, BASE, wide, Math.max(1, deep));
    });
    context.globalAlpha = 1;
    context.fillStyle = theme.ink;
    context.fillRect(0, TOP - right * TOP, width, 1); // from here on the sample is right
    context.fillStyle = theme.line;
    context.fillRect(0, BASE - 2, width, 1);
    if (course.first >= 0) this.mark(context, this.across(places.get(course.first), epochs.length), theme);
  }

  /** A triangle on the first epoch that is right. */
  mark(context, x, theme) {
    context.fillStyle = theme.ink;
    context.beginPath();
    context.moveTo(x - 4, 0);
    context.lineTo(x + 4, 0);
    context.lineTo(x, 6);
    context.fill();
  }
}
