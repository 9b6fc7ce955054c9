"""The words of a configuration's argument, and what the configurations make of them."""

import doctest
from pathlib import Path

import pytest

from configs import vitpose
from vitpose_jax.errors import UserError
from vitpose_jax.tasks import recipes


@pytest.mark.parametrize(
    ("argument", "width", "decoder", "data"),
    [
        ("", 768, "classic", "coco"),
        ("simple", 768, "simple", "coco"),
        ("huge,synthetic-crowd", 1280, "classic", "synthetic-crowd"),
        ("some/folder,simple,small", 384, "simple", "some/folder"),
        ("large,./small", 1024, "classic", "./small"),
    ],
)
def test_words_come_in_any_order(argument: str, width: int, decoder: str, data: str) -> None:
    config = vitpose.get_config(argument)
    found = config.model.backbone.width, config.model.decoder.kind, config.data
    assert found == (width, decoder, data)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("bse,coco", r"'bse' is no size \(small, base, large, huge\), no decoder \(classic, simp"),
        ("coco,simpel", r"'simpel' is .* and no data set \(coco, synthetic, .* or a folder\)$"),
        ("base,coco,small", "'base' and 'small': give one size"),
        ("coco,synthetic", "'coco' and 'synthetic': give one data set"),
    ],
)
def test_unknown_words_are_refused_with_those_there_are(argument: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        vitpose.get_config(argument)


def test_a_folder_needs_no_slash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="'fish' is no size"):
        vitpose.get_config("small,fish")
    (tmp_path / "fish").mkdir()
    assert vitpose.get_config("small,fish").data == "fish"


def test_examples_are_true() -> None:
    assert doctest.testmod(recipes).failed == 0
