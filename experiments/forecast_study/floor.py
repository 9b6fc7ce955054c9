"""What a perfect forecaster would score: the noise of the detections it is judged by."""

import numpy as np

from vitpose_jax.data import threedpw
from vitpose_jax.data.motion import MotionTrack, MotionWindows
from vitpose_jax.data.viewpoints import COCO_BODY_IN_SMPL

BODY = slice(5, 17)
"""COCO's shoulders to ankles: the keypoints whose true places the files know."""


def noise_floor(folder: str, split: str = "test") -> dict[str, float]:
    """Error of the projected 3D joints against the detections, in the windows that are scored.

    Shoulders to ankles only: where the true nose, eyes and ears are, the files do not say.
    """
    detected, true = [], []
    for sequence in threedpw.read_split(folder, split):
        for track, actor in zip(threedpw.detection_tracks(sequence), sequence.actors, strict=True):
            points = threedpw.project(actor.joints3d, sequence.cam_poses, sequence.intrinsics)
            places = np.nan_to_num(track.positions.copy())
            places[:, BODY] = points[:, COCO_BODY_IN_SMPL]
            detected.append(track)
            true.append(MotionTrack(track.name, places, track.visible, track.frame_ids, track.fps))
    seen = MotionWindows(detected, stride=2, complete=True).arrays()["future"][:, :, BODY]
    perfect = MotionWindows(true, stride=2, complete=True).arrays()["future"][:, :, BODY]
    error = np.linalg.norm(seen - perfect, axis=-1)
    return {"error_px": float(error.mean()), "pck_50px": float((error < 50).mean())}
