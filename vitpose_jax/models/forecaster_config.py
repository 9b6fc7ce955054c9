"""The configuration of our motion forecaster."""

import dataclasses

from vitpose_jax.errors import UserError
from vitpose_jax.models.layers import check_heads

COVERAGES = (0.5, 0.9)
"""The shares of true positives that lie within the radii of `Forecaster.with_spread`."""


@dataclasses.dataclass(frozen=True)
class ForecasterConfig:
    """The size of the problem and of the network.

    Attributes:
        num_joints, dims: J and D (2 or 3).
        observed, future: n and m, frames.
        flip_pairs: left-right joint pairs; if given, forecasts are averaged with those of the
            mirrored motion.
        fps: frame rate of the training data; forecasts at another rate are wrong.
        differences: orders of finite differences the network is given: 1 for velocities, 2 for
            accelerations too, ... Use 4 for exact positions; in noisy ones, all but the first
            order are noise.
        width, depth, num_heads, mlp_ratio: of the transformer over the observed frames.
        readout_width, readout_depth: of the residual MLP that turns all frames' tokens into the
            future.
        dropout: on every residual branch in training.
        members: number of networks that are trained, each on its own error, and averaged.
        people: whether several people in one scene are forecast together. All arrays then have an
            axis of people after the batch's: any number of them, in any order.
        mixture: whether the forecast is a residual on a learned mixture of standing still, moving
            on with the body's centre, and moving on with every joint, each damped as the network
            finds best for every future frame, instead of on the last pose.
        path: whether the centre's path and the pose around it are forecast apart.
        heading: the left and right hip. If given, the network sees all people turned to face the
            same way about the second axis, which must be vertical (3D only).
        spread: whether the network also says how far from its forecast the truth may be.

    Example:
        >>> config = ForecasterConfig(observed=10, future=5, members=3)
    """

    num_joints: int = 17
    dims: int = 2
    observed: int = 10
    future: int = 5
    flip_pairs: tuple[tuple[int, int], ...] = ()
    fps: float = 30.0
    differences: int = 1
    width: int = 64
    depth: int = 1
    num_heads: int = 4
    mlp_ratio: float = 2.0
    readout_width: int = 384
    readout_depth: int = 4
    dropout: float = 0.05
    members: int = 1
    people: bool = False
    mixture: bool = False
    path: bool = False
    heading: tuple[int, int] | None = None
    spread: bool = False

    def __post_init__(self) -> None:
        check_heads(self.width, self.num_heads)
        if self.heading is not None:
            object.__setattr__(self, "heading", tuple(self.heading))
            if self.dims != 3 or not all(0 <= hip < self.num_joints for hip in self.heading):
                raise UserError(
                    f"heading is {self.heading}: it takes two of the {self.num_joints} joints, and "
                    f"3 dimensions, not {self.dims}"
                )
        if self.members < 1:
            raise UserError(f"members is {self.members}: there must be at least one")
        pairs = tuple(tuple(pair) for pair in self.flip_pairs)  # JSON makes lists of them
        object.__setattr__(self, "flip_pairs", pairs)
