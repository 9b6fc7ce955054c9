"""The HTTP service over real connections: answers, limits, overload, and its end."""

import io
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitpose_jax.cli import main
from vitpose_jax.data.synthetic.scene import render_scene
from vitpose_jax.errors import UserError
from vitpose_jax.files.pictures import decode_image
from vitpose_jax.inference.estimator import PoseEstimator, Prediction
from vitpose_jax.serving.answers import boxes_of, picture_of

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
httpx = pytest.importorskip("httpx")
uvicorn = pytest.importorskip("uvicorn")

from vitpose_jax.serving.app import Limits, make_app  # noqa: E402  (needs the extra `serve`)

CLIENTS = 50


@contextmanager
def serving(app) -> Iterator[str]:
    """Run an application on a free port of this machine; its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="on"))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def estimator(exported: Callable[..., Path]) -> PoseEstimator:
    return PoseEstimator.from_exported(exported("classic", "onnx"), keep_heatmaps=True)


@pytest.fixture(scope="module")
def address(estimator: PoseEstimator) -> Iterator[str]:
    """A service that takes whole pictures as people and has tight limits."""
    limits = Limits(most_bytes=400_000, most_pixels=300_000, most_waiting=100, seconds=20)
    with serving(make_app({"one": estimator, "two": estimator}, None, limits)) as found:
        yield found


def picture(seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(render_scene(np.random.default_rng(seed)).pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def ask(address: str, image: bytes, **fields: str):
    return httpx.post(f"{address}/predict", files={"image": image}, data=fields, timeout=60)


def test_fifty_clients_get_their_own_answers(address: str, estimator: PoseEstimator) -> None:
    pictures = [picture(seed) for seed in range(10)]
    boxes = [[10 + i, 5, 60 + 3 * i, 150 - i] for i in range(CLIENTS)]

    def one(i: int):
        fields = {"boxes": json.dumps([boxes[i]]), "model": ("one", "two")[i % 2]}
        return ask(address, pictures[i % 10], **fields)

    with ThreadPoolExecutor(CLIENTS) as pool:
        responses = list(pool.map(one, range(CLIENTS)))
    assert [response.status_code for response in responses] == [200] * CLIENTS
    for i, response in enumerate(responses):
        (found,) = response.json()["people"]
        assert found["box"] == boxes[i]
        (plain,) = estimator(decode_image(pictures[i % 10]), [boxes[i]])
        points = [[p["x"], p["y"]] for p in found["keypoints"].values()]
        scores = [p["score"] for p in found["keypoints"].values()]
        np.testing.assert_allclose(scores, plain.keypoint_scores, rtol=1e-5)
        assert np.median(np.abs(points - plain.keypoints)) < 1e-3
        assert list(found["keypoints"]) == list(estimator.skeleton.keypoint_names)


def test_an_answer_in_full(address: str) -> None:
    response = ask(address, picture(), heatmaps="true")
    answer = response.json()
    (person,) = answer["people"]  # without boxes or a detector, the whole picture
    assert person["box"] == [0, 0, answer["width"], answer["height"]]
    assert person["heatmap"]["region"][2] > answer["width"]
    assert answer["model"] == "one"
    several = ask(address, picture(), boxes="[[0,0,50,90],[20,10,60,90]]").json()
    assert len(several["people"]) == 2
    assert "heatmap" not in several["people"][0]
    assert ask(address, picture(), boxes="[]").json()["people"] == []


@pytest.mark.parametrize(
    ("image", "fields", "status", "told"),
    [
        (b"/etc/passwd", {}, 400, "the picture is not a picture"),
        (b"http://localhost/a.jpg", {}, 400, "the picture is not a picture"),
        (b"", {}, 400, "the picture is empty"),
        (picture()[:3000], {}, 400, "the picture is damaged or truncated"),
        (picture(), {"boxes": "["}, 400, "boxes is not JSON"),
        (picture(), {"boxes": "{}"}, 400, "boxes must be a list"),
        (picture(), {"boxes": "[[1, 2, 3]]"}, 400, "boxes[0] is not"),
        (picture(), {"boxes": "[[1, 2, 3, NaN]]"}, 400, "boxes[0] is not"),
        (picture(), {"boxes": "[[1, 2, 3, true]]"}, 400, "boxes[0] is not"),
        (picture(), {"boxes": "[" * 5000}, 400, "boxes is not JSON"),
        (picture(), {"boxes": str([[0, 0, 1, 1]] * 300)}, 400, "at most 200"),
        (picture(), {"model": "three"}, 404, "no model 'three': there are one, two"),
        (picture(), {"heatmaps": "perhaps"}, 422, "heatmaps: Input should be a valid boolean"),
        (bytes(500_000), {}, 413, "more than 0.4 MB"),
    ],
)
def test_bad_requests_are_answered_in_words(
    image: bytes, fields: dict, status: int, told: str, address: str
) -> None:
    response = ask(address, image, **fields)
    assert response.status_code == status
    assert told in response.json()["detail"]


def test_pictures_of_too_many_pixels_are_not_decoded() -> None:
    buffer = io.BytesIO()
    Image.new("1", (8000, 8000)).save(buffer, "PNG")
    with pytest.raises(UserError, match="has 8000 x 8000 pixels, more than 50 million"):
        picture_of(buffer.getvalue(), 50_000_000)
    assert boxes_of(" ") is None


def connect(address: str) -> socket.socket:
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'


def test_a_body_without_a_length_is_counted(address: str) -> None:
    with connect(address) as client:
        client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(50):
                client.sendall(b"4000\r\n" + PART.ljust(0x4000, b"x") + b"\r\n")
        except OSError:
            pass  # answered and closed meanwhile
        assert b" 413 " in client.recv(1000).split(b"\r\n")[0]


def test_slow_and_cut_off_requests(estimator: PoseEstimator) -> None:
    with serving(make_app({"one": estimator}, None, Limits(seconds=1.0))) as address:
        with connect(address) as slow, connect(address) as cut, connect(address) as rubbish:
            slow.sendall(HEAD + b"Content-Length: 5000\r\n\r\n" + PART)
            cut.sendall(HEAD + b"Content-Length: 5000\r\n\r\n" + PART)
            cut.close()
            rubbish.sendall(b"\x16\x03\x01 what is this\r\n\r\n")
            assert b" 408 " in slow.recv(1000).split(b"\r\n")[0]
            assert b" 400 " in rubbish.recv(1000).split(b"\r\n")[0]
        assert ask(address, picture()).status_code == 200


class Stuck:
    """An estimator that answers when it is told to."""

    batch_size, skeleton, input_size = 0.5, None, (64, 48)  # so that it takes one at a time

    def __init__(self) -> None:
        self.go, self.seen = threading.Event(), 0

    def stream(self, items, skip_errors: bool, keep_images: bool):
        for image, _ in items:
            self.seen += 1
            self.go.wait(30)
            if image.shape[0] == 1:
                raise RuntimeError("broken")
            yield Prediction([], image.shape[1::-1])


def waiting(address: str) -> int:
    text = httpx.get(f"{address}/metrics").text
    return int(float(re.search(r"^vitpose_waiting\S+ (\S+)$", text, re.M)[1]))


def test_overload_is_answered_503_and_the_end_answers_what_was_accepted() -> None:
    stuck = Stuck()
    app = make_app({"stuck": stuck}, None, Limits(most_waiting=3, seconds=30))
    with ThreadPoolExecutor(20) as pool:
        with serving(app) as address:
            futures = [pool.submit(ask, address, picture()) for _ in range(12)]
            deadline, known = time.monotonic() + 20, 0
            while known < 12 and time.monotonic() < deadline:
                time.sleep(0.05)
                known = sum(f.done() for f in futures) + stuck.seen + waiting(address)
            refused = [f.result() for f in futures if f.done()]
            assert {r.status_code for r in refused} == {503}
            assert all(r.headers["retry-after"] == "1" for r in refused)
            assert "pictures wait already" in refused[0].json()["detail"]
            assert len(refused) in (8, 9)
            threading.Timer(0.5, stuck.go.set).start()
        # The block has ended: the service was told to stop while requests were running.
        codes = sorted(f.result().status_code for f in futures)
    assert codes == [200] * (12 - len(refused)) + [503] * len(refused)


def test_a_model_that_takes_too_long_or_fails() -> None:
    stuck = Stuck()
    with serving(make_app({"stuck": stuck}, None, Limits(seconds=0.5))) as address:
        response = ask(address, picture())
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert "no answer within 0.5 seconds" in response.json()["detail"]
        stuck.go.set()
        buffer = io.BytesIO()
        Image.new("L", (5, 1)).save(buffer, "PNG")
        response = ask(address, buffer.getvalue())
        assert response.status_code == 500
        assert response.json()["detail"] == "the service failed: RuntimeError"
        assert ask(address, picture()).status_code == 200


def test_health_models_metrics_and_pages(address: str) -> None:
    assert httpx.get(f"{address}/health").json() == {"status": "ok"}
    models = httpx.get(f"{address}/models").json()
    assert list(models) == ["one", "two"]
    assert models["one"]["keypoints"][0] == "nose"
    ask(address, picture())
    metrics = httpx.get(f"{address}/metrics").text
    assert 'vitpose_requests_total{status="200"}' in metrics
    assert 'vitpose_people_total{model="one"}' in metrics
    for path in ("/", "/docs"):
        page = httpx.get(address + path)
        assert page.headers["content-type"].startswith("text/html")
        assert "//cdn" not in page.text
        assert "https://" not in page.text
    paths = httpx.get(f"{address}/openapi.json").json()["paths"]
    assert set(paths) == {"/predict", "/models", "/health", "/metrics"}


def test_the_command_stops_when_told(exported: Callable[..., Path], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["serve", "--weights", f"mine={exported('classic', 'onnx')}", "--detector", "none"]
    command = [sys.executable, "-m", "vitpose_jax.cli", *words, "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert "serving mine at http://127.0.0.1" in server.stdout.readline()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                httpx.get(f"http://127.0.0.1:{port}/health")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        assert ask(f"http://127.0.0.1:{port}", picture()).json()["model"] == "mine"
        assert main([*words, "--port", str(port)]) == 2  # the port is taken
        server.terminate()
        assert "what was accepted has been answered" in server.stdout.read()
        assert server.wait() == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--weights", "a", "b/a"], "two models are called 'a'; give names, as NAME=W"),
        (["--weights", "a", "--queue", "0"], "--queue: must be more than 0"),
    ],
)
def test_mistakes_in_the_options(words: list[str], told: str, capsys) -> None:
    assert main(["serve", *words, "--detector", "none"]) == 2
    assert told in capsys.readouterr().err


def test_without_the_extra_it_is_asked_for(monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", "--weights", "a"]) == 2
    assert "serving needs uvicorn: pip install 'vitpose-jax[serve]'" in capsys.readouterr().err


@pytest.mark.slow
def test_requests_made_from_its_own_description(address: str) -> None:
    """schemathesis: thousands of requests; none crashes the service or breaks its description."""
    pytest.importorskip("schemathesis")
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json"]
    done = subprocess.run(
        [
            *command,
            "--max-examples",
            "100",
            "--checks",
            "not_a_server_error,status_code_conformance",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert ask(address, picture()).status_code == 200
