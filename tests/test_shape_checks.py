"""Annotations that state shapes are checked in the tests."""

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from vitpose_jax.keypoints.oks import person_scores


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TypeCheckError, match="box_scores"):
        person_scores(np.ones((3, 17)), np.ones(2))
