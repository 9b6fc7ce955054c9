"""Scores of people."""

import numpy as np

from vitpose_jax.keypoints.oks import person_scores


def test_person_score_ignores_weak_keypoints():
    scores = person_scores(np.array([[0.9, 0.5, 0.1], [0.1, 0.2, 0.0]]), np.array([0.5, 1.0]))
    np.testing.assert_allclose(scores, [0.35, 0.0])
