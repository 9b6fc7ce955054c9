"""Ultralytics' YOLO-pose data sets: a data.yaml, images, and a text file of labels for each.

A label is a line `class cx cy width height x1 y1 [v1] x2 y2 [v2] ...`, whose coordinates are
divided by the image's width and height. It is turned into a COCO annotation and checked like one.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from etils import epath

from vitpose_jax.data.coco.annotations import check_annotations
from vitpose_jax.data.coco.folder import as_dataset
from vitpose_jax.data.dataset import PoseDataset
from vitpose_jax.data.findings import (
    ASSUMED_COCO,
    LABELS_WITHOUT_IMAGE,
    NO_LABEL_FILE,
    NUMBERED_KEYPOINTS,
    Finding,
)
from vitpose_jax.data.layouts import NoSplit, Options, read_yaml
from vitpose_jax.errors import UserError
from vitpose_jax.files.formats import IMAGE_SUFFIXES
from vitpose_jax.files.pictures import picture_size
from vitpose_jax.keypoints.skeletons import SKELETONS, flip_pairs_by_name, mirrored_order

_SLACK = 0.01
"""How far box values may leave 0..1 and still count as divided by the image's size."""

Json = dict[str, Any]


def is_yolo(content: Mapping[str, Any]) -> bool:
    """Whether a YAML file's content describes a YOLO data set."""
    return any(isinstance(content.get(key), str | list) for key in ("train", "val", "names"))


def find_yolo(folder: epath.Path) -> epath.Path | None:
    """The data.yaml of a folder; None if there is none."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))
    files = [path for path in files if b"kpt_shape" in path.read_bytes()]
    if len(files) > 1:
        raise UserError(f"{folder} holds {', '.join(f.name for f in files)}; give one of them")
    return files[0] if files else None


def open_yolo(path: epath.Path, options: Options) -> PoseDataset:
    """Open a split by its data.yaml; see `open_pose_dataset`.

    The fields read are `train` and `val`, `kpt_shape`, `names` and, if present, `path`, `flip_idx`
    and `kpt_names`.

    Raises:
        UserError: a field of data.yaml is missing or wrong, or there are no images or labels.
    """
    split = options.split
    content = read_yaml(path)
    categories, num_keypoints, dims, found = _categories(content, path)
    images = _images(content, path, split)
    labels = [_label_file(image) for image in images]
    folder = os.path.commonpath([image.rpartition("/")[0] for image in images])
    with ThreadPoolExecutor(32) as pool:
        texts = list(pool.map(_read_text, labels))
        sizes = list(pool.map(_size_or_problem, images))
    absent = [label for label, text in zip(labels, texts, strict=True) if text is None]
    if len(absent) == len(labels):
        raise UserError(
            f"{path}: none of the {len(labels)} images of {split!r} has a label file; the first "
            f"one is expected at {labels[0]}"
        )
    start = f"{_plain(path.parent)}/"
    found += [Finding(NO_LABEL_FILE, label.removeprefix(start)) for label in absent]
    orphans = _orphans(labels)
    found += [Finding(LABELS_WITHOUT_IMAGE, label.removeprefix(start)) for label in orphans]

    entries: list[Json] = []
    annotations: list[Json] = []
    malformed: list[str] = []
    for image, label, text, size in zip(images, labels, texts, sizes, strict=True):
        lines = [line.split() for line in (text or "").splitlines() if line.strip()]
        if isinstance(size, str):
            malformed += [size] * len(lines)
            continue
        name = image[len(folder) + 1 :]
        entries.append({"id": len(entries) + 1, "file_name": name})
        entries[-1] |= {"width": size[0], "height": size[1]}
        for number, line in enumerate(lines, 1):
            where = f"{label.removeprefix(start)} line {number}"
            try:
                fields = _annotation(line, size, num_keypoints, dims, len(categories))
            except ValueError as problem:
                malformed.append(f"{where}: {problem}")
                continue
            annotations.append({"id": where, "image_id": len(entries), **fields})
    checked = check_annotations(
        {"images": entries, "annotations": annotations, "categories": categories},
        path,
        max_bad_share=options.max_bad_share,
        category=options.category,
        malformed=malformed,
    )
    checked.report.findings += found
    folders = sorted({label.rpartition("/")[0] for label in labels})
    return as_dataset(checked, folder, options, sources=(str(path), *folders))


def _categories(content: Json, path: epath.Path) -> tuple[list[Json], int, int, list[Finding]]:
    """COCO's `categories`, K, the number of values per keypoint, and findings."""
    shape, names = content.get("kpt_shape"), content.get("names")
    if (
        not isinstance(shape, list)
        or len(shape) != 2
        or not all(type(v) is int for v in shape)
        or shape[0] < 1
        or shape[1] not in (2, 3)
    ):
        raise UserError(
            f"{path}: kpt_shape must be [number of keypoints, 2 or 3], not {shape!r}; a data set "
            "without it has no keypoints"
        )
    count, dims = shape
    names = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(names, dict) or {*names} != {*range(len(names))}:
        raise UserError(f"{path}: names must list the classes from 0, not {names!r}")
    flip = _flip_index(content.get("flip_idx"), count, path)
    found: list[Finding] = []
    categories = []
    for number, name in names.items():
        keypoints = _keypoint_names(content.get("kpt_names"), number, count, path)
        if keypoints is None:
            keypoints = [f"keypoint_{k}" for k in range(count)]
            kind = NUMBERED_KEYPOINTS
            coco = SKELETONS["coco"]
            if flip == coco.flip_index.tolist():
                keypoints, kind = list(coco.keypoint_names), ASSUMED_COCO
            found = [Finding(kind, str(path))]
        category: Json = {"id": number, "name": str(name), "keypoints": keypoints}
        if (
            flip is not None
            and mirrored_order(count, flip_pairs_by_name(keypoints)).tolist() != flip
        ):
            category["flip_pairs"] = [[a, b] for a, b in enumerate(flip) if a < b]
        categories.append(category)
    return categories, count, dims, found


