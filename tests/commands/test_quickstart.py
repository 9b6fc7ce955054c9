"""The quickstart, made small: what it leaves behind, and that its last lines are true."""

import json
import re
import shlex
from pathlib import Path

import pytest
import tiny_config

from vitpose_jax.cli import main
from vitpose_jax.data.synthetic.dataset import NUM_SCENES
from vitpose_jax.tasks.recipes import quickstart_recipe


def test_its_last_lines_lead_on_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    small = tiny_config.get_config("synthetic-solo")
    small.steps = small.eval_every = small.checkpoint_every = 1
    small.eval_first, small.eval.metrics = True, ("coco",)
    monkeypatch.setattr("vitpose_jax.tasks.recipes.quickstart_recipe", lambda: small)
    monkeypatch.setitem(NUM_SCENES, "val", 8)
    monkeypatch.chdir(tmp_path)
    assert main(["quickstart", "--out", "q"]) == 0
    said = capsys.readouterr().out
    for name in re.findall(r"^  ([\w.]+/?) ", said.split("In q:")[1].split("Next:")[0], re.M):
        assert (tmp_path / "q" / name).exists(), name
    lines = re.findall(r"^ {4}(vitpose (?:[^\\\n]|\\\n)*)", said, re.M)
    commands = [shlex.split(line.replace("\\\n", " ")) for line in lines]
    assert [words[1] for words in commands] == ["predict", "check", "train"]
    assert main(commands[0][1:]) == 0
    found = json.loads((tmp_path / "q/found/keypoints.json").read_text())
    truth = json.loads((tmp_path / "q/samples/people.json").read_text())
    assert len(found) == len(truth["annotations"]) == len(truth["images"])
    assert len(list((tmp_path / "q/found").rglob("*.jpg"))) == len(found)


def test_its_length_is_that_of_its_evaluations() -> None:
    recipe = quickstart_recipe()
    assert recipe.steps % recipe.eval_every == 0
    assert recipe.eval_first
