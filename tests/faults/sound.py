"""Sound inputs of every kind, small and always the same, to be damaged."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np

PICTURES = (
    "a.jpg", "progressive.jpg", "grey.jpg", "cmyk.jpg", "a.png", "palette.png", "16bit.png",
    "a.gif", "a.bmp", "a.webp", "a.tif", "lzw.tif", "jpeg.tif", "a.ppm", "a.jp2", "a.avif", "a.mpo",
    "turned.jpg",
)  # fmt: skip
VIDEOS = (
    ("v.mp4", "libx264"), ("v.mkv", "libx264"), ("v.mov", "mpeg4"), ("v.webm", "libvpx-vp9"),
    ("v.avi", "mjpeg"), ("v.ts", "libx264"), ("v.flv", "flv"), ("v.wmv", "wmv2"),
)  # fmt: skip
NAMES = [f"point_{i}" for i in range(17)]
TINY_POSE = {"width": 16, "depth": 1, "num_heads": 2, "input_size": (32, 32)}


def pixels(seed: int = 0, height: int = 48, width: int = 64) -> np.ndarray:
    """A smooth coloured pattern with some noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / rng.uniform(4, 9) + y / rng.uniform(4, 9) + i) for i in range(3)]
    noise = rng.uniform(-20, 20, (height, width, 3))
    return np.clip(127 + 90 * np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


def write_picture(folder: Path, variant: int) -> None:
    """One of PICTURES."""
    from PIL import Image

    name = PICTURES[variant]
    image, more = Image.fromarray(pixels(variant)), {}
    stem = name.partition(".")[0]
    if stem in ("grey", "cmyk", "palette"):
        image = image.convert({"grey": "L", "cmyk": "CMYK", "palette": "P"}[stem])
    if stem == "16bit":
        image = Image.fromarray(pixels(variant)[..., 0].astype(np.uint16) * 257)
    more |= {"progressive": True} if stem == "progressive" else {}
    if stem in ("lzw", "jpeg"):
        more["compression"] = {"lzw": "tiff_lzw", "jpeg": "jpeg"}[stem]
    if stem == "turned":
        exif = Image.Exif()
        exif[274] = 6
        more["exif"] = exif
    image.save(folder / name, **more)


def write_video(folder: Path, variant: int) -> None:
    """One of VIDEOS: 12 frames."""
    import av

    name, codec = VIDEOS[variant]
    with av.open(str(folder / name), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = 6
        stream.codec_context.thread_count = 1
        for index in range(12):
            image = np.ascontiguousarray(np.roll(pixels(), 2 * index, axis=1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def annotations(count: int = 4) -> dict:
    """COCO annotations of one person on each of some pictures."""
    images = [
        {"id": i, "file_name": f"{i}.png", "width": 64, "height": 48} for i in range(1, count + 1)
    ]
    people = []
    for i in range(1, count + 1):
        points = [[10 + 2 * k, 8 + 2 * k, 2] for k in range(17)]
        people.append({"id": 100 + i, "image_id": i, "category_id": 1, "iscrowd": 0})
        people[-1] |= {"bbox": [5.0, 4.0, 50.0, 40.0], "area": 1500.0, "num_keypoints": 17}
        people[-1]["keypoints"] = [value for point in points for value in point]
    category = {"id": 1, "name": "person", "keypoints": NAMES, "skeleton": [[1, 2], [2, 3]]}
    return {"images": images, "annotations": people, "categories": [category]}


def write_coco(folder: Path, variant: int = 0) -> None:
    """A data set in COCO's layout; the train split is what will be damaged."""
    from PIL import Image

    (folder / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (folder / f"{split}2017").mkdir()
        for image in annotations()["images"]:
            Image.fromarray(pixels()).save(folder / f"{split}2017" / image["file_name"])
        file = folder / "annotations" / f"person_keypoints_{split}2017.json"
        file.write_text(json.dumps(annotations()))


def write_yolo(folder: Path, variant: int = 0) -> None:
    """A data set in YOLO's layout."""
    from PIL import Image

    for split in ("train", "val"):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(pixels()).save(folder / "images" / split / f"{i}.png")
            points = " ".join(f"{0.2 + 0.03 * k:.4f} {0.2 + 0.03 * k:.4f} 2" for k in range(17))
            (folder / "labels" / split / f"{i}.txt").write_text(f"0 0.5 0.5 0.8 0.8 {points}\n")
    (folder / "data.yaml").write_text(
        "path: .\ntrain: images/train\nval: images/val\nkpt_shape: [17, 3]\n"
        f"flip_idx: {[*range(17)]}\nnames: {{0: person}}\n"
    )


def write_boxes(folder: Path, variant: int = 0) -> None:
    """Detections on pictures by name."""
    boxes = [
        {
            "file_name": f"{i}.png",
            "bbox": [1.0 + i, 2.0, 30.0, 40.0],
            "score": 0.9,
            "category_id": 1,
        }
        for i in range(6)
    ]
    (folder / "boxes.json").write_text(json.dumps(boxes))


def write_results(folder: Path, variant: int = 0) -> None:
    """The keypoints of a video: 0 as JSON, 1 as a journal."""
    from vitpose_jax.inference.journal import FORM, as_bytes

    rows = []
    for frame in range(8):
        points = [value for k in range(17) for value in (10.0 + k + frame, 20.0 + k, 0.9)]
        rows.append({"file_name": "v.mp4", "image_id": frame, "category_id": 1, "score": 0.9})
        rows[-1] |= {"keypoints": points, "bbox": [1.0, 2.0, 30.0, 40.0]}
        rows[-1] |= {"frame": frame, "time": frame / 25, "track_id": 1}
    if not variant:
        (folder / "keypoints.json").write_text(json.dumps(rows))
        return
    header = {"journal": FORM, "settings": {}, "inputs": {}, "skeleton": "coco", "model": {}}
    parts = [json.dumps(header).encode() + b"\n"]
    for row in rows:
        head = {"video": "v.mp4", "frame": row["frame"], "time": row["time"], "size": [64, 48]}
        parts.append(as_bytes(head, [json.dumps(row)]))
    parts.append(as_bytes({"end": "v.mp4", "restart": True}))
    (folder / "keypoints.journal").write_bytes(b"".join(parts))


def write_weights(folder: Path, variant: int = 0) -> None:
    """A tiny pose model: 0 a native folder, 1 a .pth, 2 a hub folder."""
    from flax import nnx

    from vitpose_jax.models.decoders import DecoderConfig
    from vitpose_jax.models.pose import PoseConfig, PoseModel
    from vitpose_jax.models.vit import ViTConfig
    from vitpose_jax.weights.huggingface import write_huggingface
    from vitpose_jax.weights.native import read_folder, save_pose_model
    from vitpose_jax.weights.original import write_original

    kind = "simple" if variant == 2 else "classic"
    decoder = DecoderConfig(kind=kind, in_channels=TINY_POSE["width"], filters=(8, 8))
    model = PoseModel(PoseConfig(ViTConfig(**TINY_POSE), decoder, dataset="coco"), rngs=nnx.Rngs(0))
    save_pose_model(model, folder / "w")
    if variant:
        stored = read_folder(folder / "w")
        shutil.rmtree(folder / "w")
        (write_original if variant == 1 else write_huggingface)(
            stored, folder / ("w.pth" if variant == 1 else "w")
        )


def write_forecaster(folder: Path, variant: int = 0) -> None:
    """A tiny forecaster, as a folder of weights."""
    from vitpose_jax.weights.forecaster import build_forecaster, save_forecaster

    tiny = {"kind": "forecaster", "width": 8, "num_heads": 2, "readout_width": 8}
    save_forecaster(build_forecaster(tiny | {"readout_depth": 1}), folder / "f")


def write_sequence(folder: Path, variant: int) -> None:
    """A 3DPW file, in an old or a new protocol."""
    frames, rng = 6, np.random.default_rng(0)
    poses = rng.uniform(100, 500, (1, frames, 3, 18)).astype(np.float32)
    content = {
        "sequence": "walk",
        "poses2d": list(poses),
        "jointPositions": list(rng.normal(size=(1, frames, 72)).astype(np.float32)),
        "campose_valid": [np.ones(frames, np.float32)],
        "cam_poses": np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1)),
        "cam_intrinsics": np.eye(3, dtype=np.float32),
        "img_frame_ids": np.arange(frames),
        "genders": ["m"],
    }
    (folder / "walk.pkl").write_bytes(pickle.dumps(content, (0, 2, 4, 5)[variant]))


def write_metrics(folder: Path, variant: int = 0) -> None:
    """A run's log."""
    rows = [{"step": s, "train/loss": 1 / s, "train/lr": 0.1} for s in range(1, 31)]
    rows += [{"step": 30, "eval/error": 0.5}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_run(folder: Path, variant: int = 0) -> None:
    """A finished run of linear regression, with two checkpoints."""
    import regression_run

    from vitpose_jax.training import loop

    loop.train(regression_run.make_task(), regression_run.make_config(), folder / "run")


def write_records(folder: Path, variant: int = 0) -> None:
    """A data set as ArrayRecord crops."""
    from vitpose_jax.data.records.writing import prepare

    write_coco(folder / "coco")
    prepare(str(folder / "coco"), folder / "records", input_size=(32, 32))
    shutil.rmtree(folder / "coco")
