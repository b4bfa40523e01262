"""One HTML document for every report: text, tables and figures in a file that needs no network and no other.

plotly.js stands in a document once, compressed: 4.8 MB become 1.84 MB. What is left of `MOST_BYTES` is for
the rest: where it is too much, photos become smaller and numbers of figures shorter, and at last the largest
parts are left out, which the document says.
"""

from __future__ import annotations

import base64
import functools
import gzip
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.files import sha256_of
from workbench.core.finding import Finding
from workbench.core.plain_text import escaped, preformatted, printable
from workbench.core.report import Report, counted, plain

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

STYLE = (
    ":root{color-scheme:light dark}"
    "body{margin:1.5rem auto;max-width:1100px;padding:0 1rem;background:Canvas;color:CanvasText;"
    "font:14px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "td,th{border-bottom:1px solid color-mix(in srgb,CanvasText 20%,Canvas);text-align:left;"
    "padding:.25rem .8rem .25rem 0;vertical-align:top}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;background:color-mix(in srgb,CanvasText 7%,Canvas);"
    "padding:.6rem;border-radius:4px}"
    "li{margin:.4rem 0}.answer{border-left:4px solid #1f5fbf;padding:.2rem .8rem;font-size:1.1rem}"
    ".wide{overflow-x:auto}small,.quiet{color:color-mix(in srgb,CanvasText 65%,Canvas)}"
)

MOST_BYTES = 2_000_000
"""No document is larger."""

# Rows of a table that are printed; a file of the report's own rows has all of them.
ROWS = 60


@dataclass(frozen=True)
class Input:
    """A file that went into a report.

    Attributes:
        kind: ``checkpoint``, ``results``, ``predictions``, ``annotations``, ``config``, ``log`` or ``file``.
        name: of the file.
        nbytes: size.
        sha256: hexadecimal.
    """

    kind: str
    name: str
    nbytes: int
    sha256: str

    @classmethod
    def of(cls, kind: str, path: Path) -> Input:
        """The record of a file; reads every byte."""
        return cls(kind, path.name, path.stat().st_size, sha256_of(path))


def versions() -> dict[str, str]:
    """Package -> installed version, of those that figures depend on."""
    import importlib.metadata as installed
    import platform

    from workbench import __version__

    found = {"workbench": __version__, "python": platform.python_version()}
    for name in ("numpy", "torch", "mmpose", "onnxruntime"):
        try:
            found[name] = installed.version(name)
        except installed.PackageNotFoundError:
            continue
    return found


def html_document(title: str, parts: Sequence[str], style: str = "") -> str:
    """A whole document.

    Args:
        title: plain text; the first heading as well.
        parts: HTML, with figures as `drawn` makes them.
        style: CSS beside the document's own.
    """
    name = escaped(title)
    head = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f"<style>{STYLE}{style}</style></head><body><h1>{name}</h1>"
    )
    foot = f"{_library() if any(_PLACE in part for part in parts) else ''}</body></html>\n"
    return f"{head}{''.join(_fitted(parts, MOST_BYTES - _size(head) - _size(foot)))}{foot}"


def drawn(figure: Figure) -> str:
    """A figure as HTML of an `html_document`; its title, which the text above it says, is left out."""
    figure.update_layout(title_text="", margin_t=24)
    height = figure.to_plotly_json()["layout"].get("height") or 450
    data = _packed(str(figure.to_json()).encode())
    return f'{_PLACE} style="min-height:{float(height):.0f}px" data-figure="{data}"></div>'


def report_parts(report: Report, heading: str = "", level: int = 2) -> list[str]:
    """One report as parts of a document: sentence, protocol, findings, figure and rows.

    Args:
        report: shown with its figure.
        heading: above it; "" for none.
        level: of the heading.
    """
    parts = [f"<h{level}>{escaped(heading)}</h{level}>"] if heading else []
    parts.append(f'<p class="answer">{escaped(report.summary())}</p>')
    parts += protocol_parts(report)
    if findings := report.to_findings():
        parts.append(findings_html([("", one) for one in findings]))
    parts.append(drawn(report.plot()))
    rows = report.table()
    if rows:
        more = f", the first {ROWS}" if len(rows) > ROWS else ""
        parts.append(
            "<details><summary>Values "
            f"({counted(len(rows), 'row', spec=',')}{more})</summary>{rows_html(rows)}</details>"
        )
    return parts


