"""`vitpose predict` as its users meet it: files in, files and one clear line out."""

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from vitpose_jax.cli import load_command, main
from vitpose_jax.files.videos import VideoReader, VideoWriter
from vitpose_jax.keypoints.decoding import DECODE_METHODS

Run = Callable[..., int]


def results(tmp_path: Path) -> list[dict]:
    return json.loads((tmp_path / "out/keypoints.json").read_text())


def write_boxes(path: Path, content: list | dict) -> Path:
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def folder(photos: Path, tmp_path: Path) -> Path:
    """Six photographs."""
    copy = tmp_path / "photos"
    copy.mkdir()
    for path in sorted(photos.iterdir())[:6]:
        shutil.copy(path, copy)
    return copy


def test_a_folder_with_given_boxes(
    run: Run, folder: Path, tmp_path: Path, detections: list, capsys: pytest.CaptureFixture
) -> None:
    """One result per box of a person, in the file's order, the box as it was given."""
    boxes = write_boxes(tmp_path / "boxes.json", detections)
    assert run(folder, "--boxes", boxes, "--draw", "--heatmaps") == 0
    found = results(tmp_path)
    expected = [
        (path.name, entry["bbox"], entry["score"])
        for path in sorted(folder.iterdir())
        for entry in detections
        if entry["image_id"] == int(path.stem) and entry["category_id"] == 1
    ]
    assert [(r["file_name"], r["bbox"], r["bbox_score"]) for r in found] == expected
    assert len(expected) > 20
    for result in found:
        assert result["image_id"] == int(Path(result["file_name"]).stem)
        assert result["category_id"] == 1
        assert len(result["keypoints"]) == 51
        assert np.isfinite(result["keypoints"]).all()
    for kind in ("drawn", "heatmaps"):
        pictures = sorted((tmp_path / "out" / kind).iterdir())
        assert [p.name for p in pictures] == sorted(p.name for p in folder.iterdir())
        for picture in pictures:
            assert Image.open(picture).size == Image.open(folder / picture.name).size
    captured = capsys.readouterr()
    assert f"{len(found)} people in 6 images" in captured.out
    assert "people/s" in captured.out
    assert str(tmp_path / "out/keypoints.json") in captured.out
    assert captured.out.count("\n") == 1
    assert captured.err == ""


