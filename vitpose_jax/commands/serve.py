"""`vitpose serve`: poses over HTTP, with a page for the browser."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from vitpose_jax.errors import UserError, printable


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = (
        "Serves pose models over HTTP: POST a picture to /predict and get keypoints as JSON. The "
        "page at / shows them in a browser, /docs describes the interface, /metrics is for "
        "Prometheus. Ctrl-C or SIGTERM stops it once the requests it has are answered."
    )
    add = parser.add_argument
    add(
        "--weights",
        nargs="+",
        required=True,
        metavar="W",
        help="models as for `vitpose predict`; NAME=W gives one a name",
    )
    add("--detector", metavar="NAME", help="as for `vitpose predict` (default: dfine-s)")
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=8000, help="(default: %(default)s)")
    add(
        "--no-flip-test",
        dest="flip_test",
        action="store_false",
        default=None,
        help="skip the mirrored pass: twice as fast, slightly less accurate",
    )
    add("--dtype", choices=("float32", "bfloat16"), help="compute type, as for `vitpose predict`")
    add("--batch-size", type=int, metavar="N", help="people per batch")
    limits = parser.add_argument_group("limits")
    add = limits.add_argument
    add("--max-mb", type=float, default=20, metavar="N", help="of a request (default: %(default)s)")
    add(
        "--max-megapixels",
        type=float,
        default=50,
        metavar="N",
        help="of a picture (default: %(default)s)",
    )
    add(
        "--queue",
        type=int,
        default=64,
        metavar="N",
        help="pictures that may wait; others are told to try again (default: %(default)s)",
    )
    add(
        "--seconds",
        type=float,
        default=30,
        metavar="N",
        help="for a request to arrive, and for its answer (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    """Serve until stopped."""
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise UserError(f"serving needs {error.name}: pip install 'vitpose-jax[serve]'") from None
    from vitpose_jax.inference.estimator import PoseEstimator
    from vitpose_jax.inference.finding import open_finder
    from vitpose_jax.serving.app import Limits, make_app

    for name in ("max_mb", "max_megapixels", "queue", "seconds"):
        if not getattr(options, name) > 0:
            raise UserError(f"--{name.replace('_', '-')}: must be more than 0")
    finder = open_finder(detector=options.detector)
    assert finder is None or callable(finder)  # no file of boxes was given
    estimators = {}
    for name, weights in named(options.weights):
        estimators[name] = PoseEstimator.from_pretrained(
            weights,
            dtype=options.dtype,
            flip_test=options.flip_test,
            batch_size=options.batch_size,
            keep_heatmaps=True,
        )
        full = estimators[name].batch_size
        for size in sorted({full, estimators[name].network.rows(1, full)}):
            estimators[name].compile(size)
    limits = Limits(
        most_bytes=int(options.max_mb * 1e6),
        most_pixels=int(options.max_megapixels * 1e6),
        most_waiting=options.queue,
        seconds=options.seconds,
    )
    config = uvicorn.Config(
        make_app(estimators, finder, limits),
        host=options.host,
        port=options.port,
        log_level="warning",
        timeout_keep_alive=5,
    )
    server = uvicorn.Server(config)
    print(
        printable(
            f"serving {', '.join(estimators)} at http://{options.host}:{options.port}/ "
            "(Ctrl-C stops)"
        ),
        flush=True,
    )
    try:
        server.run()
    except SystemExit:
        raise UserError(
            f"cannot listen on {options.host}:{options.port}; is something else there? choose "
            "another --port"
        ) from None
    except KeyboardInterrupt:  # the normal end
        pass
    print("stopped; what was accepted has been answered")
    return 0


def named(weights: Sequence[str]) -> list[tuple[str, str]]:
    """(name, weights) of each model; names are given (NAME=W), or the last part of a path.

    Raises:
        UserError: two have the same name.
    """
    found: list[tuple[str, str]] = []
    for given in weights:
        match = re.fullmatch(r"([\w.+-]+)=(.+)", given)
        name, source = match.groups() if match else (Path(given).name, given)
        if name in dict(found):
            raise UserError(f"--weights: two models are called {name!r}; give names, as NAME=W")
        found.append((name, source))
    return found
