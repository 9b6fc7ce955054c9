"""Made-up scenes: people from different recordings put side by side, before a moving camera.

Recordings of single people say nothing of how several look together, and those of a studio nothing
of a world whose origin drifts, as one that is estimated from a hand-held camera does. Here every
person is turned, mirrored, given other proportions and a place near another, and then all are moved
by one camera's drift. The second axis is vertical.
"""

import dataclasses
from collections.abc import Mapping

import grain
import numpy as np

from vitpose_jax.data.motion.augmentation import Batch
from vitpose_jax.data.motion.somof import JOINTS

PARENT = {
    **{"left_knee": "left_hip", "right_knee": "right_hip"},
    **{"left_ankle": "left_knee", "right_ankle": "right_knee"},
    **{"left_shoulder": "neck", "right_shoulder": "neck"},
    **{"left_elbow": "left_shoulder", "right_elbow": "right_shoulder"},
    **{"left_wrist": "left_elbow", "right_wrist": "right_elbow"},
}
"""The joint that carries each; hips and neck are carried by the middle of the hips."""

SMPL_METRES = {"hip": 0.06, "knee": 0.38, "ankle": 0.40, "neck": 0.48, "shoulder": 0.17} | {
    "elbow": 0.255,
    "wrist": 0.25,
}
"""Length of the bone that ends in each joint, in SMPL's mean body."""


UPPER = JOINTS.index("neck")
"""From this joint on, the body is above the hips."""


@dataclasses.dataclass(frozen=True)
class SceneSettings:
    """How scenes are made up; 0 switches a change off.

    Attributes:
        company: probability that a person's companion is replaced by somebody from another
            recording, which is always done for people who are alone.
        distance: least and greatest distance between two people, in metres.
        proportions: standard deviation of the logarithm of bone lengths.
        smpl: probability that the bones have the lengths of SMPL's mean body before that.
        drift: the greatest speed of the camera's drift in metres a second. Each scene draws its own
            from the square root's uniform distribution.
        swing: likewise the camera's turning about the vertical, in radians a second.
        jitter: the greatest standard deviation of observed positions, in metres, likewise: of each
            joint's, and of the whole body's.
        flip: probability of mirroring.
        reverse: probability of playing the motion backwards.
        swap: probability of another's upper body on somebody's legs.
        damp: probability of smaller movements, around the mean pose and along the path.
    """

    company: float = 0.6
    distance: tuple[float, float] = (0.5, 3.0)
    proportions: float = 0.05
    smpl: float = 0.6
    drift: float = 0.4
    swing: float = 0.1
    jitter: float = 0.002
    flip: float = 0.5
    reverse: float = 0.2
    swap: float = 0.2
    damp: float = 0.3


