"""One decoder for training, evaluation and inference."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from vitpose_jax.data.coco.folder import FolderImages
from vitpose_jax.data.people import People
from vitpose_jax.data.samples import _after
from vitpose_jax.errors import UserError
from vitpose_jax.files.pictures import decode_image, load_image, reduced_affine, reduction
from vitpose_jax.keypoints.warping import warp_crop


def _smooth(height: int, width: int) -> np.ndarray:
    colours = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    return cv2.resize(colours, (width, height))


def _jpeg(height: int = 240, width: int = 320) -> tuple[np.ndarray, bytes]:
    image = _smooth(height, width)
    options = [cv2.IMWRITE_JPEG_QUALITY, 95]
    return image, cv2.imencode(".jpg", image[..., ::-1], options)[1].tobytes()


def test_decoding() -> None:
    image, data = _jpeg()
    assert np.abs(decode_image(data, (320, 240)).astype(int) - image).mean() < 1
    assert decode_image(data, None, 4).shape == (60, 80, 3)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda d: d[: len(d) // 2], "is damaged or truncated"),
        (lambda d: b"", "is empty"),
        (lambda d: b"not an image at all", "is not a picture"),
        (
            lambda d: d[:300] + bytes(len(d) - 302) + d[-2:],
            "is damaged or truncated|is not a picture|is 320x240",
        ),
    ],
)
def test_damaged_files_are_told(spoil: Callable[[bytes], bytes], words: str) -> None:
    with pytest.raises(UserError, match=words):
        decode_image(spoil(_jpeg()[1]), (321, 240))


@pytest.mark.parametrize("thumbnail", [False, True])
def test_an_end_is_looked_for_behind_the_picture_alone(thumbnail: bool) -> None:
    """Motion photos have a film behind it; a thumbnail's end is not the picture's."""
    _, data = _jpeg()
    if thumbnail:
        block = b"Exif\0\0" + _jpeg(8, 8)[1]
        size = (len(block) + 2).to_bytes(2, "big")
        data = data[:2] + b"\xff\xe1" + size + block + b"\xff" + data[2:]  # and a filling byte
    whole = decode_image(data, (320, 240))
    np.testing.assert_array_equal(decode_image(data + bytes(9000), (320, 240)), whole)
    with pytest.raises(UserError, match="is damaged or truncated"):
        decode_image(data[: data.find(b"\xff\xda", len(data) - 40000) + 2000], (320, 240))


def test_another_size_than_annotated_is_told() -> None:
    with pytest.raises(UserError, match="is 320x240, the annotations say 300x240"):
        decode_image(_jpeg()[1], (300, 240))


def test_orientation_tag_is_followed_only_where_the_annotations_agree() -> None:
    image, data = _jpeg()
    # An Exif block with orientation 6 (turn clockwise), by the Exif 2.3 specification.
    tiff = b"II*\0\x08\0\0\0\x01\0" + b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0" + b"\0\0\0\0"
    block = b"Exif\0\0" + tiff
    tagged = data[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + data[2:]
    turned = decode_image(tagged, (240, 320))
    as_stored = decode_image(tagged, (320, 240))
    assert np.abs(as_stored.astype(int) - image).mean() < 1
    np.testing.assert_array_equal(turned, cv2.rotate(as_stored, cv2.ROTATE_90_CLOCKWISE))


def test_reduction_leaves_a_pixel_per_crop_pixel() -> None:
    assert [reduction(s) for s in (0.3, 1, 1.99, 2, 3.9, 4, 7, 8, 50)] == [
        *(1, 1, 1, 2, 2, 4, 4, 8, 8)
    ]


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_crops_of_reduced_images_lie_in_the_same_place(factor: int) -> None:
    """Against an area-averaged, not an aliased, version of the full image: within noise."""
    image, data = _jpeg(960, 1280)
    small = decode_image(data, (1280, 960), factor)
    matrix = np.array([[0.12, 0.02, -10.0], [-0.02, 0.12, 5.0]])
    exact, reduced, shifted = (np.empty((128, 96, 3), np.uint8) for _ in range(3))
    warp_crop(image, matrix, exact)
    warp_crop(small, _after(matrix, reduced_affine(factor)), reduced)
    off = np.abs(exact.astype(int) - reduced)[4:-4, 4:-4]
    assert off.mean() < 1.2
    moved = _after(matrix, reduced_affine(factor))
    moved[0, 2] += 0.5
    warp_crop(small, moved, shifted)
    assert np.abs(exact.astype(int) - shifted)[4:-4, 4:-4].mean() > 1.5 * off.mean()


def _read_in_training(path: Path, shrink: float = 1.0) -> np.ndarray:
    """The pixels that crops are cut from, in training and evaluation."""
    people = People.empty(1, 17)
    people.image_wh[:] = load_image(path).shape[1::-1]
    return FolderImages(path.parent, [path.name]).load(people, 0, shrink).pixels


def _on_white(rgba: np.ndarray) -> np.ndarray:
    opacity = rgba[..., 3:] / 255
    return rgba[..., :3] * opacity + 255 * (1 - opacity)


def test_a_cut_out_lies_on_white_in_training_too(shared: Path) -> None:
    path = shared / "field-cases/transparent.png"
    if not path.exists():
        pytest.skip("no such reference file")
    rgba = np.asarray(Image.open(path))
    assert (rgba[..., 3] == 0).any()
    for pixels in (load_image(path), _read_in_training(path), _read_in_training(path, 8.0)):
        assert np.abs(pixels - _on_white(rgba)).max() <= 1


def _palette() -> Image.Image:
    picture = Image.fromarray(_smooth(48, 64)).quantize(32)
    picture.info["transparency"] = 5
    return picture


SMOOTH, TURNED = _smooth(48, 64), Image.Exif()
GREY = SMOOTH[..., :1]
TURNED[0x0112] = 6  # clockwise
JPEG = {"quality": 95, "subsampling": 0}


@pytest.mark.parametrize(
    ("name", "picture", "options", "expected"),
    [
        ("p.png", _palette(), {}, _on_white(np.asarray(_palette().convert("RGBA")))),
        ("16.png", Image.fromarray(GREY[..., 0].astype(np.uint16) * 257), {}, GREY),
        ("grey.jpg", Image.fromarray(GREY[..., 0]), JPEG, GREY),
        ("cmyk.jpg", Image.fromarray(SMOOTH).convert("CMYK"), JPEG, SMOOTH),
        ("exif.jpg", Image.fromarray(SMOOTH), {"exif": TURNED, **JPEG}, np.rot90(SMOOTH, -1)),
        (
            "exif.avif",
            Image.fromarray(SMOOTH),
            {"exif": TURNED, "quality": 95, "subsampling": "4:4:4"},
            np.rot90(SMOOTH, -1),
        ),
    ],
)
def test_training_and_inference_see_the_same(
    tmp_path: Path, name: str, picture: Image.Image, options: dict, expected: np.ndarray
) -> None:
    path = tmp_path / name
    picture.save(path, **options)
    pixels = load_image(path)
    assert pixels.shape == (*expected.shape[:2], 3)
    assert np.abs(pixels - expected.astype(float)).mean() < (4 if options else 1e-9)
    np.testing.assert_array_equal(_read_in_training(path), pixels)


def test_an_orientation_that_annotations_disregard(tmp_path: Path) -> None:
    """As for JPEG above, for a format that Pillow reads."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(_smooth(48, 64)).save(tmp_path / "a.png", exif=exif)
    data = (tmp_path / "a.png").read_bytes()
    np.testing.assert_array_equal(decode_image(data, (64, 48)), _smooth(48, 64))
    np.testing.assert_array_equal(decode_image(data, (48, 64)), np.rot90(_smooth(48, 64), -1))
    with pytest.raises(UserError, match="is 48x64, the annotations say 40x30"):
        decode_image(data, (40, 30))
