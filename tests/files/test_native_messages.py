"""Messages of C libraries: those about pictures are left out, all others are shown."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import logging, os, sys
from vitpose_jax.files.native_messages import native_messages
handler = logging.StreamHandler()
logging.getLogger().addHandler(handler)
with native_messages({delay}):
    os.write(2, b"Corrupt JPEG data: 7 extraneous bytes before marker 0xd9\\n")
    os.write(2, b"tempfile.tif: Warning, Nonstandard tile width 3.\\nTIFFReadDirectory: no\\n")
    os.write(2, b"W1128 a device says\\n")
    print("python says", file=sys.stderr)
    logging.warning("a log says")
    {end}
os.write(2, b"after\\n")
print("python again", file=sys.stderr)
"""


def said(delay: float, end: str = "") -> str:
    command = [sys.executable, "-c", PROGRAM.format(delay=delay, end=end)]
    return subprocess.run(command, capture_output=True, text=True).stderr


@pytest.mark.parametrize("delay", [0, 0.2])
def test_only_messages_about_pictures_are_left_out(delay: float) -> None:
    lines = said(delay).splitlines()
    assert set(lines[:3]) == {"W1128 a device says", "python says", "a log says"}
    assert lines[3:] == ["after", "python again"]


def test_a_process_that_ends_first_keeps_them_to_itself() -> None:
    assert said(5, "os._exit(3)").splitlines() == ["python says", "a log says"]


def test_commands_leave_them_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A data set with a damaged JPEG: libjpeg says nothing that names no file."""
    import cv2
    import numpy as np

    from vitpose_jax.files.native_messages import native_messages
    from vitpose_jax.files.pictures import load_image

    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    data = bytearray(cv2.imencode(".jpg", pixels)[1].tobytes())
    data[-400:-395] = b"\xff\xd0\xff\xd7\x00"
    (tmp_path / "a.jpg").write_bytes(data)
    load_image(tmp_path / "a.jpg")
    assert "Corrupt JPEG" in capfd.readouterr().err, "or this test shows nothing"
    with native_messages():
        load_image(tmp_path / "a.jpg")
    assert capfd.readouterr().err == ""
