"""Finding a split's annotations and images in a folder, as annotation tools lay them out."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from etils import epath

from vitpose_jax.errors import UserError

SPLITS = ("train", "val")

DataSource = str | Mapping[str, Any]
"""A name or path; or paths by split: {"train": {"annotations": FILE, "images": FOLDER}, ...}."""

COCO_HELP = (
    "To get COCO 2017: wget http://images.cocodataset.org/zips/{train2017,val2017}.zip "
    "http://images.cocodataset.org/annotations/annotations_trainval2017.zip, unpack them into one "
    "folder, and give that folder or set COCO_DIR to it; or use the data set 'synthetic', which "
    "needs no files"
)
PATHS_HELP = (
    "name the files instead: config.data = {'train': {'annotations': FILE, 'images': FOLDER}, "
    "'val': ...}, or a .yaml file with the same content"
)

_WORDS = {"train": ("train", "training"), "val": ("val", "valid", "validation")}
_SPLIT_WORD = re.compile(r"(train|training|val|valid|validation|test|testing)\d*")
_OTHER_FILES = re.compile(r"(instances|captions|stuff|panoptic|image_info|.*detection|.*results?_)")
_SAMPLE = 50
"""Roughly how many file names are looked up to find the images' folder."""


class NoSplit(UserError):
    """The data set lacks the split that was asked for; it may have others."""


@dataclass(frozen=True)
class Options:
    """How to open a split; see `open_pose_dataset`."""

    split: str
    input_size: tuple[int, int]
    max_bad_share: float
    category: str = ""


@dataclass(frozen=True)
class CocoFiles:
    """The files of one split in COCO's layout.

    Attributes:
        annotations: the JSON file.
        image_folders: where the images may be, most likely first.
        has_split: false for a data set that is not divided into train and val.
    """

    annotations: epath.Path
    image_folders: tuple[epath.Path, ...]
    has_split: bool = True

    def image_folder(self, file_names: Sequence[str]) -> epath.Path:
        """The folder that has most of a sample of the images; on a tie, the most likely one."""
        if len(self.image_folders) == 1 or not file_names:
            return self.image_folders[0]
        sample = file_names[:: max(1, len(file_names) // _SAMPLE)]
        counts = [
            sum((folder / name.replace("\\", "/")).exists() for name in sample)
            for folder in self.image_folders
        ]
        return self.image_folders[counts.index(max(counts))]


def find_coco(folder: epath.Path, split: str) -> CocoFiles | None:
    """Find a split's files in a folder: as COCO is downloaded, else as annotation tools export it.

    Returns:
        The files; None if there is no annotation file at all.

    Raises:
        UserError: several annotation files fit the split, or none does.
    """
    exact = folder / "annotations" / f"person_keypoints_{split}2017.json"
    images = folder / f"{split}2017"
    if exact.exists() and images.exists():
        return CocoFiles(exact, (images,))
    found = {path: _words(path, folder) for path in _annotation_files(folder)}
    fitting = [path for path, words in found.items() if words & {*_WORDS[split]}]
    has_split = any(_SPLIT_WORD.fullmatch(word) for words in found.values() for word in words)
    if not found:
        return None
    if has_split and not fitting:
        raise NoSplit(
            f"{folder} has no annotations for {split!r} ({_relative(exact, folder)} is missing, "
            f"and none of {_listed(found, folder)} is named after the split); {PATHS_HELP}"
        )
    fitting = fitting if has_split else list(found)
    fitting = [path for path in fitting if "keypoint" in path.name] or fitting
    if len(fitting) > 1:
        there = _listed(fitting, folder)
        raise UserError(f"{folder}: which annotations are {split!r}, {there}? {PATHS_HELP}")
    (annotations,) = fitting
    return CocoFiles(annotations, _image_folders(annotations, folder, split), has_split)


def _annotation_files(folder: epath.Path) -> list[epath.Path]:
    """JSON files that may be annotations, in the folder, `annotations` and the splits' folders."""
    words = {word for words in _WORDS.values() for word in words} | {"annotations", "json", "test"}
    inner = sorted(p for p in folder.iterdir() if p.name.lower() in words and p.is_dir())
    files = [path for place in (folder, *inner) for path in sorted(place.glob("*.json"))]
    return [path for path in files if not _OTHER_FILES.match(path.name)] or files


def _words(path: epath.Path, folder: epath.Path) -> set[str]:
    """The words in the names of a file and its folder, without numbers."""
    return set(re.findall("[a-z]+", _relative(path, folder).lower()))


def _image_folders(
    annotations: epath.Path, folder: epath.Path, split: str
) -> tuple[epath.Path, ...]:
    """The folders that may hold the images of an annotation file."""
    beside = annotations.parent
    tags = re.findall(r"[A-Za-z]+[0-9]*", annotations.stem)
    tags = [tag for tag in tags if _SPLIT_WORD.fullmatch(tag.lower())]
    inner = [place for place in (folder, folder / "images") if place.is_dir()]
    there = [path.name for place in inner for path in sorted(place.glob("[a-zA-Z]*[0-9]"))]
    years = [name for name in there if name.lower().rstrip("0123456789") in _WORDS[split]]
    names = dict.fromkeys((*tags, *_WORDS[split], *years))
    places: Iterator[epath.Path] = (
        place
        for base in ([beside] if beside.name != "annotations" else []) + [folder]
        for place in (
            *(base / "images" / name for name in (*names, "default")),
            *(base / name / "images" for name in names),
            *(base / name for name in (*names, "images", "data")),
            base,
        )
    )
    return tuple(place for place in dict.fromkeys(places) if place.is_dir())


def _relative(path: epath.Path, folder: epath.Path) -> str:
    return str(path)[len(str(folder)) :].lstrip("/")


def _listed(paths: Sequence[epath.Path] | Mapping[epath.Path, Any], folder: epath.Path) -> str:
    return ", ".join(_relative(path, folder) for path in paths)


def files_around(annotations: epath.Path) -> CocoFiles:
    """An annotation file with the folders near it that may hold its images."""
    folder = annotations.parent
    if folder.name == "annotations":
        folder = folder.parent
    places = [_image_folders(annotations, folder, split) for split in SPLITS]
    return CocoFiles(annotations, tuple(dict.fromkeys(place for both in places for place in both)))


def given_files(source: Mapping[str, Any], split: str, where: str) -> CocoFiles:
    """A split's files, given by their paths.

    Args:
        source: {"train": {"annotations": FILE, "images": FOLDER}, "val": ...}.
        split: one of its keys.
        where: the file or field that gives them, for messages.

    Raises:
        UserError: the split or a path is not given, or a path does not exist.
    """
    paths = source.get(split)
    if unknown := [key for key in source if key not in SPLITS]:
        raise UserError(f"{where} has the unknown key {unknown[0]!r}; use train and val")
    if paths is None:
        raise NoSplit(f"{where} has no {split!r}: give its 'annotations' and 'images'")
    if not isinstance(paths, Mapping) or {*paths} != {"annotations", "images"}:
        raise UserError(f"{where}.{split} must give 'annotations' and 'images', not {paths!r}")
    annotations, images = (
        epath.Path(str(paths[key])).expanduser() for key in ("annotations", "images")
    )
    for path in (annotations, images):
        if not path.exists():
            raise UserError(f"{where}.{split}: there is no {path}")
    return CocoFiles(annotations, (images,))


def read_yaml(path: epath.Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: is not readable YAML ({reason})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: must hold a mapping, such as 'train: images/train'")
    return content
