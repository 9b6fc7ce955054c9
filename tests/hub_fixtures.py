"""A Hugging Face hub on this machine, with the little of its protocol that downloads use."""

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from flax import nnx

from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.pose import PoseConfig, PoseModel
from vitpose_jax.models.vit import ViTConfig
from vitpose_jax.weights import save_pose_model
from vitpose_jax.weights.hub import snapshot_folder
from vitpose_jax.weights.zoo import DEFAULT_DETECTOR, DEFAULT_POSE_MODEL, DETECTORS, POSE_MODELS

REVISION = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Serves files; `requests` lists what was asked for: (method, path, Range or None)."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.break_after: int | None = None  # bytes of the next download, then the line is cut
        self.lie_about_sha256: str | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def add(self, repository: str, name: str, content: bytes, revision: str = REVISION) -> str:
        """Offer a file; its SHA-256."""
        self.files[f"/{repository}/resolve/{revision}/{name}"] = content
        self.files[f"/{repository}/resolve/main/{name}"] = content
        return hashlib.sha256(content).hexdigest()

    def downloads(self) -> list[str]:
        got = [path for method, path, _ in self.requests if method == "GET" and "/resolve/" in path]
        return [path.rpartition("/")[2] for path in got]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(hub) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self._answer(has_body=False)

            def do_GET(self) -> None:
                if self.path.startswith("/api/models/"):
                    self._answer_about(self.path.removeprefix("/api/models/"))
                else:
                    self._answer(has_body=True)

            def _answer_about(self, rest: str) -> None:
                repository = rest.split("/revision")[0].split("/tree")[0]
                prefix = f"/{repository}/resolve/main/"
                names = [path.removeprefix(prefix) for path in hub.files if path.startswith(prefix)]
                tree = [{"type": "file", "path": n, "size": 1, "oid": "0" * 40} for n in names]
                about = {"id": repository, "sha": REVISION, "siblings": []}
                about["siblings"] = [{"rfilename": name} for name in names]
                body = json.dumps(tree if "/tree/" in rest else about).encode()
                self.send_response(200 if names else 404)
                if not names:
                    self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _answer(self, has_body: bool) -> None:
                asked = self.headers.get("Range")
                hub.requests.append((self.command, self.path, asked))
                content = hub.files.get(self.path)
                if content is None:
                    self.send_response(404)
                    repository = self.path.split("/resolve/")[0]
                    known = any(path.startswith(f"{repository}/") for path in hub.files)
                    code = "EntryNotFound" if known else "RepoNotFound"
                    self.send_header("X-Error-Code", code)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
                self.send_response(206 if asked else 200)
                digest = hub.lie_about_sha256 or hashlib.sha256(content).hexdigest()
                revision = self.path.split("/resolve/")[1].split("/")[0]
                commit = REVISION if revision == "main" else revision
                self.send_header("X-Repo-Commit", commit)
                self.send_header("ETag", f'"{digest}"')
                self.send_header("X-Linked-Etag", f'"{digest}"')
                self.send_header("X-Linked-Size", str(len(content)))
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Length", str(len(content) - start))
                if asked:
                    last = len(content) - 1
                    self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
                self.end_headers()
                if has_body and hub.break_after is not None:
                    end, hub.break_after = start + hub.break_after, None
                    self.wfile.write(content[start:end])
                    self.wfile.flush()
                    self.connection.close()
                elif has_body:
                    self.wfile.write(content[start:])

        return Handler


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's, and no network beyond what a test points `use_hub` at."""
    from huggingface_hub import constants

    cache = tmp_path / "hub-cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return cache


@pytest.fixture
def use_hub(hub_cache: Path, monkeypatch: pytest.MonkeyPatch):
    """use_hub(address) sends every download there."""
    from huggingface_hub import constants

    def use(address: str) -> None:
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    return use


@pytest.fixture
def default_models(hub_cache: Path, bright_rectangle_detector, monkeypatch) -> Path:
    """The default pose model and detector are in the cache: tiny ones, brought by hand."""
    config = PoseConfig(
        ViTConfig(24, 1, 3), DecoderConfig("simple", in_channels=24), dataset="coco"
    )
    for table, name in ((POSE_MODELS, DEFAULT_POSE_MODEL), (DETECTORS, DEFAULT_DETECTOR)):
        known = replace(table[name], sha256=None)
        monkeypatch.setitem(table, name, known)
        file = snapshot_folder(known) / known.files[0]
        file.parent.mkdir(parents=True)
        if table is DETECTORS:
            bright_rectangle_detector(file)
        else:
            save_pose_model(PoseModel(config, rngs=nnx.Rngs(0)), file.parent)
    return hub_cache


@pytest.fixture
def hub(use_hub) -> Iterator[FakeHub]:
    """A hub that every download goes to."""
    server = FakeHub()
    use_hub(server.address)
    yield server
    server.close()
