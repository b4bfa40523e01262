"""The data sets on offer by id: the built-in ones, and the COCO-format files named at the app's start."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from apps.server.folders import Refused, well_formed
from workbench.cli import MISTAKES
from workbench.core import Sample, Skeleton, nearest
from workbench.core.files import files_in
from workbench.core.job import Cancelled, LruCache, current_checkpoint, version_of
from workbench.data.coco_dialects import WHOLE
from workbench.data.images import ImageReading

if TYPE_CHECKING:
    from workbench.data import PoseSet

# The two ends of a json that tell whether it speaks of keypoints; the files are large.
END_BYTES = 1 << 20

REFUSED_SECONDS = 10.0
"""So long a set that could not be opened is not tried again for the lists: its images may come meanwhile."""

PIXELS_SECONDS = 2.0
"""So long images of a set are not looked at again: a page with ten epochs asks ten times a second."""

PIXELS_REST = 20
"""The same as a multiple of what the look took: 118,000 files take half a second, on a network far more."""


@dataclasses.dataclass(frozen=True)
class _Facts:
    """What the lists say of a set, without its samples; `refused` instead where it cannot be opened."""

    skeleton: Skeleton | None = None
    labelled: int = 0
    left_out: tuple[Path, ...] = ()
    refused: BaseException | None = None
    made: float = 0.0

    @property
    def lasting(self) -> bool:
        """Whether opening the set again would say the same."""
        if self.refused is not None:
            return time.monotonic() - self.made < REFUSED_SECONDS
        return not any(image.is_file() for image in self.left_out)


class DataSets:
    """Opened when first asked for; nothing that is not on the list can be named."""

    def __init__(
        self, given: Sequence[Path], images: Path | None = None, reading: ImageReading | None = None
    ) -> None:
        self._files = annotation_files(given)
        self.images, self.reading = images, reading or ImageReading()
        self._given = tuple(given)
        self._opened: LruCache[PoseSet] = LruCache(6)
        # The lists ask for every set once per run: more sets than are kept open would be read each time.
        self._facts: LruCache[_Facts] = LruCache(1000)
        # A set keeps a few decoded images; two pages must not change that store at once.
        self._reading = threading.Lock()
        # Set -> its object, until when its images are not looked at again, the digest of their versions.
        self._versions: dict[str, tuple[PoseSet, float, str]] = {}
        self._closed = threading.Event()
        self._drawings = 0
        self._drawn_one = threading.Condition()

    def close(self, seconds: float = 1.0) -> None:
        """End the drawing of scenes, whoever asked for it, and wait so long until its files are removed."""
        self._closed.set()
        with self._drawn_one:
            self._drawn_one.wait_for(lambda: not self._drawings, timeout=seconds)

    def _drawn(self, identity: str) -> PoseSet:
        """A built-in set; a drawing that takes minutes ends with the job that asked for it."""
        from workbench.data import builtin

        def check_cancelled(_done: int, _total: int) -> None:
            current_checkpoint()
            if self._closed.is_set():
                raise Cancelled

        with self._drawn_one:
            self._drawings += 1
        try:
            return builtin(identity, check_cancelled)
        finally:
            with self._drawn_one:
                self._drawings -= 1
                self._drawn_one.notify_all()

    def ids(self) -> list[str]:
        """Built-in sets, then the files given."""
        from workbench.data import BUILTIN

        return [*self._files, *BUILTIN]

    def file(self, identity: str) -> Path:
        """The annotation file of a set that is not built in, with its part where it has one."""
        path, part = self._files[identity], _part(identity)
        return path if part is None else path.with_name(f"{path.name}#{part}")

    def allowed(self, identity: str) -> tuple[Path, ...]:
        """The folders that the images of a set may lie in, links followed; () for a built-in one."""
        found = self._files.get(identity)
        return () if found is None else tuple(self._folders_of(found))

    def _folders_of(self, path: Path) -> list[Path]:
        from workbench.data.image_folders import folders_of

        if self.images is not None:
            return [self.images]
        around = [p for p in self._given if p.is_dir() and path.resolve().is_relative_to(p.resolve())]
        usual = folders_of(path)
        # The images of a named annotations/ lie beside it, as those of a json in it that is named itself.
        beside = path.parent in around and usual[0] != path.parent
        return [*around, *usual] if beside else around or usual

    def get(self, identity: str, whole: bool = False) -> PoseSet:
        """The data set of an id, without images that are missing: they stand in its `left_out`.

        Args:
            identity: of the set.
            whole: keep what is annotated on missing images: a result file is judged without pixels.

        Raises:
            KeyError: there is none of that id.
            FileNotFoundError: all of its images are missing.
            Refused: it looks like a path; only what was named at the start is served.
        """
        from workbench.data import BUILTIN, read_coco
        from workbench.data.pose_set import with_present_images

        identity = str(identity)  # a request may hold anything
        if identity in BUILTIN:
            return self._opened.get(identity, lambda: self._drawn(identity))
        if identity in self._files:
            path, part = self._files[identity], _part(identity)
            self._check_place(path)
            key = (*version_of(path), part, whole)

            def opened() -> PoseSet:
                folders = self._folders_of(path)
                found = read_coco(path, self.images, part=part, within=folders, reading=self.reading)
                return found if whole else with_present_images(found)

            pose_set = self._opened.get(key, opened)
            if any(image.is_file() for image in pose_set.left_out):
                self._opened.forget(key)  # it came meanwhile
                pose_set = self._opened.get(key, opened)
            return pose_set
        if identity.startswith(("/", "~", ".")) or ".." in Path(identity).parts:
            raise Refused(f"{identity} is not served; give it with --data when the app is started")
        raise KeyError(
            f"no data set {identity!r} is served; nearest: {nearest(identity, self.ids())}; "
            "others are given with --data when the app is started"
        )

    def _check_place(self, path: Path) -> None:
        """A file found in a folder at the start lies there still; a link may have taken its place.

        Raises:
            Refused: it leads out of the folder.
        """
        folders = [one for one in self._given if one.is_dir() and one in path.parents]
        inside = any(path.resolve().is_relative_to(one.resolve()) for one in folders)
        if folders and path not in self._given and not inside:
            raise Refused(f"{path.name} leads out of the folder that was given with --data")

    def notes(self, identity: str) -> list[str]:
        """What every page that shows a set's images says of it; nothing of a built-in one.

        Raises:
            KeyError: there is none of that id.
        """
        from workbench.data import BUILTIN

        if identity in BUILTIN:
            return []
        found = self.get(identity)
        return [text for text in (found.folder_doubt, found.left_out_text()) if text]

    def apart(self, identity: str) -> PoseSet:
        """The same set with its own store of decoded images, for a job that reads beside the pages."""
        return dataclasses.replace(self.get(identity))

    def fitting(self, skeleton: Skeleton) -> list[str]:
        """Ids of the sets that a model with these keypoints can be judged on, as the command line has it.

        Those with the very same names come first: the others are of a model whose keypoints have no names.
        """
        from workbench.evaluation.protocol import check_same_keypoints

        same, mapped = [], []
        for identity in self.ids():
            try:
                own = self.skeleton(identity)
                check_same_keypoints(skeleton, own, identity)
            except MISTAKES:
                continue  # asked for by name, the set says what is wrong with it; here it is not offered
            (same if own.keypoints == skeleton.keypoints else mapped).append(identity)
        return same + mapped

    def skeleton(self, identity: str) -> Skeleton:
        """The keypoints of a set; drawn scenes are not drawn for this."""
        from workbench.data.opening import SCENE_SETS
        from workbench.skeletons import SKELETONS

        if identity in SCENE_SETS:
            return SKELETONS["ap10k-17" if SCENE_SETS[identity].kind == "animals" else "coco-17"]
        found = self._known(identity).skeleton
        assert found is not None
        return found

    def _known(self, identity: str) -> _Facts:
        """The facts of a set, which is opened for them once per version of its file; raises as `get`."""
        path = self._files.get(identity)
        key = (identity, *(version_of(path) if path is not None else ()))

        def made() -> _Facts:
            try:
                found = self.get(identity)
            except MISTAKES as mistake:
                return _Facts(refused=mistake, made=time.monotonic())
            return _Facts(found.skeleton, len(found.labelled), found.left_out)

        facts = self._facts.get(key, made)
        if not facts.lasting:
            self._facts.forget(key)
            facts = self._facts.get(key, made)
        if facts.refused is not None:
            raise facts.refused.with_traceback(None)
        return facts

    def count(self, identity: str) -> int | None:
        """Samples with an annotation; None for drawn scenes that nobody has opened yet."""
        from workbench.data.opening import SCENE_SETS

        if identity in SCENE_SETS and identity not in self._opened:
            return None
        return self._known(identity).labelled

    def sample(self, identity: str, index: int) -> Sample:
        """One sample of a set.

        Raises:
            KeyError: the set has no such sample.
        """
        pose_set = self.get(identity)
        if not 0 <= index < len(pose_set):
            raise KeyError(f"{identity} has samples 0 to {len(pose_set) - 1}, not {index}")
        with self._reading:
            return pose_set.sample(index)

    def sample_key(self, identity: str, index: int) -> tuple[str, int, str]:
        """Stands for a sample in a cache; its image file has a version of its own."""
        return identity, index, self.version(identity)

    def version(self, identity: str, whole: bool = False) -> str:
        """Changes when the set's file does, when an image is rewritten, or when other images are missing.

        Args:
            identity: of the set.
            whole: as `get`; such a set is judged without pixels, which its version leaves out.
        """
        path = self._files.get(identity)
        if path is None:
            return identity
        pose_set = self.get(identity, whole)
        pixels = () if whole else (self._pixels(identity, pose_set),)
        return "/".join(map(str, (*version_of(path), *pose_set.left_out, *self.reading.notes(), *pixels)))

    def _pixels(self, identity: str, pose_set: PoseSet) -> str:
        """A digest of the versions of all image files of a set; pages ask for it with every poll."""
        known = self._versions.get(identity)
        if known is not None and known[0] is pose_set and time.monotonic() < known[1]:
            return known[2]
        start = time.monotonic()
        digest = hashlib.sha256()
        for record in pose_set.images.values():
            try:
                version: tuple[str | int, ...] = version_of(record.path)
            except OSError:  # removed since the set was opened
                version = (str(record.path),)
            digest.update(repr(version).encode())
        now = time.monotonic()
        found = digest.hexdigest()[:16]
        wait = max(PIXELS_SECONDS, PIXELS_REST * (now - start))
        self._versions[identity] = pose_set, now + wait, found
        return found


def annotation_files(given: Sequence[Path]) -> dict[str, Path]:
    """Data files by id: json files as named, and every keypoint json below the folders named."""
    files: dict[str, Path] = {}
    for path in given:
        if not path.is_dir():
            name = well_formed(path.name if path.name not in files else path.as_posix())
            files[name] = path
            if _speaks_of(path, b'"foot_kpts"'):
                files[f"{name}#{WHOLE}"] = path  # the same file, all 133 keypoints
            continue
        top = path.resolve()
        for file in files_in(path, "**/*.json"):
            # A link that leads out of the folder is not below it.
            if file.resolve().is_relative_to(top) and _speaks_of(file, b'"keypoints"', b'"annotations"'):
                name = well_formed(f"{top.name}/{file.relative_to(path).as_posix()}")
                files[name] = file
                if _speaks_of(file, b'"foot_kpts"'):
                    files[f"{name}#{WHOLE}"] = file
    return files


def _part(identity: str) -> str | None:
    """The part of COCO-WholeBody that an id names."""
    return WHOLE if identity.endswith(f"#{WHOLE}") else None


def _speaks_of(file: Path, *words: bytes) -> bool:
    with file.open("rb") as stream:
        ends = stream.read(END_BYTES)
        stream.seek(max(0, file.stat().st_size - END_BYTES))
        ends += stream.read(END_BYTES)
    return all(word in ends for word in words)
