"""CMU's exponential-map files: bones as long as the skeleton's, poses in closed form, refusals."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitpose_jax.data.motion import cmu_mocap as cmu
from vitpose_jax.data.motion.sources import INPUTS, open_tracks
from vitpose_jax.errors import UserError


def write(path: Path, rotations: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.concatenate([np.zeros((len(rotations), 3)), rotations.reshape(len(rotations), -1)], 1)
    np.savetxt(path, rows, delimiter=",", fmt="%.7f")
    return path


def test_the_skeletons_bones() -> None:
    """A person of about 1.7 m, both sides alike, in the lengths of CMU's subject in mm."""
    rest = cmu.joint_positions(np.zeros((1, 38, 3)))[0]
    lengths = np.linalg.norm(cmu.OFFSETS, axis=-1)
    expected = {3: 531.6, 4: 510.1, 5: 155.5, 14: 144.2, 22: 340.6, 23: 234.9, 31: 351.9, 32: 235.5}
    for joint, length in expected.items():
        assert lengths[joint] == pytest.approx(length, abs=0.06)
    for left, right in ((2, 8), (3, 9), (4, 10), (5, 11), (21, 30), (22, 31), (23, 32)):
        assert lengths[left] == pytest.approx(lengths[right], rel=0.06)
    assert 1500 < np.ptp(rest[:, 1]) < 2000
    assert rest[cmu.USED[0], 0] > 0 > rest[cmu.USED[4], 0]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_rotation_changes_a_bone(seed: int) -> None:
    rotations = np.random.default_rng(seed).normal(0, 1, (4, 38, 3))
    points = cmu.joint_positions(rotations)
    for joint, parent in enumerate(cmu.PARENTS):
        if parent > 0:
            bone = np.linalg.norm(points[:, joint] - points[:, parent], axis=-1)
            np.testing.assert_allclose(bone, np.linalg.norm(cmu.OFFSETS[joint]), atol=0.01)
    for copy, joint in cmu.COPIES.items():
        np.testing.assert_allclose(points[:, copy], points[:, joint], atol=1e-3)


def test_a_bent_knee() -> None:
    """A quarter turn about x, of row vectors, takes the shin's y to -z, and leaves the thigh."""
    rotations = np.zeros((1, 38, 3))
    rotations[0, 3, 0] = np.pi / 2
    rest, bent = cmu.joint_positions(np.zeros((1, 38, 3)))[0], cmu.joint_positions(rotations)[0]
    np.testing.assert_allclose(bent[3], rest[3])
    shin = cmu.OFFSETS[4]
    np.testing.assert_allclose(bent[4] - bent[3], [shin[0], 0, -shin[1]], atol=0.01)


def test_files_and_windows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rotations = np.cumsum(rng.normal(0, 0.01, (200, 38, 3)), 0)
    for number in (1, 2):
        write(tmp_path / "test" / "walking" / f"walking_{number}.txt", rotations)
    found = cmu.find_files(tmp_path, "test")
    assert {action: len(files) for action, files in found.items()} == {"walking": 2}
    track = cmu.read_track(found["walking"][0])
    assert track.positions.shape == (100, 25, 3)
    np.testing.assert_allclose(
        1000 * track.positions, cmu.joint_positions(rotations[::2])[:, cmu.USED], atol=0.02
    )
    windows = cmu.draw_windows([track, track])
    assert windows.shape == (16, 35, 25, 3)
    np.testing.assert_array_equal(windows[:8], windows[8:])
    future = windows[:, 10:]
    assert set(cmu.mean_error(future, future).values()) == {0.0}
    # 25 joints, of which seven are counted twice, of 38
    off = cmu.mean_error(future + np.float32([0.01, 0, 0]), future)
    np.testing.assert_allclose(list(off.values()), 10 * 32 / 38, rtol=1e-4)


def test_mirrored_joints() -> None:
    rest = cmu.joint_positions(np.zeros((1, 38, 3)))[0, cmu.USED]
    for left, right in INPUTS["cmu"].flip_pairs:
        np.testing.assert_allclose((rest[left] * [-1, 1, 1])[:2], rest[right, :2], atol=25)


def test_the_last_file_of_an_action_is_for_validation(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write(tmp_path / "train" / "soccer" / f"soccer_{number}.txt", np.zeros((10, 38, 3)))
    names = {
        split: [track.name for track in open_tracks(tmp_path, split, "cmu")]
        for split in ("train", "validation")
    }
    assert names == {"train": ["soccer_1", "soccer_2"], "validation": ["soccer_3"]}


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds basketball, basketball_signal"):
        cmu.find_files(tmp_path, "train")
    path = tmp_path / "walking_1.txt"
    path.write_text("1,2,x\n")
    with pytest.raises(UserError, match="not a text of numbers"):
        cmu.read_track(path)
    path.write_text(",".join(["0"] * 99))
    with pytest.raises(UserError, match="99 numbers, but CMU's 38 joints take 117"):
        cmu.read_track(path)
    write(path, np.zeros((100, 38, 3)))
    with pytest.raises(UserError, match="50 frames at 25 a second"):
        cmu.draw_windows([cmu.read_track(path)])
    with pytest.raises(UserError, match="both must be the same"):
        cmu.mean_error(np.zeros((2, 25, 25, 3)), np.zeros((3, 25, 25, 3)))
