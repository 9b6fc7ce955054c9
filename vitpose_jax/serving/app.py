"""The HTTP service: routes, limits and metrics. Reads no file and no address that a request names.

Runs under uvicorn, which on SIGTERM or Ctrl-C takes no more connections and waits for the requests
it has; then the workers end.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, HTTPException, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from vitpose_jax import __version__
from vitpose_jax.errors import UserError
from vitpose_jax.inference.estimator import PoseEstimator
from vitpose_jax.inference.preparation import BoxSource
from vitpose_jax.serving.answers import answer, boxes_of, picture_of
from vitpose_jax.serving.limits import BodyLimits
from vitpose_jax.serving.worker import QueueFull, Worker

PAGES = Path(__file__).parent
RETRY_AFTER = "1"


@dataclass(frozen=True)
class Limits:
    """What requests may ask for.

    Attributes:
        most_bytes: of a request.
        most_pixels: of a picture.
        most_waiting: pictures that wait; further ones are answered 503.
        seconds: for a request to arrive, and again for its answer.
    """

    most_bytes: int = 20_000_000
    most_pixels: int = 50_000_000
    most_waiting: int = 64
    seconds: float = 30.0


class Point(BaseModel):
    """A keypoint, in pixels of the upright picture; null if the network gave no number."""

    x: float | None
    y: float | None
    score: float | None


class Heatmap(BaseModel):
    """The largest of a person's heatmaps at each place: a grey PNG, and the region it covers."""

    png: str
    region: list[float]


class FoundPerson(BaseModel):
    """A person, with the keypoints by name."""

    score: float | None
    box: list[float | None]
    box_score: float | None
    keypoints: dict[str, Point]
    heatmap: Heatmap | None = None


class Answer(BaseModel):
    """The people of a picture."""

    model: str
    width: int
    height: int
    people: list[FoundPerson]
    problem: str | None = None
    seconds: float


class Told(BaseModel):
    """What is wrong with a request, in words."""

    detail: str


class Metrics:
    """What /metrics shows."""

    def __init__(self, workers: Mapping[str, Worker]) -> None:
        kept = self.registry = CollectorRegistry()
        self.requests = Counter("vitpose_requests", "Requests answered", ["status"], registry=kept)
        self.people = Counter("vitpose_people", "People found", ["model"], registry=kept)
        self.seconds = Histogram("vitpose_seconds", "Seconds to answer", ["model"], registry=kept)
        waiting = Gauge("vitpose_waiting", "Pictures that wait", ["model"], registry=kept)
        for name, worker in workers.items():
            waiting.labels(name).set_function(partial(_waiting, worker))


def _waiting(worker: Worker) -> float:
    return worker.waiting


def make_app(
    estimators: Mapping[str, PoseEstimator], finder: BoxSource, limits: Limits = Limits()
) -> BodyLimits:
    """The service as an ASGI application.

    Args:
        estimators: models by name; the first is used if a request names none.
        finder: finds people where a request gives no boxes; None takes whole pictures.
        limits: what requests may ask for.
    """
    workers = {name: Worker(e, limits.most_waiting) for name, e in estimators.items()}
    metrics, first = Metrics(workers), next(iter(workers))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        for worker in workers.values():
            await run_in_threadpool(worker.close)

    app = FastAPI(
        title="vitpose", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    wrong: dict[int | str, dict[str, Any]] = {
        400: {"model": Told, "description": "The picture or the boxes cannot be used"},
        404: {"model": Told, "description": "No such model"},
        408: {"model": Told, "description": "The request took too long to arrive"},
        413: {"model": Told, "description": "The request is too large"},
        422: {"model": Told, "description": "A field is missing or of another type"},
        503: {"model": Told, "description": "Too many requests wait; try again later"},
    }

    @app.post("/predict", responses=wrong, response_model_exclude_unset=True)
    async def predict(
        image: Annotated[UploadFile, File(description="A picture (JPEG, PNG, WebP, ...)")],
        boxes: Annotated[
            str | None, Form(description="JSON: [[x, y, width, height], ...] in pixels")
        ] = None,
        model: Annotated[str | None, Form(description="The model's name, see /models")] = None,
        heatmaps: Annotated[bool, Form(description="With a picture of the heatmaps")] = False,
    ) -> Answer:
        """Find the people of a picture and their keypoints."""
        began, name = time.perf_counter(), model or first
        if name not in workers:
            raise HTTPException(404, f"no model {name!r:.80}: there are {', '.join(workers)}")
        worker = workers[name]
        try:
            given = boxes_of(boxes)
            pixels = await run_in_threadpool(picture_of, await image.read(), limits.most_pixels)
        except UserError as error:
            raise HTTPException(400, str(error)) from None
        try:
            future = worker.submit(pixels, finder if given is None else given)
            found = await asyncio.wait_for(asyncio.wrap_future(future), limits.seconds)
        except QueueFull:
            told = f"{limits.most_waiting} pictures wait already; try again later"
            raise HTTPException(503, told, {"Retry-After": RETRY_AFTER}) from None
        except TimeoutError:
            told = f"no answer within {limits.seconds:g} seconds; try again later"
            raise HTTPException(503, told, {"Retry-After": RETRY_AFTER}) from None
        if found.error is not None:
            raise HTTPException(400, str(found.error))
        seconds = time.perf_counter() - began
        metrics.people.labels(name).inc(len(found.people))
        metrics.seconds.labels(name).observe(seconds)
        return Answer(**answer(name, worker.estimator, found, seconds, heatmaps))

    @app.get("/models")
    async def models() -> dict[str, dict[str, Any]]:
        """The models, with their keypoints and limbs."""
        return {
            name: {
                "keypoints": list(worker.estimator.skeleton.keypoint_names),
                "limbs": [list(limb) for limb in worker.estimator.skeleton.limbs],
                "input_size": list(worker.estimator.input_size),
                "runs_on": worker.estimator.network.description,
            }
            for name, worker in workers.items()
        }

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the service runs."""
        return {"status": "ok"}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def show_metrics() -> str:
        """Counters and times, as Prometheus reads them."""
        return generate_latest(metrics.registry).decode()

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> str:
        return (PAGES / "page.html").read_text("utf-8")

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> str:
        return (PAGES / "docs.html").read_text("utf-8")

    @app.middleware("http")
    async def count(request: Request, call_next: Any) -> Response:
        response = await call_next(request)
        metrics.requests.labels(str(response.status_code)).inc()
        return response

    @app.exception_handler(RequestValidationError)
    async def mistaken(_: Request, error: RequestValidationError) -> JSONResponse:
        parts = [f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors()]
        return JSONResponse({"detail": "; ".join(parts)}, 422)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": f"the service failed: {type(error).__name__}"}, 500)

    return BodyLimits(app, limits.most_bytes, limits.seconds)
