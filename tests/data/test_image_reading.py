import logging
import pickle

import pytest

from vitpose_jax.data.coco.folder import FolderImages
from vitpose_jax.data.people import BadImage
from vitpose_jax.data.tolerance import BadImageCount, too_many
from vitpose_jax.errors import UserError


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
