"""Plain HTTP beside the pages: what a canvas in the browser asks for, without Gradio in between.

Everything lies under ``/workbench/api`` on the pages' own address, behind the same password, and
answers only this origin. Nothing outside the page is needed to use it (``curl`` does).

**Manners.** JSON is UTF-8; numbers that are not finite are ``null``. A failure is
``{"error": "one sentence"}`` with 400 (wrong value), 403 (a path outside the served folders), 404
(no such run, data, sample, job) or 409 (the model cannot answer, or the job failed or was cancelled).
Every answer carries an ETag; one asked for with ``v=VERSION`` (the ``version`` of ``compare``) may be
kept by the browser for ever, because the version changes with the files.
Points are (x, y) in pixels of the original image, pixel centres at integers; boxes are
[x0, y0, x1, y1]; an epoch is named by its ``index`` in the run, a sample by its ``index`` in the set.

**GET runs** -> ``[{id, title, family, protocol, epochs, data}]``: every folder of checkpoints below the
root. ``epochs``: ``[{index, epoch (number or null), label, file}]`` in epoch order; ``data``: ids of the sets
whose skeleton fits (first = the one to show); ``family`` null and ``reason`` given when it cannot be opened.
Folders with the predictions of several epochs (`workbench history`, `workbench sweep`) follow, with family
``predictions`` and ids that begin with ``predictions:``; they are compared without a model.

**GET data** -> ``[{id, title, count (null for scenes not drawn yet), skeleton: SKELETON, reason}]`` with
``SKELETON = {name, keypoints: [K names], limbs: [[i, j]], mirror: [K] or [], colours: [K "#rrggbb"],
sigmas: [K] or []}``.

**GET data/notes** ``?data`` -> ``{notes: ["one sentence"]}``: what every page that shows the set's images
says of it: other files of the same names lie elsewhere, images are missing.

**POST compare** ``?run&data[&decoder][&score][&first=i,j][&start=1|2]`` computes what is missing, each epoch
once, those named in ``first`` before the others. **GET compare**, the same query, computes nothing: 404 while
nobody has asked for it. While not one epoch is ready: ``202 {job: JOB}``. Then ``200``::

    {version, run, data, title,
     job: JOB or null,          while other epochs are being computed: ask again in a second or so
     count, total,              samples shown, samples with an annotation in the set
     decoder, decoders: [...],  the one used, those that read this output
     score, score_rules: [...], "" and [] where the output has one score only
     maps: "heatmap" | "simcc" | null,
     oks_threshold: 0.5,        gained: below it in A, at or above it in B; lost: the reverse
     protocol: {...}, protocol_text: "one line",
     skeleton: SKELETON,
     epochs: [{index, epoch, label, file, ready, figures: {AP, AP50, ..., ARL} or null,
               per_keypoint: [{keypoint, ...}] or null, loaded_fraction, sha256,
               version: changes with the epoch's file, "" before it is ready}],
     samples: [{index, key, image_id, width, height, scale, box, area, category}],
     arrays: "address of compare/arrays, below the root of the pages, with this query and v=version"}

Of a folder of predictions every epoch is ``ready`` at once, ``predictions`` is true, ``maps`` null; the job
computes ``figures``; ``differences`` names epochs whose protocol is another; an epoch's ``checkpoint`` says
whether its file is below the served folder. ``known=VERSION`` leaves ``samples`` null where that is the
version.

``scale`` is shown pixels / original pixels of ``image`` below. ``start=1`` starts anew after a
cancelled or failed job (409 with ``job`` otherwise, when nothing is ready), ``start=2`` after a cancelled one
alone: so asks a page that was just opened, as another page may have cancelled it.

**GET compare/arrays** ``?run&data[&decoder][&score][&epochs=i,j]`` -> ``application/octet-stream``, a PACK::

    uint32 little endian: length L of the head
    L bytes: JSON head, padded with spaces so that 4 + L is a multiple of 8
    then the blocks of head.blocks [{name, shape}], float32 little endian, C order, no gaps

``head = {epochs: [indices of the E epochs held, those ready among the asked], samples: [N indices],
blocks}``; blocks ``predictions`` [E, N, K, 3] (x, y, score; nan where the model gave none), ``truth``
[N, K, 3] (x, y, visibility), ``oks`` [E, N] (prediction against its own annotation; nan without one),
``scores`` [E, N] (instance scores by the protocol).

Of a folder of predictions the blocks are ``truth`` and ``oks`` of all epochs; **GET compare/track**
``?run&data&sample`` -> a PACK, block ``track`` [E, K, 3]: one sample over all epochs (x, y, score). **POST
compare/maps** ``?run&data&sample&epochs=i,j`` computes what the network leaves for one sample from the
checkpoints of these epochs: 202 ``{job}``, then ``{kind, ready: [indices]}``; 409 where they are not there.

**GET compare/report** ``?run&data&epochs=i,j[&decoder][&score]`` -> the document that **POST report** gives
of the Compare page: figure, samples that changed, tables, protocol and code. **GET compare/code**, the
same query -> ``{code}``, the Python that makes it.

**GET interval** ``?run&data&a&b[&decoder][&score]`` -> ``{a, b, delta, low, high, resamples, level}``: AP of
B less AP of A and its paired bootstrap interval over images. 202 or 409 until both epochs are ready.

**GET image** ``?data&sample`` -> JPEG of the whole image, longest side at most 1024; header ``X-Scale``:
shown pixels / original pixels. **GET thumb** ``?data&sample`` -> JPEG, 96 x 96, the box with a margin.

**GET maps** ``?run&epoch&data&sample`` -> what the network left, from the store (202 {job} before it is
there). Heatmaps: ``image/png``, one grey sprite of all K maps, row by row, with header ``X-Sprite:
{"kind": "heatmap", "K", "h", "w", "columns", "low", "high", "to_image": [[a, b, c], [d, e, f]]}``:
value = low + grey / 255 * (high - low); map k stands at column k % columns, row k // columns;
``to_image`` takes (column, row) of a cell centre to image pixels. SimCC: a PACK whose head is
``{"kind": "simcc", "K", "bins_x", "bins_y", "to_image", "blocks"}`` with blocks ``x`` [K, bins_x] and
``y`` [K, bins_y], raw logits; ``to_image`` takes (bin x, bin y) to image pixels.

**POST file** ``{page, section, kind: "csv" | "json", state}`` -> text: a page's report as a file; ``state``
is the page's own text.

**POST report** ``{page, address, items: [{page, section, state}]}`` -> one HTML document of everything that a
page shows, nothing fetched from elsewhere; 409 with the reason where it shows no answer yet.

**GET jobs** -> ``[JOB]``; **GET jobs/{id}** -> JOB; **POST jobs/{id}/cancel** -> JOB: those of Compare.
Those of the pages, which may be about a user's own files, are not listed; one that no open page shows, and
for which another waits or is refused, can be cancelled as well -> ``{id, state}``. **POST jobs/left**
``?ids=a,b``: a page that showed these jobs is closed. Computations are shared by all who ask for the same.
Where a password is asked for, one that a page in another browser waits for is not cancelled: 409.
``JOB = {id, title, state: "queued" | "running" | "done" | "failed" | "cancelled", done, total,
seconds_left (null while unknown), error: null or one sentence, waits_for: a clause, "" where it does not
wait for another job}``.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec
from urllib.parse import urlencode

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field

from apps.compare.page import code_of, comparison_answer
from apps.pages.report_section import Answer, page_document
from apps.pages.subject import epoch_name, epoch_named
from apps.server import encoding
from apps.server.comparison import Asked, Unready, indices
from apps.server.context import Context
from apps.server.encoding import Left, packed, sent_maps, skeleton_facts
from apps.server.folders import Refused, RunFolder
from apps.server.gradio_private import LONGEST_SENTENCE
from apps.server.registry import Description
from workbench.cli import MISTAKES, sentence
from workbench.core import NotAvailable
from workbench.core.errors import shortened
from workbench.core.plain_text import printable
from workbench.core.report import plain

if TYPE_CHECKING:
    from apps.server.context import Context
    from workbench.core.job import Job


PREFIX = "/workbench/api"

# No page has so many sections; each item of a report is computed and drawn.
MOST_ITEMS = 50

# More of an address than any page writes is not repeated in a report.
LONGEST_ADDRESS = 4000


class FileRequest(BaseModel):
    """What a page's CSV or JSON button asks for."""

    page: str
    section: str
    kind: Literal["csv", "json"]
    state: str


