// Every visible text of the page whose contrast to its ground is below WCAG AA's 4.5: [what, text, contrast].
() => {
  const context = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const parsed = (colour) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const linear = (value) => (value / 255 <= 0.03928 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parsed(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const written = (node) => node.offsetParent && [...node.childNodes].some((part) => part.nodeType === 3 && part.textContent.trim());
  return [...document.querySelectorAll('.cmp *')].filter(written).map((node) => {
    const [a, b] = [light(parsed(getComputedStyle(node).color)), light(ground(node))];
    return [node.className || node.tagName, node.textContent.slice(0, 20), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
  }).filter(([, , contrast]) => contrast < 4.5);
}