def test_keypoints_that_the_weights_do_not_name(
    golden: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    torch = pytest.importorskip("torch")
    tensors = torch.load(golden / "vitpose_tiny_simple.pth", weights_only=True)["state_dict"]
    tensors["keypoint_head.final_layer.weight"] = torch.ones(4, 96, 3, 3)
    tensors["keypoint_head.final_layer.bias"] = torch.ones(4)
    torch.save(tensors, tmp_path / "fish.pth")
    names = tmp_path / "names.json"
    names.write_text(json.dumps(["snout", "left_fin", "right_fin", "tail"]))
    options = ["--num-heads", 3, "--detector", "none", "--out", tmp_path / "out", "--overwrite"]
    command = ["predict", next(folder.iterdir()), "--weights", tmp_path / "fish.pth", *options]
    assert main([*map(str, command)]) == 2
    assert "what their 4 keypoints are" in capsys.readouterr().err
    assert main([*map(str, [*command, "--skeleton", names])]) == 0
    assert len(results(tmp_path)[0]["keypoints"]) == 12
    assert main([*map(str, [*command, "--skeleton", "moon"])]) == 2
    assert "skeleton 'moon': no such file, and none of the known" in capsys.readouterr().err


def test_near_duplicates_go_only_if_asked(run: Run, folder: Path, tmp_path: Path) -> None:
    path = sorted(folder.iterdir())[0]
    twice = [
        {"image_id": int(path.stem), "bbox": [30, 40, 90, 150], "score": s} for s in (0.4, 0.8)
    ]
    boxes = write_boxes(tmp_path / "boxes.json", twice)
    assert run(path, "--boxes", boxes) == 0
    assert [r["bbox_score"] for r in results(tmp_path)] == [0.4, 0.8]
    assert run(path, "--boxes", boxes, "--nms") == 0
    assert [r["bbox_score"] for r in results(tmp_path)] == [0.8]


def test_options_reach_the_network(run: Run, folder: Path, tmp_path: Path) -> None:
    path = sorted(folder.iterdir())[0]
    found = []
    for extra in ([], ["--no-flip-test"], ["--decoder", "default"], ["--dtype", "bfloat16"]):
        assert run(path, "--detector", "none", "--batch-size", 1, *extra) == 0
        (result,) = results(tmp_path)
        found.append(result["keypoints"])
    width, height = Image.open(path).size
    assert result["bbox"] == [0, 0, width, height]
    assert len({tuple(keypoints) for keypoints in found}) == 4
    assert run(path, "--detector", "none", "--input-size", "128x96") == 0
    assert len(results(tmp_path)) == 1


def test_a_bad_picture_costs_only_itself(
    run: Run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    paths = sorted(folder.iterdir())
    paths[1].write_bytes(paths[1].read_bytes()[:5000])
    paths[3].write_bytes(b"not a picture")
    assert run(folder, "--detector", "none") == 1
    assert [r["file_name"] for r in results(tmp_path)] == [paths[i].name for i in (0, 2, 4, 5)]
    captured = capsys.readouterr()
    assert "4 people in 4 images" in captured.out
    lines = captured.err.splitlines()
    assert len(lines) == 3
    assert paths[1].name in lines[1]
    assert "truncated" in lines[1]
    assert paths[3].name in lines[2]


def test_bad_boxes_cost_only_themselves(
    run: Run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = sorted(folder.iterdir())[0]
    bad = [[5, 5, 0, 9], [5, 5, -7, 9], [float("nan"), 0, 9, 9], [9000, 0, 9, 9]]
    rows = [*bad[:2], [30, 40, 90, 150], *bad[2:]]
    entries = [{"image_id": int(path.stem), "bbox": row} for row in rows]
    assert run(path, "--boxes", write_boxes(tmp_path / "b.json", entries)) == 1
    found = results(tmp_path)
    assert len(found) == 5
    assert [r["score"] > 0 for r in found] == [False, False, True, False, False]
    assert found[3]["bbox"] == [None, 0, 9, 9]
    assert found[1]["bbox"] == [5, 5, -7, 9]
    lines = capsys.readouterr().err.splitlines()[1:]
    assert len(lines) == 4
    for line, (entry, what) in zip(
        lines,
        [(0, "size 0 x 9"), (1, "size -7 x 9"), (3, "not a number"), (4, "outside")],
        strict=True,
    ):
        assert f"entry {entry} ({path.name})" in line
        assert what in line


def one_line(capsys: pytest.CaptureFixture, *words: str) -> None:
    error = capsys.readouterr().err
    assert error.startswith("vitpose predict: ")
    assert error.count("\n") == 1
    for word in words:
        assert word in error


def test_nothing_to_be_done(
    run: Run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Each is one line that names the culprit, and status 2."""
    photo = sorted(folder.iterdir())[0]
    empty, broken = tmp_path / "empty", tmp_path / "broken.jpg"
    empty.mkdir()
    broken.write_bytes(b"")
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"no video")
    none = write_boxes(tmp_path / "none.json", [])
    elsewhere = write_boxes(tmp_path / "else.json", [{"image_id": 1, "bbox": [0, 0, 5, 5]}])
    wrong = write_boxes(tmp_path / "wrong.json", [{"image_id": 1, "box": [0, 0, 5, 5]}])
    cases = [
        ((tmp_path / "gone.jpg", "--detector", "none"), ("gone.jpg", "no such file")),
        ((empty, "--detector", "none"), ("empty", "no picture")),
        ((broken, "--detector", "none"), ("broken.jpg", "is empty")),
        ((clip, "--detector", "none"), ("clip.mp4", "cannot be opened")),
        ((photo, "--boxes", none), ("none.json", "no boxes")),
        ((photo, "--boxes", wrong), ("wrong.json", "entry 0", "bbox")),
        ((photo, "--boxes", elsewhere), ("else.json", "no box for any")),
        ((photo, "--boxes", tmp_path / "gone.json"), ("gone.json", "no such file")),
        ((photo, "--boxes", none, "--detector", "none"), ("exclude each other",)),
        ((photo, "--detector", "yolo"), ("no detector 'yolo'",)),
        ((photo, "--detector", "none", "--batch-size", 0), ("batch size 0",)),
    ]
    for arguments, words in cases:
        assert run(*arguments) == 2
        one_line(capsys, *words)
        assert not (tmp_path / "out/keypoints.json").exists()


def test_all_of_several_inputs_bad(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"x")
    assert run(tmp_path / "a.jpg", tmp_path / "b.jpg", "--detector", "none") == 2
    error = capsys.readouterr().err
    assert "a.jpg" in error
    assert "b.jpg" in error
    assert "none of the inputs" in error


def test_out_is_a_file(
    run: Run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "out").touch()
    assert run(folder, "--detector", "none") == 2
    one_line(capsys, "the folder cannot be made")


def test_results_that_cannot_be_written(
    run: Run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The pictures stay, and what was wrong with others is said all the same."""
    (tmp_path / "out/keypoints.json").mkdir(parents=True)
    sorted(folder.iterdir())[1].write_bytes(b"not a picture")
    assert run(folder, "--detector", "none", "--draw") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "not a picture" in lines[1]
    assert "keypoints.json: cannot be written (Is a directory)" in lines[2]
    assert len(list((tmp_path / "out/drawn").iterdir())) == 5


def test_a_file_where_the_folder_of_pictures_goes(
    run: Run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/drawn").touch()
    assert run(folder, "--detector", "none", "--draw") == 2
    one_line(capsys, "drawn: the folder cannot be made")
    assert results(tmp_path)


def test_a_picture_that_cannot_be_encoded_costs_only_itself(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """JPEG ends at 65500 pixels."""
    for name, shape in (("a.tiff", (8, 66000, 3)), ("b.png", (60, 80, 3))):
        Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / name)
    assert run(tmp_path / "a.tiff", tmp_path / "b.png", "--detector", "none", "--draw") == 1
    assert "drawn/a.tiff.jpg: the picture cannot be encoded" in capsys.readouterr().err
    assert len(results(tmp_path)) == 2
    assert (tmp_path / "out/drawn/b.png").exists()


def test_pictures_of_one_name_are_drawn_apart(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("x", "w/x"):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(tmp_path / folder / "a.jpg")
    monkeypatch.chdir(tmp_path / "w")
    assert run("../x/a.jpg", "x/a.jpg", "--detector", "none", "--draw") == 0
    drawn = tmp_path / "out/drawn"
    found = {str(path.relative_to(drawn)) for path in drawn.rglob("*.jpg")}
    assert (
        found == {result["file_name"] for result in results(tmp_path)} == {"x/a.jpg", "w/x/a.jpg"}
    )


def test_damaged_weights_lose_nothing(
    run: Run,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    nothing = np.full((17, 2), np.nan, np.float32), np.full(17, np.nan, np.float32)
    monkeypatch.setattr(
        "vitpose_jax.inference.model_network.ModelNetwork.run",
        lambda self, crops, center, scale: [np.stack([row] * len(crops)) for row in nothing],
    )
    assert run(folder, "--detector", "none", "--draw", "--nms") == 1
    assert "1 problem(s)" in (told := capsys.readouterr().err)
    assert "scores that are not numbers" in told
    assert [set(result["keypoints"]) for result in results(tmp_path)] == [{None}] * 6


def test_a_detector_file(
    run: Run, tmp_path: Path, bright_rectangle_detector: Callable[..., Path]
) -> None:
    pytest.importorskip("onnx")
    detector = bright_rectangle_detector(tmp_path / "bright.onnx")
    image = np.full((300, 400, 3), 10, np.uint8)
    Image.fromarray(image).save(tmp_path / "dark.png")
    image[100:200, 100:300] = 250
    Image.fromarray(image).save(tmp_path / "bright.png")
    assert run(tmp_path / "dark.png", tmp_path / "bright.png", "--detector", detector) == 0
    (result,) = results(tmp_path)
    assert result["file_name"] == "bright.png"
    np.testing.assert_allclose(result["bbox"], [100, 100, 200, 100], atol=13)
    assert "image_id" not in result


def test_a_video(run: Run, photos: Path, tmp_path: Path) -> None:
    """Tracks, an annotated video as long as the original, and results that are boxes again."""
    photo = np.asarray(Image.open(sorted(photos.iterdir())[0]).convert("RGB"))[:240, :321]
    clip = tmp_path / "clip.mp4"
    with VideoWriter(clip, 10) as writer:
        for shift in range(7):
            writer.write(np.roll(photo, 3 * shift, axis=1))
    entries = [
        {"file_name": "clip.mp4", "frame": i, "bbox": [x + 3 * i, 20, 80, 160]}
        for i in (0, 1, 2, 4, 5, 6)
        for x in (30, 180)
    ]
    boxes = write_boxes(tmp_path / "b.json", entries)
    assert run(clip, "--boxes", boxes, "--draw", "--heatmaps") == 0
    found = results(tmp_path)
    assert [(r["frame"], r["bbox"]) for r in found] == [(e["frame"], e["bbox"]) for e in entries]
    assert [r["track_id"] for r in found] == [1, 2] * 6
    for kind in ("drawn", "heatmaps"):
        with VideoReader(tmp_path / "out" / kind / "clip.mp4") as reader:
            assert len(list(reader)) == 7
    again = shutil.copy(tmp_path / "out/keypoints.json", tmp_path / "again.json")
    assert run(clip, "--boxes", again, "--smooth") == 0
    smooth = results(tmp_path)
    assert [r["bbox"] for r in smooth] == [r["bbox"] for r in found]
    assert smooth[0]["keypoints"] == found[0]["keypoints"]
    assert smooth[-1]["keypoints"] != found[-1]["keypoints"]


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    """Two short videos."""
    paths = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for path in paths:
        with VideoWriter(path, 10) as writer:
            for _ in range(6):
                writer.write(np.zeros((64, 64, 3), np.uint8))
    return paths


def test_without_an_encoder_there_are_results_and_a_problem(
    run: Run,
    clips: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    assert run(*clips, "--detector", "none", "--draw") == 1
    assert [r["file_name"] for r in results(tmp_path)] == ["a.mp4"] * 6 + ["b.mp4"] * 6
    told = capsys.readouterr()
    assert "annotated video: " in told.err
    assert "no H.264 encoder" in told.err
    assert "; video " not in told.out


def interrupt_at(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the person of that number, from 1, is written down."""
    from vitpose_jax.inference import results

    original, taken = results.coco_result, []

    def interrupt(*arguments: object) -> dict:
        taken.append(1)
        if len(taken) == count:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(results, "coco_result", interrupt)


def test_an_interrupted_video_is_closed_with_all_its_frames(
    run: Run, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitpose_jax.inference import draw

    def slowly(image: np.ndarray, *_: object, **__: object) -> np.ndarray:
        time.sleep(0.05)
        return image

    monkeypatch.setattr(draw, "draw_people", slowly)
    interrupt_at(5, monkeypatch)
    assert run(clips[0], "--detector", "none", "--draw") == 130
    assert len(results(tmp_path)) == 4
    with VideoReader(tmp_path / "out/drawn/a.mp4") as reader:
        assert len(list(reader)) == 4


def test_options_and_boxes_of_no_use_are_told(
    run: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    clip, photo = tmp_path / "clip.mp4", sorted(photos.iterdir())[0]
    with VideoWriter(clip, 10) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
    boxes = write_boxes(tmp_path / "b.json", [{"file_name": photo.name, "bbox": [30, 40, 90, 150]}])
    assert run(clip, "--boxes", boxes) == 2
    one_line(
        capsys, "b.json", "no box for any of the 1 inputs", "file_name, with the frame's number"
    )
    assert run(photo, clip, "--boxes", boxes, "--heatmaps", "--smooth") == 0
    told = capsys.readouterr().out
    assert f"{boxes} has no box for 1 video(s): clip.mp4" in told
    assert "--smooth" not in told
    assert run(photo, "--boxes", boxes, "--heatmaps", "--smooth") == 0
    assert "--smooth has no effect on pictures" in capsys.readouterr().out


def test_the_category_of_a_box_is_that_of_its_result(
    run: Run, photos: Path, tmp_path: Path
) -> None:
    path = sorted(photos.iterdir())[0]
    entry = {"file_name": path.name, "bbox": [30, 40, 90, 150], "category_id": 7}
    content = {"annotations": [entry], "categories": [{"id": 7, "name": "person"}]}
    assert run(path, "--boxes", write_boxes(tmp_path / "b.json", content)) == 0
    assert [result["category_id"] for result in results(tmp_path)] == [7]


def test_interrupted_runs_keep_what_they_have(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(4, monkeypatch)
    assert run(folder, "--detector", "none") == 130
    assert len(results(tmp_path)) == 3


def test_bad_size_option(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "x.jpg", "--weights", "w", "--input-size", "256"])
    assert "HEIGHTxWIDTH" in capsys.readouterr().err


def test_decoders_offered_are_those_there_are() -> None:
    """Both lists are written out, so that `vitpose --help` need not import the decoders."""
    _, parser = load_command("predict")
    (decoder,) = (action for action in parser._actions if action.dest == "decoder")
    assert set(decoder.choices) == set(DECODE_METHODS)


def test_videos_with_true_times_and_with_early_ends(
    run: Run, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run(shared / "field-cases/vfr.mp4", "--detector", "none", "--smooth", "--draw") == 0
    times = {result["frame"]: result["time"] for result in results(tmp_path)}
    assert (times[0], times[10], times[29]) == (0, pytest.approx(0.4), pytest.approx(1.28))
    with VideoReader(tmp_path / "out/drawn/vfr.mp4") as drawn:
        np.testing.assert_allclose([drawn.time for _ in drawn], [*times.values()], atol=1e-3)
    capsys.readouterr()
    assert run(shared / "field-cases/cut.mp4", "--detector", "none") == 1
    assert len(results(tmp_path)) >= 28
    assert re.search(r"cut\.mp4: ends after \d+ of 60 frames", capsys.readouterr().err)


def test_formats_that_are_not_read_are_told(
    run: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    shutil.copy(sorted(photos.iterdir())[0], folder / "a.jpg")
    picture = Image.new("RGB", (64, 48))
    picture.save(folder / "b.gif", save_all=True, append_images=[Image.new("RGB", (64, 48), "red")])
    for name in ("c.svg", "d.jxl", "e.psd", "f.psd"):
        (folder / name).write_bytes(b"<svg")
    assert run(folder, "--detector", "none") == 1
    assert [result["file_name"] for result in results(tmp_path)] == ["a.jpg", "b.gif"]
    told = capsys.readouterr().err
    assert "mixed: files in unsupported formats were left out: 1 .jxl, 2 .psd, 1 .svg" in told
    assert "b.gif: holds several pictures (an animation or pages); only the first is used" in told
