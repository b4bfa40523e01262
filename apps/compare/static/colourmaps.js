/**
 * Which colour stands for a value? Scales whose lightness rises evenly, so that they read the same
 * for colour-blind readers and in print: computed in OKLCh (Ottosson 2020), not painted by hand.
 */

/** sRGB 0..255 of lightness 0..1, chroma, hue in degrees. */
function oklch(L, C, hue) {
  const a = C * Math.cos((hue * Math.PI) / 180);
  const b = C * Math.sin((hue * Math.PI) / 180);
  const l = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (L - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
  return linear.map((v) => {
    const clipped = Math.min(1, Math.max(0, v));
    return Math.round(255 * (clipped <= 0.0031308 ? 12.92 * clipped : 1.055 * clipped ** (1 / 2.4) - 0.055));
  });
}

function table(colour) {
  const lut = new Uint8ClampedArray(256 * 3);
  for (let i = 0; i < 256; i += 1) lut.set(colour(i / 255), 3 * i);
  return lut;
}

/** 0..1: dark blue through green to light yellow, lightness .18 to .95. */
export const sequential = table((t) => oklch(0.18 + 0.77 * t, 0.06 + 0.11 * Math.sin(Math.PI * (0.12 + 0.8 * t)), 285 - 185 * t));

/** -1..1 with 0 in the middle: blue where A is higher, orange where B is; zero is paper. */
const diverging = {
  light: table((t) => lean(t, (u) => 0.97 - 0.42 * u)),
  dark: table((t) => lean(t, (u) => 0.22 + 0.55 * u)),
};

function lean(t, lightness) {
  const u = Math.abs(2 * t - 1);
  return oklch(lightness(u), 0.17 * u, t < 0.5 ? 250 : 55);
}

/** The diverging scale of a theme. @param {boolean} dark */
export function divergingFor(dark) {
  return dark ? diverging.dark : diverging.light;
}

/** A scale as a CSS gradient, low to high. */
export function gradient(lut, towards = 'right') {
  const stops = [];
  for (let i = 0; i <= 16; i += 1) {
    const at = 3 * Math.round((i / 16) * 255);
    stops.push(`rgb(${lut[at]} ${lut[at + 1]} ${lut[at + 2]})`);
  }
  return `linear-gradient(to ${towards}, ${stops.join(', ')})`;
}