def code_parts(code: str) -> list[str]:
    """Python, or a command, that makes a report again; [] for none."""
    where = "on the command line" if code.startswith("workbench ") else "in Python"
    return [f"<details open><summary>The same {where}</summary>{preformatted(code)}</details>"] * bool(code)


def protocol_parts(report: Report) -> list[str]:
    """How the numbers of a report were measured, where it says so."""
    protocol = report.to_json().get("protocol")
    if not protocol:
        return []
    text = protocol
    if isinstance(protocol, Mapping):
        text = ", ".join(f"{name} {value}" for name, value in protocol.items() if value not in (None, ""))
    return [f"<p><small>Protocol: {escaped(str(text))}</small></p>"]


def findings_html(findings: Sequence[tuple[str, Finding]]) -> str:
    """Findings as a list: (where they come from, finding)."""
    items = []
    for source, one in findings:
        about = ", ".join(word for word in (source, one.severity, one.confidence) if word)
        lines = [f"<b>{escaped(one.cause)}</b>{escaped(f' ({one.where})' if one.where else '')} "
                 f"<small>{escaped(about)}</small>", escaped(one.evidence)]  # fmt: skip
        if one.effect is not None:
            lines.append(f"Removing it gives {escaped(one.effect.text())}.")
        more = (("Only if", one.assumption), ("Do:", one.fix), ("Refuted by:", one.refuted_by))
        lines += [f"<i>{word}</i> {escaped(text)}" for word, text in more if text]
        lines += [preformatted(one.diff)] * bool(one.diff)
        items.append(f"<li>{'<br>'.join(lines)}</li>")
    return f"<ol>{''.join(items)}</ol>"


def rows_html(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of a report as a table, floats with four digits, the first `ROWS` of them."""

    def cell(value: Any) -> str:
        known = plain(value)
        return "–" if known is None else f"{known:.4g}" if isinstance(known, float) else str(known)

    head = "".join(f"<th>{escaped(str(name).replace('_', ' '))}</th>" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escaped(cell(row.get(name)))}</td>" for name in rows[0]) + "</tr>"
        for row in rows[:ROWS]
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def made_parts(
    inputs: Sequence[Input], commands: Sequence[str] = (), packages: Mapping[str, str] | None = None
) -> list[str]:
    """How a document was made: the commands that make it again, files with their hashes, versions.

    Args:
        inputs: files that went in.
        commands: one a line.
        packages: name -> version; those that are installed now by default.
    """
    parts = ["<h2>How this report was made</h2>"]
    if commands:
        parts.append(preformatted("\n".join(map(printable, commands))))
    if inputs:
        rows = "".join(
            f"<tr><td>{escaped(i.kind)}</td><td>{escaped(i.name)}</td><td>{i.nbytes:,}</td>"
            f"<td><code>{i.sha256}</code></td></tr>"
            for i in inputs
        )
        heads = "<tr><th>what</th><th>file</th><th>bytes</th><th>SHA-256</th></tr>"
        parts.append(f'<div class="wide"><table>{heads}{rows}</table></div>')
    packages_text = ", ".join(f"{name} {version}" for name, version in (packages or versions()).items())
    return [*parts, f"<p><small>{escaped(packages_text)}</small></p>"]


# What becomes of parts that are too large together?

# Side of photos, as a part of what it was, and bits of a number's mantissa, tried one after the other.
_LIGHTER = ((1.0, 16), (0.7, 12), (0.5, 10), (0.35, 9), (0.25, 8))
_PHOTO = re.compile(r"data:image/jpeg;base64,([A-Za-z0-9+/]+=*)")
_FIGURE = re.compile(r'data-figure="([^"]*)"')


def _size(text: str) -> int:
    return len(text.encode())


def _fitted(parts: Sequence[str], room: int) -> list[str]:
    """The parts, in at most so many bytes."""
    sizes = [_size(part) for part in parts]
    if sum(sizes) <= room:
        return list(parts)
    smaller = list(parts)
    for scale, bits in _LIGHTER:
        smaller = [_lighter(part, scale, bits) for part in parts]
        sizes = [_size(part) for part in smaller]
        if sum(sizes) <= room:
            return smaller
    left_out = 0
    notice = '<p class="quiet">{} parts are left out: this document holds at most {:g} MB.</p>'
    while sum(sizes) + len(notice) + 20 > room:
        place = sizes.index(max(sizes))
        smaller[place], sizes[place] = "", 0
        left_out += 1
    return [notice.format(left_out, MOST_BYTES / 1e6), *smaller] if left_out else smaller


def _lighter(part: str, scale: float, bits: int) -> str:
    """A part with smaller photos, and figures whose numbers have so many bits."""

    def figure(found: re.Match[str]) -> str:
        data = _rounded(json.loads(_unpacked(found[1])), bits)
        text = _PHOTO.sub(lambda photo: _smaller(photo, scale), json.dumps(data, separators=(",", ":")))
        return f'data-figure="{_packed(text.encode())}"'

    return _PHOTO.sub(lambda photo: _smaller(photo, scale), _FIGURE.sub(figure, part))


def _smaller(photo: re.Match[str], scale: float) -> str:
    if scale == 1.0:
        return photo[0]
    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(photo[1])))
    width, height = picture.size
    picture.thumbnail((max(int(width * scale), 8), max(int(height * scale), 8)))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _rounded(value: Any, bits: int) -> Any:
    """A figure's data with shorter numbers; whole ones, as epochs and counts, stay."""
    import numpy as np

    def short(numbers: Any) -> Any:
        mantissa, exponent = np.frexp(numbers)
        return np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits)

    if isinstance(value, dict):
        if value.get("dtype") in ("f4", "f8") and isinstance(value.get("bdata"), str):
            numbers = np.frombuffer(base64.b64decode(value["bdata"]), value["dtype"])
            if (numbers == np.round(numbers)).all():
                return value
            data = short(numbers).astype("f4").tobytes()
            return {**value, "dtype": "f4", "bdata": base64.b64encode(data).decode()}
        return {name: _rounded(one, bits) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one, bits) for one in value]
    if isinstance(value, float) and not value.is_integer():
        return float(f"{value:.{int(bits * 0.301) + 1}g}")  # as many digits as the bits hold
    return value


