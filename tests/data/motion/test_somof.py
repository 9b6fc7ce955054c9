"""SoMoF's protocol: its metric against published figures, its files, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from vitpose_jax.data.motion import somof
from vitpose_jax.data.motion.sources import open_tracks
from vitpose_jax.errors import UserError
from vitpose_jax.evaluation.forecasting import root_velocity, vim, zero_velocity


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "data" / "somof-3dpw"


@pytest.fixture(scope="module")
def truth(folder: Path) -> np.ndarray:
    return somof.read_test(folder / "test.npz")


def test_published_forecasts_score_as_published(folder: Path, truth: np.ndarray) -> None:
    published = np.load(folder / "gcn_transformer_predictions.npz")
    expected = {
        "train_only": [10.14, 22.54, 48.81, 63.67, 94.94, 48.02],
        "train_and_validation": [9.82, 21.80, 46.61, 60.88, 91.95, 46.21],
    }
    for name, figures in expected.items():
        np.testing.assert_allclose(vim(published[name], truth[:, :, 16:]), figures, atol=0.0051)


@pytest.mark.parametrize(
    ("forecast", "figures"),
    [
        (zero_velocity, [29.35, 53.56, 94.52, 112.68, 143.10, 86.65]),
        (root_velocity, [18.91, 36.14, 70.75, 90.85, 134.85, 70.30]),
    ],
)
def test_baselines_score_as_published(truth: np.ndarray, forecast, figures: list[float]) -> None:
    seen = truth[:, :, :16].reshape(-1, 16, 13, 3)
    future = forecast(seen, np.ones(seen.shape[:3], bool), 14).reshape(-1, 2, 14, 13, 3)
    np.testing.assert_allclose(vim(future, truth[:, :, 16:]), figures, atol=0.0051)


def test_vim_of_a_known_error() -> None:
    true = np.zeros((3, 2, 14, 13, 3))
    off = true + np.arange(1, 15)[:, None, None] / 100  # k cm on each of 39 coordinates
    frames = np.sqrt(39) * np.array([2, 4, 8, 10, 14])
    np.testing.assert_allclose(vim(off, true), [*frames, frames.mean()])


def test_files_as_published(tmp_path: Path, truth: np.ndarray) -> None:
    parts = {"in": truth[:5, :, :16], "out": truth[:5, :, 16:]}
    for name, part in parts.items():
        content = part.reshape(*part.shape[:3], 39).tolist()
        (tmp_path / f"3dpw_valid_{name}.json").write_text(json.dumps(content))
    files = [tmp_path / f"3dpw_valid_{name}.json" for name in parts]
    np.testing.assert_array_equal(somof.read_json_pair(*files), truth[:5])
    with pytest.raises(UserError, match="16 frames, but SoMoF's protocol needs 14"):
        somof.read_json_scenes(files[0], 14)
    files[1].write_text(json.dumps(content[:3]))
    with pytest.raises(UserError, match=r"5 scenes, .* 3: they do not belong together"):
        somof.read_json_pair(*files)
    content[1][0] = content[1][0][:7]
    files[1].write_text(json.dumps(content))
    with pytest.raises(UserError, match="not a full array of numbers"):
        somof.read_json_scenes(files[1], 14)


def test_joints_of_smpl(shared: Path, truth: np.ndarray) -> None:
    assert somof.JOINTS[:2] == ("left_hip", "right_hip")
    assert somof.JOINTS[6] == "neck"
    somof.check_metres(truth, "test")
    track = open_tracks(shared / "data" / "cmu-3dpw", "validation", "somof")[0]
    assert track.positions.shape[1:] == (13, 3)
    somof.check_metres(track.positions, "cmu")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x[:, :1], "scenes of 1 people, but SoMoF's have 2"),
        (lambda x: x[:, :, :20], "20 frames, but SoMoF's protocol needs 30"),
        (lambda x: x[:, :, :, :12], "12 joints, but SoMoF has 13"),
        (lambda x: np.concatenate([x, x[..., :11, :]], 3), "24 joints.*`from_smpl`"),
        (lambda x: x * 1000, "these are millimetres; divide by 1000"),
        (lambda x: x * 100, "these are centimetres; divide by 100"),
        (lambda x: x[..., [0, 1, 11, 12, *range(4, 11), 2, 3], :], "changes its length"),
        (lambda x: x[:0], "no scenes"),
        (lambda x: x[..., :2], r"not \(scenes, 2, 30, 13, 3\)"),
        (lambda x: np.where(np.arange(30)[:, None, None] == 7, np.nan, x), "frame 7 .*not finite"),
    ],
)
def test_other_scenes_are_refused(truth: np.ndarray, change, said: str) -> None:
    with pytest.raises(UserError, match=said):
        somof.check_scenes(change(truth), "my.npz", 30)


def test_the_metric_refuses_too(truth: np.ndarray) -> None:
    future = truth[:, :, 16:]
    for predicted, true, said in (
        (future[:, :1], future, "predicted is .* but true"),
        (future, future[..., :12, :], "true is .*, not"),
        (1000 * future, 1000 * future, "millimetres"),
        (np.full_like(future, np.nan), future, "vim: predicted: scene 0"),
    ):
        with pytest.raises(UserError, match=said):
            vim(predicted, true)


def test_a_file_that_is_something_else(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK nothing")
    np.savez(tmp_path / "b.npz", poses=np.zeros(3))
    for name in ("a.npz", "b.npz", "none.npz"):
        with pytest.raises(UserError, match="no array 'joints' can be read"):
            somof.read_test(tmp_path / name)
