"""3DPW files: every real one is read, every bad one refused in words."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from vitpose_jax.data.motion import threedpw
from vitpose_jax.data.motion.array_pickle import load_pickle
from vitpose_jax.data.motion.threedpw_keypoints import keypoint_file
from vitpose_jax.errors import UserError


def content(frames: int = 20, actors: int = 1) -> dict:
    """A small, sound sequence in the files' layout."""
    rng = np.random.default_rng(0)
    poses = rng.uniform(100, 500, (actors, frames, 3, 18)).astype(np.float32)
    poses[:, :, 2] = 0.7
    return {
        "sequence": "walk",
        "poses2d": list(poses),
        "jointPositions": list(rng.normal(size=(actors, frames, 72)).astype(np.float32)),
        "campose_valid": [np.ones(frames, np.float32)] * actors,
        "cam_poses": np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1)),
        "cam_intrinsics": np.array([[1000, 0, 960], [0, 1000, 540], [0, 0, 1]], np.float32),
        "img_frame_ids": np.arange(frames),
        "genders": ["m"] * actors,
    }


def saved(path: Path, value: object, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


def test_reads_every_file(shared: Path) -> None:
    folder = shared / "data" / "cmu-3dpw"
    counts = {}
    for split in threedpw.SPLITS:
        sequences = threedpw.read_split(folder, split)
        frames = sum(len(s.frame_ids) for s in sequences)
        people = sum(len(s.frame_ids) * len(s.actors) for s in sequences)
        counts[split] = (len(sequences), frames, people)
    assert counts == {  # the counts of the data's own README
        "train": (47, 8203, 10439),
        "validation": (10, 2370, 2706),
        "test": (19, 2953, 3492),
    }


def test_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "3dpw/sequenceFiles/test").mkdir(parents=True)
    saved(tmp_path / "3dpw/sequenceFiles/test/walk.pkl", content())
    assert [s.name for s in threedpw.read_split("~/3dpw", "test")] == ["walk"]
    assert keypoint_file("~/3dpw", "test", "walk") == tmp_path / "3dpw/keypoints/test/walk.npz"


def test_same_as_plain_unpickling(shared: Path) -> None:
    for path in sorted((shared / "data" / "cmu-3dpw").glob("sequenceFiles/test/*.pkl"))[:4]:
        with path.open("rb") as file:
            expected = pickle.load(file, encoding="latin1")
        ours = load_pickle(path)
        assert ours.keys() == expected.keys()
        for key in ("cam_poses", "cam_intrinsics", "img_frame_ids"):
            np.testing.assert_array_equal(ours[key], expected[key])
            assert ours[key].dtype == expected[key].dtype
        for a, b in zip(ours["poses2d"], expected["poses2d"], strict=True):
            np.testing.assert_array_equal(a, b)