def _flip_index(value: Any, count: int, path: epath.Path) -> list[int] | None:
    if value is None:
        return None
    good = isinstance(value, list) and all(type(k) is int and 0 <= k < count for k in value)
    if not good or len(value) != count or any(value[value[k]] != k for k in range(count)):
        raise UserError(
            f"{path}: flip_idx must give, for each of the {count} keypoints, the index of the one "
            f"it swaps places with in a mirrored image; it is {value!r}"
        )
    return value


def _keypoint_names(value: Any, number: int, count: int, path: epath.Path) -> list[str] | None:
    """The names of a class's keypoints; None if they are not given."""
    if value is None:
        return None
    names = value if isinstance(value, list) and value and isinstance(value[0], str) else None
    if names is None:
        try:
            names = value[number]
        except (KeyError, IndexError, TypeError):
            raise UserError(f"{path}: kpt_names has no names for class {number}") from None
    if not isinstance(names, list) or len(names) != count:
        raise UserError(f"{path}: kpt_names of class {number} must be {count} names, not {names!r}")
    return [str(name) for name in names]


def _images(content: Json, path: epath.Path, split: str) -> list[str]:
    """The paths of a split's images, sorted."""
    given = content.get(split)
    if given is None:
        raise NoSplit(f"{path} has no {split!r}; give a folder of images, such as images/val")
    entries: list[Any] = given if isinstance(given, list) else [given]
    if not given or not all(isinstance(entry, str) for entry in entries):
        raise UserError(f"{path}: {split} must name a folder of images, not {given!r}")
    bases = [path.parent / content["path"]] if isinstance(content.get("path"), str) else []
    bases.append(path.parent)
    images: list[str] = []
    for entry in entries:
        place = _resolve(entry, bases)
        if place is None:
            tried = ", ".join(_plain(base / entry) for base in bases)
            raise UserError(f"{path}: {split} is {entry!r}, but there is no {tried}")
        if place.is_dir():
            try:
                images += _below(place, set())
            except OSError as error:
                raise UserError(f"{place}: cannot be read ({error})") from None
        elif place.suffix == ".txt":
            text = (_read_text(str(place)) or "").replace("\\", "/")
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            images += _listed(lines, [place.parent, *bases], place)
        else:
            raise UserError(f"{path}: {split} is {entry!r}, neither a folder nor a .txt file")
    if not images:
        raise UserError(f"{path}: there are no images in {given!r} ({split})")
    return sorted(dict.fromkeys(images))


