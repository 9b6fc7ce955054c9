"""PCK against cases one can count by hand."""

import numpy as np
import pytest

from vitpose_jax.errors import UserError
from vitpose_jax.evaluation.pck import box_sizes, pck, torso_sizes

NAMES = ("left_shoulder", "right_hip", "left_knee")


def test_counts_labelled_joints_within_the_threshold():
    truth = np.array([[[0, 0], [30, 40], [10, 10]], [[0, 0], [6, 8], [5, 5]]], float)
    visible = np.array([[2, 2, 1], [2, 1, 0]], float)
    sizes = torso_sizes(truth, visible, NAMES)
    np.testing.assert_allclose(sizes, [50, 10])
    predicted = truth + np.array([9.9, 0.0])  # inside 0.2 x 50, outside 0.2 x 10
    overall, each = pck(predicted, truth, visible, sizes, 0.2)
    assert overall == pytest.approx(3 / 5)
    np.testing.assert_allclose(each, [0.5, 0.5, 1.0])


def test_people_without_a_torso_are_left_out():
    truth = np.zeros((2, 3, 2))
    truth[:, 1] = [0, 100]
    visible = np.array([[2, 2, 2], [2, 0, 2]], float)
    sizes = torso_sizes(truth, visible, NAMES)
    assert np.isnan(sizes[1])
    predicted = truth.copy()
    predicted[1] += 1000
    overall, each = pck(predicted, truth, visible, sizes)
    assert overall == 1
    np.testing.assert_allclose(each, 1)


def test_unlabelled_keypoints_are_nan():
    truth = np.zeros((1, 3, 2))
    _, each = pck(truth, truth, np.array([[1.0, 1.0, 0.0]]), np.array([5.0]))
    assert np.isnan(each[2])


def test_box_is_measured_by_its_longer_side():
    np.testing.assert_array_equal(box_sizes(np.array([[0, 0, 3, 9], [5, 5, 8, 2.0]])), [9, 8])


def test_skeleton_without_a_torso_is_refused():
    with pytest.raises(UserError, match="left_shoulder"):
        torso_sizes(np.zeros((1, 1, 2)), np.ones((1, 1)), ("nose",))


def test_nobody_to_judge_is_no_figure():
    with pytest.raises(UserError, match="nothing to judge: none of 2 people"):
        pck(np.zeros((2, 3, 2)), np.zeros((2, 3, 2)), np.ones((2, 3)), np.full(2, np.nan))
