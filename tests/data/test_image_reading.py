import logging
import pickle

import cv2
import numpy as np
import pytest

from vitpose_jax.data.coco.folder import FolderImages
from vitpose_jax.data.images import decode_image, reduction
from vitpose_jax.data.images import reduced_affine as to_reduced
from vitpose_jax.data.people import BadImage
from vitpose_jax.data.samples import _after
from vitpose_jax.data.tolerance import BadImageCount, too_many
from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.warping import warp_crop


def _jpeg(height: int = 240, width: int = 320) -> tuple[np.ndarray, bytes]:
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), (width, height))
    return image, cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def test_decoding():
    image, data = _jpeg()
    assert np.abs(decode_image(data, (320, 240)).astype(int) - image).mean() < 1
    assert decode_image(data, None, 4).shape == (60, 80, 3)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda d: d[: len(d) // 2], "cut short"),
        (lambda d: b"", "cannot be decoded"),
        (lambda d: b"not an image at all", "cannot be decoded"),
        (lambda d: d[:300] + bytes(len(d) - 302) + d[-2:], "cannot be decoded|cut short|it is"),
    ],
)
def test_damaged_files_are_told(spoil, words):
    with pytest.raises(BadImage, match=words):
        decode_image(spoil(_jpeg()[1]), (321, 240))


@pytest.mark.parametrize("thumbnail", [False, True])
def test_an_end_is_looked_for_behind_the_picture_alone(thumbnail):
    """Motion photos have a film behind it; a thumbnail's end is not the picture's."""
    _, data = _jpeg()
    if thumbnail:
        block = b"Exif\0\0" + _jpeg(8, 8)[1]
        size = (len(block) + 2).to_bytes(2, "big")
        data = data[:2] + b"\xff\xe1" + size + block + b"\xff" + data[2:]  # and a filling byte
    whole = decode_image(data, (320, 240))
    np.testing.assert_array_equal(decode_image(data + bytes(9000), (320, 240)), whole)
    with pytest.raises(BadImage, match="cut short"):
        decode_image(data[: data.find(b"\xff\xda", len(data) - 40000) + 2000], (320, 240))


def test_another_size_than_annotated_is_told():
    with pytest.raises(BadImage, match="it is 320x240, the annotations say 300x240"):
        decode_image(_jpeg()[1], (300, 240))


def test_orientation_tag_is_followed_only_where_the_annotations_agree():
    image, data = _jpeg()
    # An Exif block with orientation 6 (turn clockwise), by the Exif 2.3 specification.
    tiff = b"II*\0\x08\0\0\0\x01\0" + b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0" + b"\0\0\0\0"
    block = b"Exif\0\0" + tiff
    tagged = data[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + data[2:]
    turned = decode_image(tagged, (240, 320))
    as_stored = decode_image(tagged, (320, 240))
    assert np.abs(as_stored.astype(int) - image).mean() < 1
    np.testing.assert_array_equal(turned, cv2.rotate(as_stored, cv2.ROTATE_90_CLOCKWISE))


def test_reduction_leaves_a_pixel_per_crop_pixel():
    assert [reduction(s) for s in (0.3, 1, 1.99, 2, 3.9, 4, 7, 8, 50)] == [
        *(1, 1, 1, 2, 2, 4, 4, 8, 8)
    ]


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_crops_of_reduced_images_lie_in_the_same_place(factor):
    """Against an area-averaged, not an aliased, version of the full image: within noise."""
    image, data = _jpeg(960, 1280)
    small = decode_image(data, (1280, 960), factor)
    matrix = np.array([[0.12, 0.02, -10.0], [-0.02, 0.12, 5.0]])
    exact, reduced, shifted = (np.empty((128, 96, 3), np.uint8) for _ in range(3))
    warp_crop(image, matrix, exact)
    warp_crop(small, _after(matrix, to_reduced(factor)), reduced)
    off = np.abs(exact.astype(int) - reduced)[4:-4, 4:-4]
    assert off.mean() < 1.2
    moved = _after(matrix, to_reduced(factor))
    moved[0, 2] += 0.5
    warp_crop(small, moved, shifted)
    assert np.abs(exact.astype(int) - shifted)[4:-4, 4:-4].mean() > 1.5 * off.mean()


def test_missing_files_are_found_without_opening_any(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("x.jpg", "a/y.jpg"):
        (tmp_path / name).write_bytes(b"")
    images = FolderImages(tmp_path, ["x.jpg", "a/y.jpg", "a/x.jpg", "b/x.jpg", "z.jpg"])
    assert images.missing().tolist() == [False, False, True, True, True]
    with pytest.raises(BadImage, match=r"z\.jpg: No such file"):
        images.read(4)


def test_bad_images_are_named_once_and_limited(caplog):
    count = pickle.loads(pickle.dumps(BadImageCount(20, 0.1)))
    with caplog.at_level(logging.WARNING):
        for name in ("a", "b", "a", "b"):
            count.add(name)
    assert len(count) == 2
    assert len(caplog.records) == 2
    with pytest.raises(UserError, match=r"3 of 20 images .*at most 10%.*; one of them: c"):
        count.add("c")


@pytest.mark.parametrize(
    ("bad", "total", "share", "refused"),
    [
        (2, 6, 0.05, False),
        (3, 6, 0.05, True),
        (3, 60, 0.05, False),
        (4, 60, 0.05, True),
        (1, 1, 0.05, True),
        (2, 2, 1.0, True),
        (1, 6, 0.0, True),
        (0, 0, 0.05, False),
    ],
)
def test_one_or_two_of_a_small_data_set_are_not_too_many(bad, total, share, refused):
    assert too_many(bad, total, share) == refused
