"""The page on one's own data explains every finding; `test_pages` runs its commands."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from vitpose_jax.data import findings
from vitpose_jax.data.opening import open_pose_dataset

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs/your_own_data.md"
KINDS = [kind for kind in vars(findings).values() if isinstance(kind, findings.Kind)]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), flags=re.S)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.words[:40])
def test_every_finding_is_explained(kind):
    rows = [line.split(" | ")[0].strip("| ") for line in PAGE.read_text().splitlines()]
    names = {row.removeprefix("**!** "): row for row in rows if row}
    found = [name for name in names if kind.words.startswith(name)]
    assert found, f"docs/your_own_data.md does not explain: {kind.words}"
    assert names[max(found, key=len)].startswith("**!**") == kind.costs


def test_the_yaml_file_is_read(coco_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (content,) = map(yaml.safe_load, blocks("yaml"))
    Path("exports").mkdir()
    source = coco_folder / "annotations/person_keypoints_train2017.json"
    for split in content.values():
        shutil.copy(source, split["annotations"])
    shutil.copytree(coco_folder / "train2017", "pictures")
    Path("mydata.yaml").write_text(blocks("yaml")[0])
    assert len(open_pose_dataset("mydata.yaml", "val")) == 6
