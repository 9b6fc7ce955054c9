"""Everything that needs an accelerator, in one run of under seven minutes.

    python experiments/benchmarks/gpu.py [--out gpu.json]

Random weights, nothing downloaded; needs jax for the device, flax, optax, opencv, pillow and
safetensors, and for the peer torch and transformers. Measures, in bfloat16: the matrix peak; the
network alone for S, B, L and H at batch 256 with its deviation from float32 (heatmaps of eight
crops in parts of their largest value; crop pixels by which keypoints moved), beside it with XLA's
attention and with the options that XLA has by default, next to torch.compile (SDPA,
max-autotune-no-cudagraphs) in a process of its own; full training steps and frozen-backbone FPN
steps, with the memory that XLA plans for; photographs to keypoints; and, with more than one device,
sharded steps. What would not fit into the time left is skipped and named. Results are written after
every part.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the peer's process needs some
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # works from a bare checkout
SIZES = ("base", "small", "large", "huge")
BATCH = 256
PEER = "--peer"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=SIZES)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--photographs", type=int, default=256, help="JPEG files of four people")
    parser.add_argument("--minutes", type=float, default=6.0, help="start no new part after this")
    parser.add_argument("--decoder", default="classic", choices=("classic", "simple"))
    parser.add_argument("--out", help="results file (results/gpu.json)")
    parser.add_argument(PEER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        print(json.dumps(torch_rate(options.peer, options.batch, options.decoder)))
        return
    Benchmark(options).run()


def torch_rate(size: str, batch: int, decoder: str) -> dict[str, Any]:
    """Images per second of torch.compile in bfloat16, and PyTorch's own matrix peak."""
    import numpy as np
    import peers
    import torch
    from harness import race

    device = peers.torch_device()
    side, calls = (8192, 20) if device == "cuda" else (1024, 1)
    left, right = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    product = race({"product": lambda: left @ right}, 5, calls)["product"]

    model = peers.transformers_model(size, decoder)
    crops = np.random.default_rng(0).standard_normal((batch, 256, 192, 3), np.float32)
    run = peers.compiled(model, crops, "bfloat16")
    times = race({"run": run}, 7, 5)["run"]
    peak = 2 * side**3 / product["best"] / 1e12
    rate = batch / times["median"]
    return {"images/s": rate, "spread": times["spread"], "peak TFLOP/s": peak}