class ComposeScenes(grain.transforms.RandomMap):
    """Turns batches of tracks of P people side by side, (B, T, P J, 3), into made-up scenes."""

    def __init__(
        self, settings: SceneSettings, flip_index: np.ndarray, observed: int, fps: float
    ) -> None:
        """`flip_index` is that of one person's J joints."""
        self.settings, self.flip_index = settings, flip_index
        self.observed, self.fps = observed, fps

    def random_map(self, batch: Mapping[str, np.ndarray], rng: np.random.Generator) -> Batch:
        """Change one batch."""
        options, joints, n = self.settings, len(self.flip_index), self.observed
        x = np.concatenate([batch["observed"], batch["future"]], 1)
        seen = np.concatenate([batch["observed_visible"], batch["future_visible"]], 1)
        size, frames = x.shape[:2]
        x = np.moveaxis(x.reshape(size, frames, -1, joints, 3), 2, 1).astype(np.float32)
        seen = np.moveaxis(seen.reshape(size, frames, -1, joints), 2, 1).copy()
        people = x.shape[1]
        if people > 1:
            order = rng.permuted(np.tile(np.arange(people), (size, 1)), axis=1)
            missing = ~seen.any((2, 3))
            order = np.take_along_axis(order, np.take_along_axis(missing, order, 1).argsort(1), 1)
            x = np.take_along_axis(x, order[:, :, None, None, None], 1)
            seen = np.take_along_axis(seen, order[:, :, None, None], 1)
        alone = ~seen.any((2, 3))
        strangers = alone | (rng.random((size, people)) < options.company)
        strangers[:, 0] = False
        guests = rng.integers(0, size, (size, people))
        first = x[:, 0], seen[:, 0]
        for person in range(1, people):
            new = strangers[:, person]
            x[new, person], seen[new, person] = (part[guests[new, person]] for part in first)

        def draw(values: np.ndarray) -> np.ndarray:
            """Of values (B, P, ..), each stranger's own, and the first's for the rest."""
            mask = strangers.reshape(size, people, *[1] * (values.ndim - 2))
            return np.where(mask, values, values[:, :1])

        flipped = draw(rng.random((size, people)) < options.flip)
        x[flipped] = x[flipped][..., self.flip_index, :] * np.array([-1, 1, 1], np.float32)
        seen[flipped] = seen[flipped][..., self.flip_index]
        backwards = draw(rng.random((size, people)) < options.reverse)
        x[backwards], seen[backwards] = x[backwards][:, ::-1], seen[backwards][:, ::-1]
        swapped = rng.random((size, people)) < options.swap
        other = np.roll(np.arange(size), 1)
        swapped &= seen.all((2, 3)) & seen[other].all((2, 3))
        x = np.where(swapped[..., None, None, None], other_upper_body(x, x[other], n - 1), x)
        damped = draw(rng.random((size, people)) < options.damp)
        share = np.where(damped[..., None], draw(rng.random((size, people, 2))), 1)
        x = smaller_movements(x, share.astype(np.float32), n - 1)
        x = reshape_bodies(x, options, draw(rng.random((size, people))), rng)
        x = self._place(x, seen, strangers, draw(rng.uniform(-np.pi, np.pi, (size, people))), rng)
        x = self._move_camera(x, seen, rng)
        jitter = options.jitter * rng.random((size, 1, 1, 1, 1)) ** 2
        noise = rng.standard_normal(x[:, :, :n].shape, np.float32)
        body = rng.standard_normal((*x.shape[:2], n, 1, 3), np.float32)
        x[:, :, :n] += jitter.astype(np.float32) * (noise + body)

        x = np.where(seen[..., None], x, 0)
        x = np.moveaxis(x, 1, 2).reshape(size, frames, -1, 3)
        seen = np.moveaxis(seen, 1, 2).reshape(size, frames, -1)
        return {
            "observed": x[:, :n],
            "observed_visible": seen[:, :n],
            "future": x[:, n:],
            "future_visible": seen[:, n:],
        }

    def _place(
        self,
        x: np.ndarray,
        seen: np.ndarray,
        strangers: np.ndarray,
        angles: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Turn people about the vertical, and put strangers near the first person."""
        size, people = angles.shape
        centre = _centre(x[:, :, self.observed - 1], seen[:, :, self.observed - 1])
        pivot = np.where(strangers[..., None], centre, centre[:, :1])[:, :, None, None]
        turned = turn(x - pivot.astype(np.float32), angles[..., None, None])
        low, high = self.settings.distance
        away = rng.uniform(low, high, (size, people))
        bearing = rng.uniform(0, 2 * np.pi, (size, people))
        offset = np.stack([away * np.cos(bearing), 0 * away, away * np.sin(bearing)], -1)
        offset = np.where(strangers[..., None], offset, 0)
        return turned + offset[:, :, None, None].astype(np.float32)

    def _move_camera(self, x: np.ndarray, seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Shift and turn all people of a scene alike, smoothly in time."""
        options, (size, _, frames) = self.settings, x.shape[:3]
        speed = options.drift * rng.random((size, 1, 1)) ** 2
        shift = speed * smooth_path(rng, size, frames, 3, self.fps, self.observed)
        rate = options.swing * rng.random((size, 1)) ** 2
        angle = rate * smooth_path(rng, size, frames, 1, self.fps, self.observed)[..., 0]
        bearing, away = rng.uniform(0, 2 * np.pi, size), rng.uniform(2, 6, size)
        camera = np.stack([away * np.cos(bearing), 0 * away, away * np.sin(bearing)], -1)
        pivot = camera[:, None, None, None].astype(np.float32)
        turned = turn(x - pivot, angle[:, None, :, None])
        return turned + (pivot + shift[:, None, :, None]).astype(np.float32)


def other_upper_body(x: np.ndarray, other: np.ndarray, now: int) -> np.ndarray:
    """People (.., T, 13, 3) with the bodies above the hips of others, who face their way `now`."""
    across = [body[..., now, 0, :] - body[..., now, 1, :] for body in (x, other)]
    own, theirs = (np.arctan2(line[..., 2], line[..., 0]) for line in across)
    hips = [body[..., :2, :].mean(-2, keepdims=True) for body in (x, other)]
    upper = turn(other[..., UPPER:, :] - hips[1], (own - theirs)[..., None, None]) + hips[0]
    return np.concatenate([x[..., :UPPER, :], upper], -2)


def smaller_movements(x: np.ndarray, shares: np.ndarray, now: int) -> np.ndarray:
    """People (.., T, J, 3) with shares (.., 2) of their movement around a pose, and of the path.

    Bones shrink a little where limbs turn far, as they do in the mean of several poses.
    """
    path = x.mean(-2, keepdims=True)
    pose, place = x - path, path[..., now : now + 1, :, :]
    held = pose.mean(-3, keepdims=True)
    around, along = np.moveaxis(shares[..., None, None, None], -4, 0)
    return place + along * (path - place) + held + around * (pose - held)


def turn(x: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Points (.., 3) turned about the second axis by radians (..)."""
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    first, up, third = np.moveaxis(x, -1, 0)
    return np.stack([cos * first - sin * third, up, sin * first + cos * third], -1)


def reshape_bodies(
    x: np.ndarray, options: SceneSettings, drawn: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """People (B, P, T, 13, 3) with other bones; longer legs take longer steps.

    `drawn` (B, P), in [0, 1), decides who gets SMPL's mean body.
    """
    if not (options.smpl or options.proportions):
        return x
    lead = x.shape[:2]
    middle = x[..., :2, :].mean(-2)
    made: dict[str, np.ndarray] = {}
    leg = np.ones(lead)
    scale = np.exp(rng.normal(0, options.proportions, lead))  # the whole body's
    factors: dict[str, np.ndarray] = {}
    for index, name in enumerate(JOINTS):
        parent = PARENT.get(name)
        start = x[..., JOINTS.index(parent), :] if parent else middle
        bone = x[..., index, :] - start
        kind = name.removeprefix("left_").removeprefix("right_")
        if kind not in factors:
            length = np.linalg.norm(bone[..., ::5, :], axis=-1).mean(-1)  # as rigid as people are
            mean = SMPL_METRES[kind] / np.maximum(length, 0.02)
            to_mean = np.where(drawn < options.smpl, mean, 1)
            own = np.exp(rng.normal(0, options.proportions, lead))
            factors[kind] = np.clip(to_mean, 0.4, 2.5) * own * scale
            if kind == "knee":
                leg = factors[kind]
        base = made[parent] if parent else 0
        made[name] = base + bone * factors[kind][..., None, None].astype(np.float32)
    carried = (middle * leg[..., None, None].astype(np.float32))[..., None, :]
    return np.stack([made[name] for name in JOINTS], -2) + carried


def smooth_path(
    rng: np.random.Generator, size: int, frames: int, dims: int, fps: float, now: int
) -> np.ndarray:
    """Random paths (B, T, D) of about unit speed a second, 0 at the last observed frame.

    The velocity is a constant and two slow waves.
    """
    time = (np.arange(frames) - (now - 1)) / fps
    constant = rng.standard_normal((size, 1, dims)) * time[:, None]
    waves = 0
    for _ in range(2):
        rate = 2 * np.pi * rng.uniform(0.1, 0.6, (size, 1, dims))
        phase = rng.uniform(0, 2 * np.pi, (size, 1, dims))
        speed = rng.standard_normal((size, 1, dims))
        waves = waves + speed * (np.sin(rate * time[:, None] + phase) - np.sin(phase)) / rate
    return (constant + waves) / np.sqrt(2)


def _centre(pose: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The mean of the seen joints (.., J, 3): (.., 3)."""
    count = np.maximum(seen.sum(-1), 1)[..., None]
    return np.where(seen[..., None], pose, 0).sum(-2) / count
