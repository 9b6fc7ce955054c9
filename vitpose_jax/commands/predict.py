"""`vitpose predict`: from files, folders, videos and cameras to results on the disk.

Exit status: 0 all went well; 1 results were written, but some inputs or boxes could not be used
(each is reported at the end); 2 nothing could be done.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from vitpose_jax.commands.drawings import Drawings, Film
from vitpose_jax.errors import UserError
from vitpose_jax.files.videos import VideoReader
from vitpose_jax.inference.background import Background
from vitpose_jax.inference.boxes import BoxFile, read_boxes
from vitpose_jax.inference.detector import DEFAULT_DETECTOR, PersonDetector
from vitpose_jax.inference.estimator import PoseEstimator, Prediction
from vitpose_jax.inference.inputs import Source, expand_inputs
from vitpose_jax.inference.person import Person, box_problem
from vitpose_jax.inference.preparation import WORKERS
from vitpose_jax.inference.results import coco_result, write_results
from vitpose_jax.inference.smoothing import PoseSmoother
from vitpose_jax.inference.tracking import Tracker
from vitpose_jax.keypoints.crops import PIXEL_STD, box_to_center_scale
from vitpose_jax.keypoints.oks import oks_nms

RESULTS_FILE = "keypoints.json"
ANIMALS = ("ap10k", "apt36k")


def predict(options: argparse.Namespace) -> int:
    """Run the command; see `vitpose predict --help` for the options."""
    sources = expand_inputs(options.inputs)
    finder = _people_finder(options)
    notes = _notes(options, sources, finder)
    out = Path(options.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be made a folder ({error.strerror})") from None
    estimator = PoseEstimator.from_pretrained(
        options.weights,
        dtype=options.dtype,
        flip_test=options.flip_test,
        dataset=options.dataset,
        num_heads=options.num_heads,
        input_size=options.input_size,
        method=options.decoder,
        batch_size=options.batch_size,
        keep_heatmaps=options.heatmaps,
    )
    estimator.compile(1 if _is_one_picture(sources) else None)
    run = _Run(estimator, finder, out, options, notes)
    try:
        run.images([source for source in sources if source.kind == "image"])
        for source in sources:
            if source.kind != "image":
                run.video(source)
    finally:
        run.report_problems(len(sources))
        run.save()
    return run.report(len(sources))


def _people_finder(options: argparse.Namespace) -> BoxFile | PersonDetector | None:
    if options.boxes is None:
        name = options.detector or DEFAULT_DETECTOR
        return None if name == "none" else PersonDetector(name)
    if options.detector is not None:
        raise UserError("--boxes and --detector exclude each other: people come from one of them")
    return read_boxes(options.boxes, any_category=options.dataset in ANIMALS)


def _notes(
    options: argparse.Namespace, sources: list[Source], finder: BoxFile | PersonDetector | None
) -> list[str]:
    """What a user should know who thinks that every option and box was of use."""
    notes = finder.notes(sources) if isinstance(finder, BoxFile) else []
    kinds = {source.kind for source in sources}
    if options.heatmaps and kinds != {"image"}:
        notes.append("--heatmaps draws on pictures, not on videos")
    if options.smooth and kinds == {"image"}:
        notes.append("--smooth steadies videos, not pictures")
    return notes


class _Run:
    """One run over all inputs: what was found so far, and what went wrong."""

    def __init__(
        self,
        estimator: PoseEstimator,
        finder: BoxFile | PersonDetector | None,
        out: Path,
        options: argparse.Namespace,
        notes: list[str],
    ) -> None:
        self.estimator, self.finder, self.out, self.options = estimator, finder, out, options
        self.results: list[dict[str, Any]] = []
        self.pictures = 0
        self.problems: list[str] = []
        self.unusable = 0  # inputs nothing could be got from
        self.notes = dict.fromkeys(notes)  # and where things are, in order
        self.drawings = Drawings(out, options, estimator, self.problems, self.notes)
        self.started = time.perf_counter()

    def images(self, sources: list[Source]) -> None:
        """Predict on picture files."""
        items = ((source.location, self._boxes(source)) for source in sources)
        shown = self.drawings.of_pictures
        stream = self.estimator.stream(items, skip_errors=True, keep_images=shown)
        predictions = _progress(stream, len(sources), "image")
        with Background(WORKERS) as background:
            for source, prediction in zip(sources, predictions, strict=True):
                if prediction.error is not None:
                    self.problems.append(str(prediction.error))
                    self.unusable += 1
                    continue
                people = self._checked(source, prediction)
                self.pictures += 1
                self.results += [coco_result(p, source.name, source.image_id) for p in people]
                if shown:
                    background.submit(self.drawings.pictures, source, prediction.image, people)

    def video(self, source: Source) -> None:
        """Predict on a video, or on a camera until it is interrupted (Ctrl-C)."""
        location = source.location
        try:
            camera = source.kind == "camera" and location.isdigit()
            reader = VideoReader(int(location) if camera else location)
        except UserError as error:
            self.problems.append(str(error))
            self.unusable += 1
            return
        with reader, self.drawings.film(source, reader.fps) as film:
            try:
                self._frames(source, reader, film)
            except KeyboardInterrupt:
                if source.kind != "camera":
                    raise

    def _frames(self, source: Source, reader: VideoReader, film: Film) -> None:
        tracker = Tracker(self.estimator.skeleton)
        smoother = PoseSmoother(reader.fps) if self.options.smooth else None
        items = ((frame, self._boxes(source, i)) for i, frame in enumerate(reader))
        stream = self.estimator.stream(items)
        for i, prediction in enumerate(_progress(stream, reader.frame_count, "frame")):
            people = tracker.update(self._checked(source, prediction, i))
            if smoother is not None:
                people = smoother.update(people)
            self.pictures += 1
            self.results += [coco_result(p, source.name, None, i) for p in people]
            film.add(prediction.image, people)

    def _boxes(self, source: Source, frame: int | None = None) -> Any:
        return self.finder.of(source, frame) if isinstance(self.finder, BoxFile) else self.finder

    def _checked(
        self, source: Source, prediction: Prediction, frame: int | None = None
    ) -> list[Person]:
        """The people of a picture: given boxes that show nothing reported, NMS if asked for.

        Who comes from a file of boxes gets the category of the box.
        """
        people = prediction.people
        if isinstance(self.finder, BoxFile) and people:
            key = self.finder.name_of(source), frame
            categories = self.finder.categories[key]
            people = [replace(p, category=c) for p, c in zip(people, categories, strict=True)]
            for entry, person in zip(self.finder.entries[key], people, strict=True):
                problem = box_problem(person.box, prediction.image_wh)
                if problem is not None:
                    self.problems.append(
                        f"{self.finder.path}: entry {entry} ({source.name}): the box {problem}; "
                        "its keypoints are all zero"
                    )
        problem = "the network gives scores that are no numbers (null): are the weights damaged?"
        sound = all(np.isfinite(person.keypoint_scores).all() for person in people)
        if not sound and problem not in self.problems:
            self.problems.append(problem)
        return self._suppressed(people) if self.options.nms and people else people

    def _suppressed(self, people: list[Person]) -> list[Person]:
        keypoints = np.stack([person.keypoints for person in people])
        scores = np.array([person.score for person in people])
        boxes = np.nan_to_num(np.stack([person.box for person in people]))
        _, scales = box_to_center_scale(boxes, self.estimator.input_size)
        areas = np.prod(scales * PIXEL_STD, axis=1)
        kept = oks_nms(keypoints, scores, areas, np.array(self.estimator.skeleton.sigmas))
        return [people[i] for i in sorted(kept)]

    def report_problems(self, sources: int) -> None:
        """Say what went wrong, unless the only input's problem is all there is to say."""
        if self.problems and not sources == self.unusable == 1:
            print(f"{len(self.problems)} problem(s) in {sources} input(s):", file=sys.stderr)
            for problem in self.problems:
                print(f"  {problem}", file=sys.stderr)

    def save(self) -> None:
        """Write what was found so far; nothing where no input could be used."""
        if self.pictures:
            write_results(self.out / RESULTS_FILE, self.results)

    def report(self, sources: int) -> int:
        """Say what was done; the exit status."""
        seconds = time.perf_counter() - self.started
        if sources == self.unusable == 1:
            raise UserError(self.problems[0])
        if not self.pictures:
            raise UserError("none of the inputs could be used")
        rates = (
            f"{len(self.results) / seconds:.1f} people/s, {self.pictures / seconds:.1f} images/s"
        )
        where = "; ".join([str(self.out / RESULTS_FILE), *self.notes])
        print(
            f"{len(self.results)} people in {self.pictures} images ({rates} on "
            f"{jax.default_backend()}, {self.estimator.model.dtype}): {where}"
        )
        return 1 if self.problems else 0


def _is_one_picture(sources: list[Source]) -> bool:
    """Then it most likely shows fewer people than a CPU's full batch."""
    one = len(sources) == 1 and sources[0].kind == "image"
    return one and jax.default_backend() == "cpu"


def _progress(
    predictions: Iterator[Prediction], total: int | None, unit: str
) -> Iterator[Prediction]:
    bar = tqdm(total=total, unit=unit, disable=None, leave=False)  # None: only on a terminal
    people = 0
    with bar:
        for prediction in predictions:
            people += len(prediction.people)
            bar.set_postfix_str(f"{people} people", refresh=False)
            bar.update()
            yield prediction