def _resolve(entry: str, bases: Sequence[epath.Path]) -> epath.Path | None:
    """The first place where an entry exists; Roboflow writes paths as seen from a subfolder."""
    entry = entry.replace("\\", "/")
    forms = dict.fromkeys((entry, entry.removeprefix("../"), entry.removeprefix("data/")))
    places = (base / form for form in forms for base in bases)
    return next((place for place in places if place.exists()), None)


def _listed(lines: Sequence[str], bases: Sequence[epath.Path], file: epath.Path) -> list[str]:
    """The images that a .txt file lists; all are taken to be written like the first."""
    for base in bases:
        for start in ("", "../", "data/"):
            paths = [_plain(base / line.removeprefix(start)) for line in lines]
            if lines and epath.Path(paths[0]).exists():
                return paths
    raise UserError(f"{file}: there is no {lines[0] if lines else 'image'} beside it")


def _plain(path: epath.Path) -> str:
    text = str(path)
    return text if "://" in text else os.path.abspath(text)


def _below(folder: epath.Path, seen: set[str]) -> Iterator[str]:
    """Images in a folder and its subfolders, each folder visited once."""
    if (real := os.path.realpath(_plain(folder))) in seen:
        return
    seen.add(real)
    for path in folder.iterdir():
        if path.suffix.lower() in IMAGE_SUFFIXES:
            yield _plain(path)
        elif path.is_dir():
            yield from _below(path, seen)


def _label_file(image: str) -> str:
    """The file of an image's labels: the last folder called `images` becomes `labels`."""
    before, separator, after = image.rpartition("/images/")
    path = f"{before}/labels/{after}" if separator else image
    return path[: path.rindex(".")] + ".txt"


def _read_text(path: str) -> str | None:
    try:
        return epath.Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None


def _size_or_problem(path: str) -> tuple[int, int] | str:
    try:
        return picture_size(path)
    except UserError as error:
        return str(error)


def _orphans(labels: Sequence[str]) -> list[str]:
    """Label files in the same folders that belong to no image."""
    folders = {label.rpartition("/")[0] for label in labels}
    there = {
        f"{folder}/{path.name}"
        for folder in folders
        if epath.Path(folder).exists()
        for path in epath.Path(folder).iterdir()
        if path.suffix == ".txt" and path.name not in ("classes.txt", "train.txt", "val.txt")
    }
    return sorted(there - set(labels))


def _annotation(
    line: Sequence[str], size: tuple[int, int], num_keypoints: int, dims: int, num_classes: int
) -> Json:
    """A line as the fields of a COCO annotation. A ValueError says what is wrong with it."""
    if len(line) not in (5, 5 + num_keypoints * dims):
        raise ValueError(
            f"has {len(line)} columns, not {5 + num_keypoints * dims} (class, box and kpt_shape's "
            f"{num_keypoints} x {dims})"
        )
    try:
        values = [float(text) for text in line]
    except ValueError:
        raise ValueError(f"holds {next(filter(_no_number, line))!r}, not a number") from None
    number, box, points = values[0], values[1:5], values[5:]
    if number not in range(num_classes):
        raise ValueError(f"is of class {line[0]}; names lists 0 to {num_classes - 1}")
    if not all(-_SLACK <= value <= 1 + _SLACK for value in box):
        raise ValueError(f"its box {box} is not between 0 and 1 (divided by the image's size)")
    width, height = size
    x, y, w, h = (v * side for v, side in zip(box, (width, height) * 2, strict=True))
    keypoints: list[float] = []
    for at in range(0, len(points), dims):
        px, py = points[at : at + 2]
        flag = points[at + 2] if dims == 3 else 2.0 * (px >= 0 and py >= 0)
        keypoints += (px * width, py * height, flag)
    fields = {"category_id": int(number), "bbox": [x - w / 2, y - h / 2, w, h]}
    return fields | ({"keypoints": keypoints} if keypoints else {})


def _no_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return True
    return False
