"""Showing frames in a window while they are found, with matplotlib."""

import os
import sys
from typing import Any

import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.inference.inputs import SourceKind
from vitpose_jax.inference.pipeline import Frame, Report, Sink
from vitpose_jax.inference.sinks import Draw

DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


class Window:
    """A window on the screen."""

    def __init__(self) -> None:
        """Open it.

        Raises:
            UserError: there is no display, or nothing that opens windows on it.
        """
        if sys.platform == "linux" and not any(os.environ.get(name) for name in DISPLAYS):
            raise UserError(
                "--show: there is no display here (neither DISPLAY nor WAYLAND_DISPLAY)"
            )
        from matplotlib import pyplot

        if pyplot.get_backend().lower() == "agg":  # what matplotlib falls back to
            raise UserError(
                "--show: nothing here opens windows for matplotlib: "
                'pip install "vitpose-jax[show]", or install Tk'
            )
        self._plots = pyplot
        self._figure = pyplot.figure("vitpose", facecolor="black")
        self._axes = self._figure.add_axes((0, 0, 1, 1))
        self._axes.set_axis_off()
        self._picture: Any = None
        pyplot.show(block=False)

    @property
    def is_open(self) -> bool:
        """Whether the user has not closed it."""
        return self._plots.fignum_exists(self._figure.number)

    def show(self, image: np.ndarray, title: str) -> None:
        """Show an image (uint8 RGB) in place of the one before."""
        if self._picture is None or self._picture.get_array().shape != image.shape:
            self._axes.clear()
            self._axes.set_axis_off()
            self._picture = self._axes.imshow(image)
        self._picture.set_data(image)
        if (manager := self._figure.canvas.manager) is not None:
            manager.set_window_title(title)
        self._figure.canvas.draw_idle()
        self._figure.canvas.flush_events()

    def close(self) -> None:
        """Close it, if the user has not."""
        self._plots.close(self._figure)


class ShowSink(Sink):
    """Shows the frames of videos and cameras as they are found.

    If the user closes the window, a camera ends, and videos go on unseen.
    """

    needs_images = frozenset[SourceKind]({"video", "camera"})

    def __init__(self, draw: Draw, window: Window) -> None:
        self._draw, self._window = draw, window

    def write(self, frame: Frame) -> None:
        """Show a frame; raises KeyboardInterrupt, as Ctrl-C does, to end a camera."""
        if frame.index is None or frame.image is None:
            return
        if self._window.is_open:
            self._window.show(self._draw(frame.image, frame.people), frame.source.name)
        elif frame.source.kind == "camera":
            raise KeyboardInterrupt

    def close(self) -> Report:
        """Close the window."""
        self._window.close()
        return Report()
