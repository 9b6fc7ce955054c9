"""The HTTP service under load: many clients at once beside one request at a time.

    python experiments/benchmarks/serving.py --weights models/small.onnx --images FOLDER

Every answer is compared with that of the estimator itself. Latencies are those that clients see, on
the same machine, whose processor they share with the service.
"""

import argparse
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from harness import keep, table

from vitpose_jax.inference.estimator import PoseEstimator
from vitpose_jax.serving.app import Limits, make_app


def load(
    address: str, pictures: list[bytes], clients: int, requests: int
) -> tuple[dict[str, Any], list[dict]]:
    """Send requests from so many clients at once; a row of the table, and the answers."""
    with httpx.Client(timeout=300, limits=httpx.Limits(max_connections=clients)) as client:

        def one(i: int) -> tuple[float, dict]:
            began = time.perf_counter()
            files = {"image": pictures[i % len(pictures)]}
            response = client.post(f"{address}/predict", files=files)
            response.raise_for_status()
            return time.perf_counter() - began, response.json()

        began = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            results = list(pool.map(one, range(requests)))
        seconds = time.perf_counter() - began
    times = [found[0] for found in results]
    row: dict[str, Any] = {"clients": clients, "requests": requests}
    row |= {f"p{at} s": float(np.percentile(times, at)) for at in (50, 95, 99)}
    return row | {"requests/s": requests / seconds}, [found[1] for found in results]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--weights", required=True, help="as for `vitpose serve`")
    add("--images", required=True, help="a folder of pictures; each is one person")
    add("--clients", type=int, nargs="+", default=[1, 50])
    add("--requests", type=int, default=200)
    add("--out", help="results file (results/serving.json)")
    options = parser.parse_args()

    pictures = [path.read_bytes() for path in sorted(Path(options.images).glob("*.jpg"))]
    estimator = PoseEstimator.from_pretrained(options.weights, keep_heatmaps=True)
    app = make_app({"model": estimator}, None, Limits(most_waiting=1000, seconds=300))
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    while not server.started:
        time.sleep(0.01)
    rows, first = [], None
    load(address, pictures, 4, len(pictures))  # warm up
    for clients in options.clients:
        row, answers = load(address, pictures, clients, options.requests)
        people = [answer["people"] for answer in answers]
        first = first or people
        row["mixed up"] = sum(not same(a, b) for a, b in zip(people, first, strict=True))
        rows.append(row)
        print(json.dumps(row), flush=True)
    server.should_exit = True
    thread.join()
    keep(
        "serving",
        {"options": vars(options), "rows": rows},
        {"Under load": table(rows, list(rows[0]))},
        options.out,
    )


def same(a: list[dict], b: list[dict]) -> bool:
    """Whether two answers show the same people, up to rounding."""
    scores = ([p["score"] for q in x for p in q["keypoints"].values()] for x in (a, b))
    return bool(np.allclose(*scores, rtol=1e-4, atol=1e-5))


if __name__ == "__main__":
    main()