class Benchmark:
    """The parts in the order of their worth, until the time is up."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.began = time.perf_counter()
        self.result: dict[str, Any] = {"options": vars(options), "skipped": [], "errors": {}}
        self.result["peak"] = {}  # without one there are no shares, but all else

    def run(self) -> None:
        first, *others = self.options.sizes
        self.part(f"torch.compile, {first}", self.peer, first)
        self.part("peak", self.peak)
        self.part(f"inference, {first}", self.inference, first)
        for task in ("full", "fpn"):
            self.part(f"training, {task}, {first}", self.training, first, task)
        self.part("photographs", self.photographs)
        for size in others:
            self.part(f"inference, {size}", self.inference, size)
        for task in ("full", "fpn"):
            for size in others:
                self.part(f"training, {task}, {size}", self.training, size, task)
        for size in others:
            self.part(f"torch.compile, {size}", self.peer, size)
        self.part("sharding", self.sharding)
        self.keep(True)

    def part(self, name: str, action: Any, *arguments: Any) -> None:
        if time.perf_counter() - self.began > 60 * self.options.minutes:
            self.result["skipped"].append(name)
            return
        started = time.perf_counter()
        try:
            action(*arguments)
        except Exception as error:  # one part's failure leaves the others their chance
            self.result["errors"][name] = f"{type(error).__name__}: {error}"[:2000]
            traceback.print_exc()
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
        self.keep(False)

    def peer(self, size: str) -> None:
        command = [sys.executable, __file__, PEER, size, "--batch", str(self.options.batch)]
        command += ["--decoder", self.options.decoder]
        left = min(180.0, 60 * self.options.minutes - (time.perf_counter() - self.began) + 60)
        # JAX stays off the device there, or it would take most of its memory.
        environment = os.environ | {"JAX_PLATFORMS": "cpu"}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=left, env=environment
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-1500:])
        rate = json.loads(done.stdout.splitlines()[-1])
        self.result.setdefault("torch.compile", {})[size] = rate

    def peak(self) -> None:
        from harness import measured_peak

        self.result["peak"]["bfloat16"] = measured_peak("bfloat16")

    def inference(self, size: str) -> None:
        import numpy as np
        from harness import backbone_flops, decoder_flops, race, random_model
        from inference import keypoints, moved, ours

        batch, decoder = self.options.batch, self.options.decoder
        crops = np.random.default_rng(0).standard_normal((batch, 256, 192, 3), np.float32)
        exact = random_model(size, decoder, "float32")
        model = random_model(size, decoder, "bfloat16")
        flops = backbone_flops(model.config.backbone) + decoder_flops(model.config)

        runners = {"default": ours(model, crops, False), "flip": ours(model, crops, True)}
        if size == self.options.sizes[0]:
            runners |= self._without(model, crops)
        few = crops[:8]
        reference = {flip: np.asarray(ours(exact, few, flip)()) for flip in (False, True)}
        found = {name: np.asarray(run()[:8], np.float32) for name, run in runners.items()}
        peak = self.result["peak"].get("bfloat16")
        rows = self.result.setdefault("inference", [])
        for name, times in race(runners, 7, 5).items():
            flip = name == "flip"
            rate = flops * batch * (1 + flip) / times["median"]
            off = np.abs(found[name] - reference[flip]).max() / np.abs(reference[flip]).max()
            rows.append(
                {
                    "size": size,
                    "runner": name,
                    "batch": batch,
                    "images/s": batch / times["median"],
                    "spread": times["spread"],
                    "TFLOP/s": rate / 1e12,
                    "share": rate / peak if peak else None,
                    "deviation": float(off),
                    "moved": moved(keypoints(found[name]), keypoints(reference[flip])),
                }
            )

    @staticmethod
    def _without(model: Any, crops: Any) -> dict[str, Any]:
        """The network without cuDNN's attention, and without the options we give XLA."""
        from unittest import mock

        import inference
        import jax

        from vitpose_jax.models import vit

        runners = {}
        for name, change in {
            "XLA's attention": mock.patch.object(vit, "attention", _xla_attention),
            "XLA's options": mock.patch.object(inference, "compiler_options", return_value=None),
        }.items():
            with change:
                runners[name] = inference.ours(model, crops, False)
                jax.block_until_ready(runners[name]())  # traced here
        return runners

    def training(self, size: str, task: str) -> None:
        from training_step import measure

        batch = self.options.batch if size in ("small", "base") else self.options.batch // 2
        rows = measure({task: (task, size, batch, "bfloat16")}, 5, self.result["peak"])
        self.result.setdefault("training", []).extend(rows)

    def photographs(self) -> None:
        """From JPEG files and boxes to keypoints, by `PoseEstimator` as users get it."""
        import tempfile

        import cv2
        import numpy as np
        from harness import race, random_model

        from vitpose_jax.inference.estimator import PoseEstimator

        rng = np.random.default_rng(0)
        model = random_model("base", self.options.decoder, "bfloat16")
        boxes = np.array([[40 + 130 * i, 60, 120, 320] for i in range(4)], np.float32)
        with tempfile.TemporaryDirectory() as folder:
            items = []
            for i in range(self.options.photographs):
                items.append((str(Path(folder) / f"{i}.jpg"), boxes))
                cv2.imwrite(items[-1][0], _picture(rng))
            items *= 8
            for flip in (True, False):
                estimator = PoseEstimator(model, flip_test=flip)
                estimator.compile()

                def run(estimator: PoseEstimator = estimator) -> None:
                    for _ in estimator.stream(items, keep_images=False):
                        pass

                times = race({"run": run}, 3)["run"]
                began = time.thread_time()
                run()
                launching = time.thread_time() - began
                row = {"flip": flip, "batch": estimator.batch_size, "cores": os.cpu_count()}
                row["people/s"] = 4 * len(items) / times["median"]
                row |= {"spread": times["spread"], "processor s/person": times["processor"]}
                row["processor s/person"] /= 4 * len(items)
                row["of that the launching thread's"] = launching / (4 * len(items))
                self.result.setdefault("photographs", []).append(row)

    def sharding(self) -> None:
        """Over 1, 2, 4, ... of the devices (scaling.py has virtual ones)."""
        import jax
        import numpy as np
        from harness import race
        from jax.sharding import Mesh
        from training_step import pose_step

        from vitpose_jax.training.sharding import AXIS

        rows = self.result.setdefault("scaling", [])
        count = 1
        while count <= len(jax.devices()) > 1:
            mesh = Mesh(np.asarray(jax.devices()[:count]), (AXIS,))
            batch = self.options.batch * count
            step, _ = pose_step("base", batch, "bfloat16", False, mesh)
            median = race({"step": step}, 5, 5)["step"]["median"]
            rows.append({"devices": count, "batch": batch, "samples/s": batch / median})
            count *= 2

    def keep(self, last: bool) -> None:
        import contextlib
        import io

        from harness import keep, table

        self.result["seconds"] = time.perf_counter() - self.began
        rates = self.result.get("torch.compile", {})
        for row in self.result.get("inference", []):
            if row["runner"] == "default" and row["size"] in rates:
                row["times torch.compile"] = row["images/s"] / rates[row["size"]]["images/s"]
        peaks = self.result.get("peak", {})
        tables = {"Peak, TFLOP/s": ", ".join(f"{k} {v / 1e12:.4g}" for k, v in peaks.items())}
        for name in ("inference", "training", "photographs", "scaling"):
            if rows := self.result.get(name):
                columns = list(dict.fromkeys(key for row in rows for key in row))
                tables[name.capitalize()] = table(rows, columns)
        if rates:
            rows = [{"size": size} | rate for size, rate in rates.items()]
            tables["torch.compile"] = table(rows, list(rows[0]))
        for name in ("skipped", "errors"):
            if self.result[name]:
                tables[name.capitalize()] = str(self.result[name])
        with contextlib.nullcontext() if last else contextlib.redirect_stdout(io.StringIO()):
            keep("gpu", self.result, tables, self.options.out)


def _picture(rng: Any) -> Any:
    """Noise of three scales, 640 x 480: as a JPEG about as large as a photograph (115 kB)."""
    import cv2
    import numpy as np

    layers = (((60, 80), 128), ((240, 320), 24), ((480, 640), 6))
    image = sum(
        cv2.resize(rng.uniform(0, amplitude, (*shape, 3)).astype(np.float32), (640, 480))
        for shape, amplitude in layers
    )
    return image.astype(np.uint8)


def _xla_attention(query: Any, key: Any, value: Any) -> Any:
    import jax

    return jax.nn.dot_product_attention(query, key, value, implementation="xla")


if __name__ == "__main__":
    main()