def test_projection_meets_the_detections(shared: Path) -> None:
    """Left and right, axes and the joint map are right: projected joints lie on detected ones."""
    sequence = threedpw.read_split(shared / "data" / "cmu-3dpw", "test")[0]
    detected = threedpw.detection_tracks(sequence)[0]
    projected = threedpw.projected_tracks(sequence)[0]
    wrists, knees = ([9, 10], [20, 21]), ([13, 14], [4, 5])
    for coco, smpl in (wrists, knees):
        seen = detected.visible[:, coco]
        distance = np.linalg.norm(
            detected.positions[:, coco] - projected.positions[:, smpl], axis=-1
        )
        assert np.median(distance[seen]) < 10


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_reads_every_protocol(tmp_path: Path, protocol: int) -> None:
    value = content() | {"fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3))}
    path = saved(tmp_path / "a.pkl", value, protocol)
    np.testing.assert_array_equal(load_pickle(path)["fortran"], value["fortran"])
    assert threedpw.read_sequence(path).actors[0].visible.all()


class Runs:
    """Unpickles by calling something."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Runs(os.system, "touch {marker}"), "system"),
        (Runs(eval, "open('{marker}', 'w')"), "eval"),
        (Runs(getattr, "x", "upper"), "getattr"),
        (Runs(np.load, "{marker}"), "load"),
        (Runs(Path, "{marker}"), "Path"),
        (np.array([Runs(os.system, "true")], object), "type 'O8'"),
        (np.array([1, "a"], object), "type 'O8'"),
        (os.system, "system"),
        (np.ndarray, "_Array"),
    ],
)
def test_refuses_by_name(tmp_path: Path, value: object, named: str) -> None:
    marker = tmp_path / "marker"
    if isinstance(value, Runs):
        function, arguments = value.call
        value.call = function, tuple(a.replace("{marker}", str(marker)) for a in arguments)
    path = saved(tmp_path / "bad.pkl", {"poses2d": value})
    with pytest.raises(UserError, match="refused") as caught:
        load_pickle(path)
    assert named in str(caught.value)
    assert "bad.pkl" in str(caught.value)
    assert not marker.exists()


def test_refuses_other_encodings_and_persistent_ids(tmp_path: Path) -> None:
    for data, named in (
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.", "rot13"),
        (b"\x80\x02X\x01\x00\x00\x00aQ.", "persistent"),
        (b"\x80\x02cnumpy\ndtype\nX\x01\x00\x00\x00O\x85R.", "'O'"),
    ):
        path = tmp_path / "bad.pkl"
        path.write_bytes(data)
        with pytest.raises(UserError, match="refused") as caught:
            load_pickle(path)
        assert named in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x80\x02}", b"\x80\x02" + b"(" * 100 + b"."])
def test_damaged_files(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "cut.pkl"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"cut\.pkl"):
        load_pickle(path)


def test_truncated_anywhere(tmp_path: Path) -> None:
    whole = pickle.dumps(content(), 2)
    for cut in range(1, len(whole) - 1, len(whole) // 40):
        path = tmp_path / "cut.pkl"
        path.write_bytes(whole[:cut])
        with pytest.raises(UserError, match=r"cut\.pkl"):
            threedpw.read_sequence(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"poses2d": None}, "'poses2d' is a NoneType"),
        ({"poses2d": [np.zeros((20, 3, 17), np.float32)]}, r"'poses2d\[0\]' is \(20, 3, 17\)"),
        (
            {"jointPositions": [np.zeros((19, 72), np.float32)]},
            r"'jointPositions\[0\]' is \(19, 72\), .*\(20, 72\)",
        ),
        ({"jointPositions": []}, "has 0 actors, 'poses2d' 1"),
        ({"cam_poses": np.zeros((5, 4, 4))}, "cam_poses"),
        ({"cam_intrinsics": "no"}, "'cam_intrinsics' is str"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, change: dict, said: str) -> None:
    path = saved(tmp_path / "odd.pkl", content() | change)
    with pytest.raises(UserError, match=said):
        threedpw.read_sequence(path)


def test_missing_key_is_named(tmp_path: Path) -> None:
    value = content()
    del value["cam_poses"]
    with pytest.raises(UserError, match="no 'cam_poses'"):
        threedpw.read_sequence(saved(tmp_path / "a.pkl", value))


def test_no_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no 3DPW sequence files"):
        threedpw.read_split(tmp_path, "train")
    with pytest.raises(UserError, match="no split 'val'"):
        threedpw.read_split(tmp_path, "val")


def test_missing_joints_are_marked(tmp_path: Path) -> None:
    value = content()
    value["poses2d"][0][3, :, 4] = 0  # the right wrist, COCO 10
    value["poses2d"][0][5, 0, 0] = np.nan  # the nose
    value["campose_valid"][0][7] = 0
    sequence = threedpw.read_sequence(saved(tmp_path / "a.pkl", value))
    track = threedpw.detection_tracks(sequence)[0]
    expected = np.ones((20, 17), bool)
    expected[3, 10] = expected[5, 0] = False
    np.testing.assert_array_equal(track.visible, expected)
    assert np.isfinite(track.positions).all()
    assert not threedpw.joint_tracks(sequence)[0].visible[7].any()