# plotly.js and the figures' data travel as gzip in base 85, which the browser unpacks.


_PLACE = '<div class="figure"'

# That of base64.b85encode with others in the place of "<" and "&", which could begin a tag or an entity.
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%.()*+-;,=>?@^_`{|}~"
_SWAPPED, _ORIGINAL = str.maketrans("<&", ",."), str.maketrans(",.", "<&")


def _packed(data: bytes) -> str:
    return base64.b85encode(gzip.compress(data, 9, mtime=0)).decode("ascii").translate(_SWAPPED)


def _unpacked(text: str) -> bytes:
    return gzip.decompress(base64.b85decode(text.translate(_ORIGINAL)))


@functools.cache
def _library() -> str:
    """plotly.js, and what draws the document's figures with it."""
    from plotly.offline import get_plotlyjs

    packed = _packed(get_plotlyjs().encode())
    return f'<script type="text/plain" id="plotly">{packed}</script><script>{_DRAW}</script>'


_DRAW = (
    """(async () => {
  const places = [...document.querySelectorAll("div.figure[data-figure]")];
  if (!window.DecompressionStream) {
    for (const place of places) place.textContent = "This figure needs a browser of 2023 or later.";
    return;
  }
  const digits = new Map([...'"""
    + _ALPHABET
    + """'].map((c, i) => [c, i]));
  const unpacked = (text) => {
    const pad = (5 - (text.length % 5)) % 5, all = text + "~".repeat(pad);
    const bytes = new Uint8Array((all.length / 5) * 4), view = new DataView(bytes.buffer);
    for (let i = 0, at = 0; i < all.length; i += 5, at += 4) {
      let value = 0;
      for (let j = 0; j < 5; j++) value = value * 85 + digits.get(all[i + j]);
      view.setUint32(at, value);
    }
    const stream = new Blob([bytes.subarray(0, bytes.length - pad)]).stream();
    return new Response(stream.pipeThrough(new DecompressionStream("gzip"))).text();
  };
  const script = document.createElement("script");
  script.textContent = await unpacked(document.getElementById("plotly").textContent);
  document.head.append(script);
  for (const place of places) {
    const { data, layout } = JSON.parse(await unpacked(place.dataset.figure));
    await window.Plotly.newPlot(place, data, layout, { responsive: true });
  }
  // plotly leaves a legend where it was, over the plot, when a wider figure needs fewer of its rows: placed
  // anew once plotly has followed the window.
  let resized;
  window.addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(() => places.forEach((place) => {
      const { showlegend, legend } = place._fullLayout || {};
      if (showlegend && legend) window.Plotly.relayout(place, { "legend.y": legend.y });
    }), 400);
  });
})();"""
)
