/** Which part of the image do the panes show? One view for all of them, in image pixels. */

/** Room around a crop when it is fitted: a limb may reach out of the box. */
const MARGIN = 1.3;
const CLOSEST = 8; // image pixels that still fill a pane
const CLICK = 4; // CSS pixels a pointer may move between press and release and still click

/**
 * The view that fits a sample into panes of a size.
 * @param {{box: number[], width: number, height: number}} sample image pixels
 * @param {Array<{x: number, y: number}>} points annotated ones: a truncated box does not hold all of them
 * @param {{width: number, height: number}} pane CSS pixels
 * @param {boolean} whole the image instead of the instance
 * @returns {{x: number, y: number, span: number}} centre, and image pixels along the pane's height
 */
export function fitted(sample, points, pane, whole) {
  const aspect = pane.width / pane.height;
  // Pixel centres are integers, so an image reaches from -0.5 to width - 0.5.
  const [x0, y0, x1, y1] = whole ? [-0.5, -0.5, sample.width - 0.5, sample.height - 0.5] : hull(sample.box, points);
  const span = Math.max(y1 - y0, (x1 - x0) / aspect, CLOSEST) * (whole ? 1 : MARGIN);
  return { x: inside((x0 + x1) / 2, span * aspect, sample.width), y: inside((y0 + y1) / 2, span, sample.height), span };
}

/** A centre moved so that a window of some length shows no more beyond the image than it must. */
function inside(centre, length, size) {
  if (length >= size) return (size - 1) / 2;
  return Math.min(size - 0.5 - length / 2, Math.max(length / 2 - 0.5, centre));
}

function hull([x0, y0, x1, y1], points) {
  const [xs, ys] = [points.map((p) => p.x), points.map((p) => p.y)];
  return [Math.min(x0, ...xs), Math.min(y0, ...ys), Math.max(x1, ...xs), Math.max(y1, ...ys)];
}

/**
 * The map from image pixels to CSS pixels of one pane.
 * @param {{x: number, y: number, span: number}} view
 * @param {{width: number, height: number}} pane CSS pixels
 * @param {{width: number, height: number}} [lead] the pane that `span` is meant for; a pane of another shape
 *   shows at least the same part
 */
export function mapping(view, pane, lead = pane) {
  const scale = (lead.height / view.span) * Math.min(1, pane.width / lead.width, pane.height / lead.height);
  return {
    scale,
    x: (x) => (x - view.x) * scale + pane.width / 2,
    y: (y) => (y - view.y) * scale + pane.height / 2,
    imageX: (x) => (x - pane.width / 2) / scale + view.x,
    imageY: (y) => (y - pane.height / 2) / scale + view.y,
  };
}

/**
 * Wheel zooms about the pointer, dragging moves, a double click fits again, a click chooses.
 * @param {HTMLElement} pane
 * @param {{current: () => {view: Object, map: Object}, moved: (view: ?Object) => void,
 *   clicked: (x: number, y: number) => void, hovered: (x: ?number, y: ?number, event: ?PointerEvent) => void}} on
 *   CSS pixels of the pane
 */
export function gestures(pane, on) {
  let grip = null;
  const at = (event) => {
    const box = pane.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  pane.addEventListener('wheel', (event) => {
    const now = on.current();
    if (!now) return;
    event.preventDefault();
    const [x, y] = at(event);
    // Lines and pages of old mice count as 16 and 400 pixels.
    const steps = event.deltaY * [1, 16, 400][event.deltaMode];
    const span = Math.max(CLOSEST, Math.min(now.view.span * Math.exp(steps * 0.0015), 2e4));
    const kept = span / now.view.span;
    const [ix, iy] = [now.map.imageX(x), now.map.imageY(y)];
    on.moved({ x: ix + (now.view.x - ix) * kept, y: iy + (now.view.y - iy) * kept, span });
  }, { passive: false });
  pane.addEventListener('pointerdown', (event) => {
    const now = on.current();
    if (event.button !== 0 || !now) return;
    grip = { x: event.clientX, y: event.clientY, ...now, far: false };
    pane.setPointerCapture(event.pointerId);
  });
  pane.addEventListener('pointermove', (event) => {
    if (!grip) return on.hovered(...at(event), event);
    const [dx, dy] = [event.clientX - grip.x, event.clientY - grip.y];
    grip.far ||= Math.hypot(dx, dy) > CLICK;
    if (!grip.far) return undefined;
    pane.classList.add('dragging');
    const { view, map } = grip;
    return on.moved({ x: view.x - dx / map.scale, y: view.y - dy / map.scale, span: view.span });
  });
  const release = (event) => {
    pane.classList.remove('dragging');
    if (grip && !grip.far && event.type === 'pointerup') on.clicked(...at(event));
    grip = null;
  };
  pane.addEventListener('pointerup', release);
  pane.addEventListener('pointercancel', release);
  pane.addEventListener('pointerleave', () => on.hovered(null, null, null));
  pane.addEventListener('dblclick', () => on.moved(null));
}