class ReportItem(BaseModel):
    """One section of a page, as it says of itself."""

    page: str
    section: str
    state: str


class ReportRequest(BaseModel):
    """What a page's Report button asks for.

    Attributes:
        page: path of the page; "" for the front page.
        address: of the page with its query.
        items: every section that shows an answer.
    """

    page: str
    address: str = ""
    items: list[ReportItem] = Field([], max_length=MOST_ITEMS)


def install(server: FastAPI, context: Context) -> None:
    """Add the API and the pages' static files to a server."""
    server.include_router(router(context))
    for name, folder in (("shell", "pages/static"), ("compare", "compare/static")):
        files = StaticFiles(directory=Path(__file__).parents[1] / folder)
        server.mount(f"/workbench/static/{name}", files, name=f"static of {name}")

    @server.exception_handler(RequestValidationError)
    async def wrong_value(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        said = f"{first['loc'][-1]}: {first['msg'].lower()}, got {first.get('input')!r}"
        return refusal(400, said[:LONGEST_SENTENCE])


def left_anew(context: Context, run: str, epoch: int, data: str, sample: int) -> Left:
    """One sample's output by a forward pass, where the cache's cap took away what was kept of it."""
    found = context.registry.sets.sample(data, sample)
    key = context.registry.sets.sample_key(data, sample)
    return Left.of_run(context.registry.passed(run, epoch, [found], key, data=data))


def router(context: Context) -> APIRouter:
    """All routes, over one context."""
    routes = APIRouter(prefix=PREFIX)
    for add in (
        _add_lists,
        _add_comparison,
        _add_arrays,
        _add_predictions,
        _add_reports,
        _add_pictures,
        _add_files,
        _add_jobs,
    ):
        add(routes, context)
    return routes


def _get(routes: APIRouter, path: str) -> Callable[[Callable[..., Response]], None]:
    """Decorator of a function that answers GET."""
    return lambda route: routes.add_api_route(path, with_errors(route), methods=["GET"], response_model=None)


def _add_lists(routes: APIRouter, context: Context) -> None:
    """What is served: runs and data sets."""

    @_get(routes, "/runs")
    def runs(request: Request) -> Response:
        return as_json(request, [*listed_runs(context), *context.predictions.listed()])

    @_get(routes, "/data")
    def data(request: Request) -> Response:
        return as_json(request, listed_data(context))

    @_get(routes, "/data/notes")
    def notes(request: Request, data: str) -> Response:
        return as_json(request, {"notes": [*map(printable, context.registry.sets.notes(data))]})


def _add_comparison(routes: APIRouter, context: Context) -> None:
    """Epochs of a run compared on a data set."""

    def compare(
        request: Request,
        run: str,
        data: str,
        decoder: str = "",
        score: str = "",
        first: str = "",
        start: int = 0,
        known: str = "",
    ) -> Response:
        if context.predictions.has(run):
            asked, wanted = Asked(run, data), indices(first)
            if request.method == "POST":
                context.predictions.begin(asked, wanted, start == 1, page_opened=start == 2)
            return as_json(request, context.predictions.answer(asked, known))
        asked = context.computing.plainly(Asked(run, data, decoder, score))
        # A link or a picture on another site's page can cause a GET: only a POST starts work.
        if request.method == "POST":
            context.computing.begin(asked, indices(first), start == 1, page_opened=start == 2)
        else:
            indices(first)
            context.computing.checked(asked)
        return as_json(request, context.comparisons.answer(asked))

    routes.add_api_route("/compare", with_errors(compare), methods=["GET", "POST"], response_model=None)


def _add_arrays(routes: APIRouter, context: Context) -> None:
    """The numbers of a comparison: keypoints and OKS of the epochs, and the interval between two."""

    @_get(routes, "/compare/arrays")
    def arrays(
        request: Request,
        run: str,
        data: str,
        decoder: str = "",
        score: str = "",
        epochs: str = "",
        v: str = "",
    ) -> Response:
        wanted = indices(epochs)
        if context.predictions.has(run):
            body = packed(*context.predictions.arrays(Asked(run, data)))
            return sent(request, body, "application/octet-stream", lasting=bool(v))
        head, blocks = context.comparisons.arrays(
            context.computing.plainly(Asked(run, data, decoder, score)), wanted
        )
        # An answer with fewer epochs than asked for is not final: it must not be kept.
        whole = bool(v) and set(wanted) == set(head["epochs"])
        return sent(request, packed(head, blocks), "application/octet-stream", lasting=whole)

    @_get(routes, "/interval")
    def interval(
        request: Request, run: str, data: str, a: int, b: int, decoder: str = "", score: str = ""
    ) -> Response:
        if context.predictions.has(run):
            return as_json(request, context.predictions.interval(Asked(run, data), a, b))
        return as_json(
            request,
            context.comparisons.interval(context.computing.plainly(Asked(run, data, decoder, score)), a, b),
        )


def _add_predictions(routes: APIRouter, context: Context) -> None:
    """What folders of predictions answer beside runs: one sample over all epochs, and its maps."""

    @_get(routes, "/compare/track")
    def track(request: Request, run: str, data: str, sample: int, v: str = "") -> Response:
        found = context.predictions.track(Asked(run, data), sample)
        body = packed({"sample": sample}, {"track": found})
        return sent(request, body, "application/octet-stream", lasting=bool(v))

    def maps(request: Request, run: str, data: str, sample: int, epochs: str) -> Response:
        found = context.prediction_maps.begin(Asked(run, data), sample, indices(epochs))
        return as_json(request, found)

    routes.add_api_route("/compare/maps", with_errors(maps), methods=["POST"], response_model=None)


def compared(context: Context, section: str, state: str) -> Answer:
    """The epochs that an address of the Compare page names; `state` holds its words as JSON."""
    words = encoding.sent_json(state, dict)
    names = ("run", "data", "decoder", "score", "epochs", "sample")
    identity, data, decoder, score, epochs, sample = found = [words.get(name) or "" for name in names]
    if not all(isinstance(word, str) for word in found):
        raise ValueError(f"expected {', '.join(names)} as texts")
    run = _epochs_of(context, identity)
    names_once = dict.fromkeys(epochs.split(","))
    wanted = list(dict.fromkeys(epoch_named(run, name) for name in names_once))
    return comparison_answer(context, _asked(context, identity, data, decoder, score), wanted, sample)


def _epochs_of(context: Context, run: str) -> RunFolder:
    """A run, or a folder of predictions, by its name."""
    return context.predictions.get(run).run if context.predictions.has(run) else context.registry.run(run)


def _asked(context: Context, run: str, data: str, decoder: str, score: str) -> Asked:
    """What an address asks for; folders of predictions were read by one decoder, long ago."""
    if context.predictions.has(run):
        return Asked(run, data)
    return context.computing.plainly(Asked(run, data, decoder, score))


def _add_reports(routes: APIRouter, context: Context) -> None:
    """A comparison as a document and as Python."""
    context.reports["compare"] = functools.partial(compared, context)

    @_get(routes, "/compare/report")
    def report(
        request: Request, run: str, data: str, epochs: str, decoder: str = "", score: str = ""
    ) -> Response:
        names = {epoch.index: epoch_name(epoch) for epoch in _epochs_of(context, run).epochs}
        wanted = ",".join(names.get(index, f"i{index}") for index in indices(epochs))
        words = {"run": run, "data": data, "epochs": wanted, "decoder": decoder, "score": score}
        address = f"/?{urlencode({name: word for name, word in words.items() if word})}"
        text = page_document(context, "", [("compare", "compare", json.dumps(words))], address)
        return sent(request, text.encode("utf-8", "replace"), "text/html; charset=utf-8")

    @_get(routes, "/compare/code")
    def code(
        request: Request, run: str, data: str, epochs: str, decoder: str = "", score: str = ""
    ) -> Response:
        asked = _asked(context, run, data, decoder, score)
        return as_json(request, {"code": code_of(context, asked, indices(epochs))})


def _add_pictures(routes: APIRouter, context: Context) -> None:
    """Images, and the network's maps of a sample."""

    @_get(routes, "/image")
    def image(request: Request, data: str, sample: int, v: str = "") -> Response:
        body, scale = encoding.jpeg(context.registry.sets.sample(data, sample).image)
        return sent(request, body, "image/jpeg", {"X-Scale": f"{scale:.9g}"}, bool(v))

    @_get(routes, "/thumb")
    def thumb(request: Request, data: str, sample: int, v: str = "") -> Response:
        found = context.registry.sets.sample(data, sample)
        return sent(request, encoding.cut_out(found.image, found.box), "image/jpeg", lasting=bool(v))

    @_get(routes, "/maps")
    def maps(request: Request, run: str, epoch: int, data: str, sample: int, v: str = "") -> Response:
        if context.predictions.has(run):
            left = context.prediction_maps.left(Asked(run, data), epoch, sample)
            body, media, headers = sent_maps(left)
            return sent(request, body, media, headers, bool(v))
        stored = context.store.stored(run, epoch, data)
        if stored is None:
            raise context.computing.unready(Asked(run, data))
        left = (
            Left.of_stored(stored, sample)
            if stored.has_outputs
            else left_anew(context, run, epoch, data, sample)
        )
        body, media, headers = sent_maps(left)
        return sent(request, body, media, headers, bool(v))


def _add_files(routes: APIRouter, context: Context) -> None:
    """Reports of pages as files."""

    def file(request: Request, asked: FileRequest) -> Response:
        if asked.page not in context.reports:
            raise KeyError(f"no page {asked.page[:LONGEST_SENTENCE]!r} with downloads")
        text = context.reports[asked.page](asked.section, asked.state).text(asked.kind)
        media = "application/json" if asked.kind == "json" else "text/csv"
        return sent(request, text.encode("utf-8", "replace"), f"{media}; charset=utf-8")

    def report(request: Request, asked: ReportRequest) -> Response:
        if asked.page not in context.titles:
            raise KeyError(f"no page {asked.page[:LONGEST_SENTENCE]!r}")
        items = [(one.page, one.section, one.state) for one in asked.items]
        text = page_document(context, asked.page, items, asked.address[:LONGEST_ADDRESS])
        return sent(request, text.encode("utf-8", "replace"), "text/html; charset=utf-8")

    routes.add_api_route("/report", with_errors(report), methods=["POST"], response_model=None)
    routes.add_api_route("/file", with_errors(file), methods=["POST"], response_model=None)


def _add_jobs(routes: APIRouter, context: Context) -> None:
    """Long work: list, state, cancel."""

    @_get(routes, "/jobs")
    def jobs(request: Request) -> Response:
        return as_json(request, [job.facts() for job in context.jobs.all() if job.listed])

    @_get(routes, "/jobs/{identity}")
    def job(request: Request, identity: str) -> Response:
        found = listed_job(context, identity)
        found.ask()
        return as_json(request, found.facts())

    def cancel(request: Request, identity: str) -> Response:
        job = context.jobs.get(identity)
        if not (job.listed or (job.left and (job.exclusive or context.jobs.waiting(job)))):
            listed_job(context, identity)
        job.cancel_for_user()
        return as_json(request, job.facts() if job.listed else {"id": job.id, "state": job.state})

    def left(request: Request, ids: str) -> Response:
        for job in context.jobs.all():
            if job.id in ids.split(",", MOST_ITEMS)[:MOST_ITEMS]:
                job.leave()
        return as_json(request, {})

    routes.add_api_route("/jobs/left", with_errors(left), methods=["POST"], response_model=None)
    routes.add_api_route(
        "/jobs/{identity}/cancel", with_errors(cancel), methods=["POST"], response_model=None
    )


# How an answer leaves the API: bodies with an ETag, failures as one sentence with the right status.


# With a version in the address the answer never changes; without one the browser asks each time.
LASTING = "private, max-age=31536000, immutable"
ASKED = "private, no-cache"

Arguments = ParamSpec("Arguments")


def sent(
    request: Request, body: bytes, media: str, headers: dict[str, str] | None = None, lasting: bool = False
) -> Response:
    """A body with its ETag; 304 when the browser has it. `lasting`: the address holds the version."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
    head = {"ETag": tag, "Cache-Control": LASTING if lasting else ASKED, **(headers or {})}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=head)
    return Response(body, media_type=media, headers=head)


def compact(facts: Any) -> bytes:
    """Facts as JSON without blanks."""
    text = json.dumps(plain(facts), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")  # names out of files may hold halves of characters


def as_json(request: Request, facts: Any) -> Response:
    """Facts as JSON; numbers that are not finite are null."""
    return sent(request, compact(facts), "application/json")


def refusal(status: int, text: str, job: dict[str, Any] | None = None) -> Response:
    """A failure as one sentence."""
    text = shortened(text)[:LONGEST_SENTENCE]  # it may repeat what was asked with
    facts = {"error": text} if job is None else {"error": text, "job": job}
    return Response(
        compact(facts), status, media_type="application/json", headers={"Cache-Control": "no-store"}
    )


def with_errors(route: Callable[Arguments, Response]) -> Callable[Arguments, Response]:
    """Give a route the failures that the API's docstring lists."""

    @functools.wraps(route)
    def answer(*arguments: Arguments.args, **named: Arguments.kwargs) -> Response:
        try:
            return route(*arguments, **named)
        except Unready as unready:
            if unready.job["state"] in ("queued", "running"):
                return Response(
                    compact({"job": unready.job}), 202, media_type="application/json",
                    headers={"Cache-Control": "no-store"},
                )  # fmt: skip
            ended = unready.job["error"] or "The computing was cancelled; start it again."
            return refusal(409, ended, unready.job)
        except Refused as refused:
            return refusal(403, sentence(refused))
        except NotAvailable as reason:
            return refusal(409, sentence(reason))
        except (LookupError, FileNotFoundError) as missing:
            return refusal(404, sentence(missing))
        except (*MISTAKES, OverflowError) as mistake:
            return refusal(400, sentence(mistake))

    return answer


# Runs and data sets as the API lists them.


def listed_job(context: Context, identity: str) -> Job:
    """A job that everybody may see.

    Raises:
        KeyError: there is none of that id, or it works on what one user sent.
    """
    job = context.jobs.get(identity)
    if not job.listed:
        raise KeyError(f"no job {identity!r}")
    return job


FIRST_SECONDS, NEXT_SECONDS = 60.0, 15.0
"""A list of runs waits so long for the first description, which imports libraries, and after each for the
next; entries of runs without one then say so."""


def listed_runs(context: Context) -> list[dict[str, Any]]:
    """Every run folder, with the sets it can be judged on; one that cannot be read tells why in its entry."""
    runs = context.registry.runs()
    described = [context.registry.described(run) for run in runs]
    waiting, patience = set(described), FIRST_SECONDS
    while waiting:
        done, waiting = wait(waiting, patience, return_when=FIRST_COMPLETED)
        if not done:
            break
        patience = NEXT_SECONDS
    return [listed_run(context, run, found) for run, found in zip(runs, described, strict=True)]


def listed_run(context: Context, run: RunFolder, described: Future[Description]) -> dict[str, Any]:
    """One run; when it cannot be opened, the reason instead of a family."""
    sets: list[str] = []
    if not described.done():
        found = Description(None, "its first file is still being read; reload in a while")
    elif (error := described.exception()) is not None:
        found = Description(None, f"it cannot be read ({type(error).__name__}: {sentence(error)})")
    else:
        found = described.result()
    reason = found.reason
    if found.skeleton is not None:
        try:
            sets, reason = context.registry.sets.fitting(found.skeleton), ""
        except MISTAKES as mistake:
            reason = sentence(mistake)
    return {
        "id": run.id,
        "title": run.title,
        "family": found.family,
        "reason": reason,
        "epochs": [
            {"index": e.index, "epoch": e.epoch, "label": e.label, "file": e.path.name} for e in run.epochs
        ],
        "data": sets,
    }


def listed_data(context: Context) -> list[dict[str, Any]]:
    """Every set that can be opened; `reason` for one that cannot."""
    listed = []
    for identity in context.registry.sets.ids():
        try:
            count = context.registry.sets.count(identity)
            skeleton = skeleton_facts(context.registry.sets.skeleton(identity))
            facts = {"count": count, "skeleton": skeleton, "reason": ""}
        except MISTAKES as mistake:
            facts = {"count": None, "skeleton": None, "reason": sentence(mistake)}
        listed.append({"id": identity, "title": printable(identity), **facts})
    return listed
