"""How far an exported model's results are from the library's: measured by running both.

A certificate has two parts. The deviations are measured at export, on pictures that the user may
choose. The probe is the library's results for a few inputs that a formula gives; with it, anybody
can check the file on another machine, without the weights it was made from.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from vitpose_jax.data.synthetic.scene import render_scene
from vitpose_jax.errors import UserError
from vitpose_jax.files.pictures import ImageLike
from vitpose_jax.inference.artefact import Artefact
from vitpose_jax.inference.exported import Runtime
from vitpose_jax.inference.preparation import BoxSource, crop_parts, prepare_ahead
from vitpose_jax.keypoints.crops import PIXEL_STD
from vitpose_jax.keypoints.decoding import DecodeMethod, decode_heatmaps
from vitpose_jax.keypoints.normalization import normalize_crops

_decode = jax.jit(decode_heatmaps, static_argnums=1)

Arrays = Mapping[str, np.ndarray]
Run = Callable[[Arrays], Arrays]
"""From named inputs to named results."""

STEADY_NOISE, STEADY_PIXELS = 1e-5, 0.02
"""A keypoint is steady if noise of this share of the heatmaps' largest value moves it by less than
so many pixels of the crop. Others, at near-equal peaks or on flat maps, are decided by rounding."""
DRAWN_PEOPLE, DRAWN_SEED = 8, 0
PROBES = 2
AT_ONCE = 4
SLACK = 4.0
"""Other processors round differently: how many times a deviation may grow before it is a fault."""
SMALLEST = {"keypoints": 0.05, "scores": 1e-4, "maxima": 1e-4, "means": 1e-4, "future": 1e-4}
"""What may always differ: pixels for keypoints, else a share of the largest value."""


def drawn_people() -> list[tuple[ImageLike, BoxSource]]:
    """Pictures to measure on where none are given: people drawn by a formula, with their boxes."""
    scenes = [render_scene(np.random.default_rng([DRAWN_SEED, i])) for i in range(DRAWN_PEOPLE)]
    return [(scene.pixels, scene.boxes[scene.annotated][:1]) for scene in scenes]


def people_of(
    pictures: Sequence[tuple[ImageLike, BoxSource]], input_size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """The crops of people in pictures, and their regions.

    Raises:
        UserError: a picture cannot be read, or none shows anybody.
    """
    crops: list[np.ndarray] = []
    centers: list[np.ndarray] = []
    scales: list[np.ndarray] = []
    for item in prepare_ahead(pictures, input_size, keep_images=False):
        crops += crop_parts(item) if item.error is None else []
        if item.error is not None:
            raise item.error
        centers.append(item.center)
        scales.append(item.scale)
    if not sum(map(len, crops)):
        raise UserError("the pictures show nobody to compare results on: give others (--pictures)")
    parts = {"crops": crops, "center": centers, "scale": scales}
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def probe_people(input_size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Crops of overlapping discs in integer arithmetic, so that they are the same everywhere."""
    height, width = input_size
    y, x = np.mgrid[:height, :width].astype(np.int64)
    crops = np.empty((PROBES, height, width, 3), np.uint8)
    for probe in range(PROBES):
        for channel in range(3):
            value = 31 * probe + 67 * channel + x // 3
            for disc in range(5):
                place = 7919 * (probe + 1) * (disc + 2) * (channel + 3)
                apart = (x - place % width) ** 2 + (y - place // 5 % height) ** 2
                value = value + 90000 // (apart + 400 * (disc + 1))
            crops[probe, :, :, channel] = value % 256
    region = np.tile(np.array([width, height], np.float32), (PROBES, 1))  # as large as the crop
    return {"crops": crops, "center": region / 2, "scale": region / np.float32(PIXEL_STD)}


def probe_motions(frames: int, joints: int, dims: int, count: int) -> dict[str, np.ndarray]:
    """Curved motions of a formula, some joints unseen."""
    motion, frame, joint, dim = np.ogrid[:count, :frames, :joints, :dims]
    observed = 300 + 40 * np.sin(0.3 * frame + motion + 2.0 * dim) + 11 * joint * (dim + 1) % 170
    visible = (motion + 3 * frame + 7 * joint)[..., 0] % 11 != 0
    return {
        "observed": observed.astype(np.float32),
        "visible": np.broadcast_to(visible, (count, frames, joints)).copy(),
    }


def images_of(people: Arrays) -> dict[str, np.ndarray]:
    """The same crops as the network alone takes them."""
    return {"images": np.asarray(normalize_crops(people["crops"]))}


def in_parts(run: Run, inputs: Arrays) -> dict[str, np.ndarray]:
    """Results for many rows, a few at a time; the last are repeated to fill up."""
    count, parts = len(next(iter(inputs.values()))), []
    for first in range(0, count, AT_ONCE):
        rows = np.minimum(np.arange(first, first + AT_ONCE), count - 1)
        parts.append(run({name: array[rows] for name, array in inputs.items()}))
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}


