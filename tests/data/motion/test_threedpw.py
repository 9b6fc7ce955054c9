"""3DPW files: every real one is read, every bad one refused in words."""

import os
import pickle
import pickletools
import tempfile
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
        *(({"sequence": name}, "not the plain name") for name in ("../..", "/", ".", "a/b", "a\0")),
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


def op(name: str) -> bytes:
    return next(o.code for o in pickletools.opcodes if o.name == name).encode("latin1")


BOMBS = {
    "a place in the memo far away": b"\x80\x02]" + op("LONG_BINPUT") + b"\xff\xff\xff\x1f.",
    "bytes longer than the file": b"\x80\x05" + op("BYTEARRAY8") + b"\0\0\0\0\1\0\0\0.",
    "tuples doubled, as a key": b"\x80\x02}(" + b"\x85q\0h\0h\0\x86" * 40 + b"K\1u.",
    "lists doubled": b"\x80\x02K\1" + b"q\0h\0\x86" * 60 + b".",
    "a list in itself": b"\x80\x02]q\0h\0a.",
    "marks": b"(" * 250_000 + b".",
    "numbers without end": b"\x80\x02" + b"K\1" * 250_000 + b".",
    "a number without end": b"I" + b"9" * 100_000 + b"\n.",
    "a name without end": b"c" + b"n" * 100_000 + b"\n" + b"m" * 100_000 + b"\n.",
    "text without quotes": b"S" + b"n" * 100_000 + b"\n.",
    "one text, many arrays": (
        b"\x80\x02cnumpy\ndtype\nq\0X\2\0\0\0u1\x85Rq\1B"
        + (2**20).to_bytes(4, "little")
        + bytes(2**20)
        + b"q\2cnumpy.core.multiarray\n_reconstruct\nq\3("
        + b"h\3)R(K\1J\0\0\x10\0\x85h\1\x89h\2tb" * 5_000
        + b"l."
    ),
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS.keys())
def test_a_few_bytes_cost_little(tmp_path: Path, data: bytes) -> None:
    """Neither memory, nor a long message; that none takes long is what the fault campaign shows."""
    path = tmp_path / "bomb.pkl"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught:
            threedpw.read_sequence(path)
        assert tracemalloc.get_traced_memory()[1] < 40e6 + 8 * len(data)
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < len(str(path)) + 300


@settings(max_examples=300)
@given(st.data())
def test_any_damage_is_read_or_refused(data: st.DataObject) -> None:
    """Bytes changed, cut out, doubled: a sequence or one line, and no warning."""
    protocol = data.draw(st.sampled_from([0, 2, 5]))
    whole = bytearray(pickle.dumps(content(3), protocol))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        match data.draw(st.sampled_from(["change", "cut", "double"])):
            case "change":
                whole[at] = data.draw(st.integers(0, 255))
            case "cut":
                del whole[at : at + data.draw(st.integers(1, 30))]
            case "double":
                whole[at:at] = whole[at : at + 40]
        whole = whole or bytearray(b".")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        path = Path(folder, "a.pkl")
        path.write_bytes(whole)
        message = ""
        try:
            sequence = threedpw.read_sequence(path)
            threedpw.detection_tracks(sequence)
            threedpw.projected_tracks(sequence)
        except UserError as error:
            message = str(error).removeprefix(str(path))
    assert len(message) < 400


PYTHON_2 = {
    "cPickle, protocol 2": (
        b"\x80\x02}q\x01U\x01aq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04"
        b"K\x00\x85U\x01b\x87Rq\x05(K\x01K\x02\x85cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x02\xe9\x0atbs."
    ),
    "pickle, protocol 0": (
        b"(dp0\nS'a'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\n"
        b"S'b'\np5\ntp6\nRp7\n(I1\n(I2\ntp8\ncnumpy\ndtype\np9\n(S'u1'\np10\nI0\nI1\ntp11\nRp12\n"
        b"(I3\nS'|'\np13\nNNNI-1\nI-1\nI0\ntp14\nbI00\nS'\\xe9\\n'\np15\ntp16\nbs."
    ),
}


@pytest.mark.parametrize("data", PYTHON_2.values(), ids=PYTHON_2.keys())
def test_reads_what_python_2_wrote(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.pkl").write_bytes(data)
    assert load_pickle(tmp_path / "a.pkl")["a"].tolist() == [0xE9, 10]
    np.testing.assert_array_equal(pickle.loads(data, encoding="latin1")["a"], [0xE9, 10])
