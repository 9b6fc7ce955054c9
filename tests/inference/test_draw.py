"""Drawings: left and right in their colours, lines to scale, odd points without harm."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from vitpose_jax.errors import UserError
from vitpose_jax.inference import draw
from vitpose_jax.inference.draw import draw_people, overlay_heatmaps, score_opacity
from vitpose_jax.inference.person import Person
from vitpose_jax.keypoints.crops import box_to_center_scale, udp_affine
from vitpose_jax.keypoints.drawing import SIDE_COLOURS
from vitpose_jax.keypoints.encoding import encode_heatmaps
from vitpose_jax.keypoints.skeletons import SKELETONS

COCO = SKELETONS["coco"]
MakePerson = Callable[..., Person]


def test_left_and_right_have_their_colours(make_person: MakePerson) -> None:
    person = make_person(50, 50, 200, 500)
    image = np.full((600, 300, 3), 90, np.uint8)
    drawn = draw_people(image, [person], COCO, boxes=False, legend=False)
    for k in (9, 13, 10, 14):  # wrists and knees
        x, y = person.keypoints[k].round().astype(int)
        np.testing.assert_allclose(drawn[y, x], SIDE_COLOURS[COCO.side(k)], atol=30)
    for a, b in ((7, 9), (14, 16)):  # the middle of a forearm and of a shank
        x, y = person.keypoints[[a, b]].mean(0).round().astype(int)
        np.testing.assert_allclose(drawn[y, x], SIDE_COLOURS[COCO.side(a)], atol=30)
    assert (image == 90).all()  # the input is left alone
    assert (drawn != image).any(-1).mean() < 0.2


def test_unsure_keypoints_are_left_out(make_person: MakePerson) -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    person = make_person(50, 50)
    unsure = replace(person, keypoint_scores=np.full(17, 0.1, np.float32))
    assert not draw_people(image, [unsure], COCO, boxes=False, legend=False).any()
    assert draw_people(image, [person], COCO, boxes=False, legend=False).any()
    assert draw_people(image, [unsure], COCO, min_score=0.05, boxes=False, legend=False).any()


def test_line_width_follows_the_persons_size(make_person: MakePerson) -> None:
    image = np.zeros((1000, 1000, 3), np.uint8)
    inked = [
        draw_people(image, [make_person(10, 10, s, 2 * s)], COCO, boxes=False, legend=False)
        .any(-1)
        .sum()
        for s in (100, 400)
    ]
    assert 8 < inked[1] / inked[0] < 20  # like the area, not like the length


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e12, -1e12])
def test_points_and_boxes_far_away_do_no_harm(make_person: MakePerson, value: float) -> None:
    person = make_person(20, 20, track=12)
    person.keypoints[3] = value
    image = np.zeros((100, 80, 3), np.uint8)
    assert draw_people(image, [person], COCO).shape == image.shape
    lost = replace(person, box=np.full(4, value))
    assert draw_people(image, [lost], COCO).shape == image.shape


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (40, 30)])
def test_pictures_of_any_size(make_person: MakePerson, size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    assert draw_people(image, [make_person(0, 0)], COCO).shape == image.shape


def test_heatmaps_light_up_where_the_joint_is(make_person: MakePerson) -> None:
    person = make_person(60, 40, 100, 180)
    center, scale = box_to_center_scale(person.box)
    matrix = udp_affine(center, scale, 0.0, (256, 192))
    crop_xy = (person.keypoints @ matrix[:, :2].T + matrix[:, 2])[None, 10:11]
    heatmaps, _ = encode_heatmaps(crop_xy, np.ones((1, 1)), (256, 192), (64, 48))
    lit = replace(person, heatmaps=np.asarray(heatmaps[0]))
    image = np.full((300, 240, 3), 128, np.uint8)
    overlay = overlay_heatmaps(image, [lit, person], (256, 192)).astype(int).sum(-1)
    y, x = np.unravel_index(overlay.argmax(), overlay.shape)
    np.testing.assert_allclose([x, y], person.keypoints[10], atol=2.5)
    assert overlay[-1, -1] < 3 * 128


def test_large_pictures_are_overlaid_in_strips(
    make_person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    people = [
        replace(make_person(20, top, 100, 120), heatmaps=random.random((64, 48, 3), np.float32))
        for top in (-60, 30, 200)
    ]
    image = random.integers(0, 255, (240, 180, 3), np.uint8)
    whole = overlay_heatmaps(image, people, (256, 192))
    monkeypatch.setattr(draw, "_STRIP", 7 * 180)
    strips = overlay_heatmaps(image, people, (256, 192)).astype(int)
    assert np.abs(strips - whole).max() <= 4  # one step of the colour map


def test_low_scores_are_faded() -> None:
    scores = np.array([0.0, 0.29, 0.3, 0.45, 0.6, 1.0, np.nan])
    expected = [0, 0, 0.25, 0.5, 1, 1, 0]
    np.testing.assert_allclose(score_opacity(scores, 0.3), expected, atol=1e-9)
    np.testing.assert_array_equal(score_opacity(scores, 0.0), [1, 1, 1, 1, 1, 1, 0])


def test_names_are_written_beside_the_keypoints_drawn(make_person) -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    person = make_person(100, 40, 100, 220)
    plain = draw_people(image, [person], COCO)
    named = draw_people(image, [person], COCO, names=True)
    assert (named != plain).sum() > 500
    unsure = replace(person, keypoint_scores=np.zeros(17, np.float32))
    nothing = draw_people(image, [unsure], COCO, names=True)
    np.testing.assert_array_equal(nothing, draw_people(image, [unsure], COCO))
    far = replace(person, keypoints=person.keypoints + np.float32(1e9))
    draw_people(image, [far], COCO, names=True)


def test_people_bring_their_skeleton(make_person) -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    person = make_person(100, 40)
    own = draw_people(image, [replace(person, skeleton=COCO)])
    np.testing.assert_array_equal(own, draw_people(image, [person], COCO))
    with pytest.raises(UserError, match="no skeleton"):
        draw_people(image, [person])


def test_ghosts_are_not_taken_for_sides() -> None:
    """Every track's colour is far from those of left, right and centre."""
    for track in range(1, len(draw.TRACK_COLOURS) + 1):
        for side in SIDE_COLOURS.values():
            assert np.linalg.norm(np.subtract(draw.track_colour(track), side)) > 90


def test_halos_are_as_large_as_the_radii() -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    poses = np.full((1, 17, 2), np.nan, np.float32)
    poses[0, 9] = 100, 90
    radii = np.full(17, 30.0)
    halo = draw.draw_ghosts(image, poses, COCO, 1, radii).any(-1)
    assert halo[90, 72:129].all()
    assert not halo[90, [68, 132]].any()
    assert np.ptp(np.flatnonzero(halo.any(1))) == pytest.approx(60, abs=2)