def steady_keypoints(heatmaps: np.ndarray, method: DecodeMethod) -> np.ndarray:
    """Which keypoints do not hang on rounding, bool (B, K)."""
    rng, spans = np.random.default_rng(0), np.array([4.0, 4.0])  # crop pixels per heatmap pixel
    exact = np.asarray(_decode(heatmaps, method)[0])
    steady = np.ones(exact.shape[:2], bool)
    for _ in range(3):
        noise = rng.uniform(-1, 1, heatmaps.shape) * STEADY_NOISE * np.abs(heatmaps).max()
        moved = np.asarray(_decode((heatmaps + noise).astype(np.float32), method)[0])
        steady &= np.linalg.norm((moved - exact) * spans, axis=-1) < STEADY_PIXELS
    return steady


def compare(found: Arrays, expected: Arrays, method: DecodeMethod | None) -> dict[str, Any]:
    """The largest deviations: pixels for keypoints, shares of the largest value for the rest."""
    largest = {
        f"largest_{name}_deviation": float(
            np.abs(found[name] - value).max() / (np.abs(value).max() or 1)
        )
        for name, value in expected.items()
        if name != "keypoints"
    }
    if method is None:
        return largest
    steady = steady_keypoints(expected["heatmaps"], method)
    distance = np.linalg.norm(found["keypoints"] - expected["keypoints"], axis=-1)
    largest["keypoints"], largest["steady_keypoints"] = int(steady.size), int(steady.sum())
    largest["largest_pixels"] = float(distance[steady].max(initial=0.0))
    largest["largest_pixels_unsteady"] = float(distance[~steady].max(initial=0.0))
    return largest


def summary(results: Arrays, method: DecodeMethod | None) -> dict[str, Any]:
    """Results as a certificate keeps them: heatmaps only by their maxima and means."""
    kept: dict[str, np.ndarray] = {n: a for n, a in results.items() if n != "heatmaps"}
    if "keypoints" not in results and "heatmaps" in results:
        heatmaps = results["heatmaps"]
        kept = {"maxima": heatmaps.max((1, 2)), "means": heatmaps.mean((1, 2))}
    lists: dict[str, Any] = {name: array.astype(float).tolist() for name, array in kept.items()}
    if method is not None:
        lists["steady"] = steady_keypoints(results["heatmaps"], method).tolist()
    return lists


def inputs_of_probe(artefact: Artefact) -> dict[str, np.ndarray]:
    """The formula's inputs for an exported model."""
    values = artefact.values
    if artefact.kind == "forecaster":
        return probe_motions(values["observed"], values["joints"], values["dims"], PROBES)
    people = probe_people((values["input_size"][0], values["input_size"][1]))
    return people if artefact.kind == "pose" else images_of(people)


OUTPUTS = {
    "pose": ("keypoints", "scores", "heatmaps"),
    "network": ("heatmaps",),
    "forecaster": ("future",),
}


def runner(artefact: Artefact, runtime: Runtime) -> Run:
    """An exported model as a function of named inputs."""
    names = OUTPUTS[artefact.kind]

    def run(inputs: Arrays) -> Arrays:
        return dict(zip(names, map(np.asarray, runtime(inputs, names)), strict=True))

    return run


def check_probe(artefact: Artefact, runtime: Runtime) -> dict[str, float]:
    """Run an exported model on the probe; return the largest deviation of each result.

    Raises:
        UserError: they are not those of its certificate.
    """
    found = summary(in_parts(runner(artefact, runtime), inputs_of_probe(artefact)), None)
    certificate = artefact.values["certificate"]
    try:
        expected = {name: np.array(value) for name, value in certificate["probe"].items()}
        steady = expected.pop("steady", np.zeros(()))
        deviations = {}
        for name, value in expected.items():
            apart = np.abs(np.array(found[name]) - value)
            if name == "keypoints":
                deviations[name] = float(np.where(steady[..., None], apart, 0).max())
                known = certificate["largest_pixels"]
            else:
                deviations[name] = float(apart.max() / (np.abs(value).max() or 1))
                known = certificate.get(f"largest_{name}_deviation") or certificate.get(
                    "largest_heatmaps_deviation", 0.0
                )
            if not deviations[name] <= max(SLACK * known, SMALLEST[name]):
                unit = "pixels" if name == "keypoints" else "of the largest value"
                raise UserError(
                    f"{artefact.path}: its {name} on the probe are {deviations[name]:.2g} {unit} "
                    "from those of its certificate: it was changed, or this runtime computes it "
                    "wrongly; export again"
                )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{artefact.path}.json: the certificate's probe is missing or damaged; export again"
        ) from None
    return deviations
