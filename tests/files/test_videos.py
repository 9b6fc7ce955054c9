"""Frames out of videos and back."""

from pathlib import Path

import av
import numpy as np
import pytest

from vitpose_jax.errors import UserError
from vitpose_jax.files.videos import VideoReader, VideoWriter


def frames(count: int, height: int = 96, width: int = 128) -> list[np.ndarray]:
    """A bright square that moves right on a coloured ground."""
    images = [np.full((height, width, 3), (40, 90, 160), np.uint8) for _ in range(count)]
    for i, image in enumerate(images):
        image[20:60, 4 * i : 4 * i + 40] = (250, 220, 30)
    return images


@pytest.mark.parametrize("size", [(96, 128), (97, 131), (50, 33)])
def test_there_and_back(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "v.mp4"
    written = frames(12, *size)
    with VideoWriter(path, fps=12.5) as writer:
        for frame in written:
            writer.write(frame)
        assert not path.exists()  # not before it is whole
    with VideoReader(path) as reader:
        assert reader.fps == pytest.approx(12.5)
        assert reader.frame_count == 12
        assert reader.size == (size[1] + size[1] % 2, size[0] + size[0] % 2)
        read = list(reader)
    assert len(read) == 12
    for a, b in zip(written, read, strict=True):
        assert np.abs(a.astype(int) - b[: size[0], : size[1]]).mean() < 5
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]


def test_what_was_written_before_an_error_is_kept(tmp_path: Path) -> None:
    def break_off() -> None:
        with VideoWriter(tmp_path / "v.mp4", 10) as writer:
            for frame in frames(5):
                writer.write(frame)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    with VideoReader(tmp_path / "v.mp4") as reader:
        assert len(list(reader)) == 5


def test_a_video_without_frames_is_no_file(tmp_path: Path) -> None:
    VideoWriter(tmp_path / "v.mp4", 10).close()
    assert not list(tmp_path.iterdir())


def test_a_video_that_cannot_be_written(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "no folder" / "v.mp4", 10)

    def write() -> None:
        for frame in frames(500):
            writer.write(frame)
        writer.close()

    with pytest.raises(UserError, match=r"v\.mp4: the video cannot be written .No such file"):
        write()


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100])
def test_unreadable_videos(tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture) -> None:
    (tmp_path / "v.mp4").write_bytes(content)
    with pytest.raises(UserError, match=r"v\.mp4.*video"):
        VideoReader(tmp_path / "v.mp4")
    assert capfd.readouterr() == ("", "")  # nothing from ffmpeg or OpenCV besides


def test_writing_without_an_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with pytest.raises(UserError, match=r"v\.mp4: .* no H\.264 encoder.*pip install"):
        VideoWriter("v.mp4", 10)


def test_missing_video_and_camera(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        VideoReader(tmp_path / "v.mp4")
    with pytest.raises(UserError, match="camera 97"):
        VideoReader(97)


def test_names_with_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To ffmpeg the start of a relative one is a protocol."""
    monkeypatch.chdir(tmp_path)
    with VideoWriter("a:b.mp4", 10) as writer:
        writer.write(frames(1)[0])
    with VideoReader("a:b.mp4") as reader:
        assert len(list(reader)) == 1


def test_frames_of_another_size_or_form(tmp_path: Path) -> None:
    image = frames(1)[0]
    for other in (image[:50], image[:, :, 0], image.astype(np.float32)):
        with VideoWriter(tmp_path / "v.mp4", 10) as writer:
            writer.write(image)
            with pytest.raises(UserError, match=r"v\.mp4: a frame is .* the video ends before"):
                writer.write(other)
        with VideoReader(tmp_path / "v.mp4") as reader:
            assert len(list(reader)) == 1
