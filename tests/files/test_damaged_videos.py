"""Videos as people have them: other containers, true times, ends that come early, damage."""

import os
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vitpose_jax.errors import UserError
from vitpose_jax.files.video_streams import NamelessFile
from vitpose_jax.files.videos import VideoReader, VideoWriter

GROUND = np.random.default_rng(0).integers(0, 255, (144, 176, 3), np.uint8)
FRAMES, RATE = 30, 25


def make_video(
    path: Path,
    codec: str,
    ticks: Sequence[int] = range(FRAMES),
    b_frames: int = 0,
    silence: float = 0,
    **options: str,
) -> Path:
    """Write frames at ticks of 1/25 s, and seconds of silence beside them."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 176, 144, "yuv420p"
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size, stream.max_b_frames = 10, b_frames
        sound = container.add_stream("aac", rate=8000) if silence else None
        for index, tick in enumerate(ticks):
            image = np.ascontiguousarray(np.roll(GROUND, 2 * index, axis=1))
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        if sound is not None:
            for index in range(round(10 * silence)):
                quiet = np.zeros((1, 800), np.float32)
                part = av.AudioFrame.from_ndarray(quiet, format="fltp", layout="mono")
                part.sample_rate, part.pts = 8000, 800 * index
                container.mux(sound.encode(part))
            container.mux(sound.encode(None))
        container.mux(stream.encode(None))
    return path


def read(path: Path) -> tuple[int, list[float], str]:
    """Number of frames, their times, and the problems without the file's name."""
    with VideoReader(path) as reader:
        times = [reader.time for _ in reader]
        assert all(problem.startswith(f"{path}: ") for problem in reader.problems)
        return len(times), times, "; ".join(reader.problems).replace(f"{path}: ", "")


CONTAINERS = [
    *(("v.mp4", "libx264"), ("v.mkv", "libx264"), ("v.mov", "mpeg4"), ("v.webm", "libvpx-vp9")),
    *(("v.avi", "mpeg4"), ("v.avi", "mjpeg"), ("v.ts", "libx264"), ("v.m2ts", "libx264")),
    *(("v.3gp", "mpeg4"), ("v.flv", "flv"), ("v.wmv", "wmv2"), ("v.mts", "libx264")),
]


@pytest.mark.parametrize(("name", "codec"), CONTAINERS)
def test_containers(tmp_path: Path, name: str, codec: str) -> None:
    path = make_video(tmp_path / name, codec) if name != "v.mts" else tmp_path / name
    if name == "v.mts":
        make_video(tmp_path / "v.ts", codec).rename(path)
    count, times, problems = read(path)
    assert (count, problems) == (FRAMES, "")
    np.testing.assert_allclose(times, np.arange(FRAMES) / RATE, atol=2e-3)


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts", "v.avi", "v.flv"])
def test_frames_that_refer_to_later_ones_come_in_order(tmp_path: Path, name: str) -> None:
    _, times, problems = read(make_video(tmp_path / name, "libx264", b_frames=3))
    assert problems == ""
    np.testing.assert_allclose(times, np.arange(FRAMES) / RATE, atol=2e-3)


@pytest.mark.parametrize("start", [0, 250])
@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts"])
def test_true_times(tmp_path: Path, name: str, start: int) -> None:
    """Frames of unequal length, and a first one that is not at 0."""
    ticks = np.cumsum([start, *[1, 1, 4, 2, 9, 1, 1, 1, 30, 2] * 2])
    _, times, problems = read(make_video(tmp_path / name, "libx264", ticks.tolist(), 2))
    assert problems == ""
    np.testing.assert_allclose(times, (ticks - start) / RATE, atol=2e-3)


def test_times_are_written_as_they_are_read(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.05, 0.3, 1.3, 1.34]
    with VideoWriter(tmp_path / "v.mp4", 25) as writer:
        for time in times:
            writer.write(GROUND, time)
    np.testing.assert_allclose(read(tmp_path / "v.mp4")[1], times, atol=1e-4)


def test_the_field_cases(shared: Path) -> None:
    _, times, problems = read(shared / "field-cases/vfr.mp4")
    assert (times[10], times[29], problems) == (pytest.approx(0.4), pytest.approx(1.28), "")
    count, _, problems = read(shared / "field-cases/cut.mp4")
    assert 28 <= count <= 31
    assert f"ends after {count} of 60 frames" in problems


@pytest.mark.parametrize("share", [0.75, 0.95])
@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("v.mp4", "libx264", {"movflags": "+faststart"}),
        ("v.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
        ("v.mkv", "libx264", {}),
        ("v.webm", "libvpx-vp9", {}),
        ("v.avi", "mpeg4", {}),
        ("v.avi", "mjpeg", {}),
        ("v.flv", "flv", {}),
        ("v.ts", "libx264", {}),
        ("v.m2ts", "libx264", {}),
    ],
)
def test_ends_that_come_early(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], share: float
) -> None:
    whole = make_video(tmp_path / name, codec, **options).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(share * len(whole))])
    count, _, problems = read(tmp_path / name)
    assert 0 < count < FRAMES
    assert problems != ""


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_longer_sound_is_no_early_end(tmp_path: Path, name: str) -> None:
    path = make_video(tmp_path / name, "libx264", silence=3, movflags="+faststart")
    assert read(path)[::2] == (FRAMES, "")


def test_an_edit_list_that_leaves_frames_out_is_no_early_end(tmp_path: Path) -> None:
    """A video trimmed by a telephone: the frames are there, the list shows the first half."""
    data = bytearray(make_video(tmp_path / "v.mp4", "libx264").read_bytes())
    for box, at in ((b"elst", 12), (b"tkhd", 24), (b"mvhd", 20)):
        place = data.index(box) + at
        (length,) = struct.unpack_from(">I", data, place)
        struct.pack_into(">I", data, place, length // 2)
    (tmp_path / "v.mp4").write_bytes(data)
    count, _, problems = read(tmp_path / "v.mp4")
    assert FRAMES // 2 <= count < FRAMES
    assert problems == ""


@pytest.mark.parametrize(("name", "codec"), [("v.mp4", "libx264"), ("v.mkv", "mpeg4")])
def test_damage_in_the_middle_is_told(tmp_path: Path, name: str, codec: str) -> None:
    path = make_video(tmp_path / name, codec)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = bytes((7 * byte + 13) & 255 for byte in data[middle:][:300])
    path.write_bytes(data)
    count, times, problems = read(path)
    assert count > FRAMES // 2
    assert (np.diff(times) > 0).all()
    assert problems != ""


@pytest.mark.parametrize(("name", "codec"), [("v.h264", "libx264"), ("v.mjpeg", "mjpeg")])
def test_streams_without_times_are_told(tmp_path: Path, name: str, codec: str) -> None:
    count, times, problems = read(make_video(tmp_path / name, codec))
    assert count == FRAMES
    np.testing.assert_allclose(np.diff(times), 1 / RATE)
    assert "holds no times; its frames are taken as 25 a second" in problems


def test_a_size_that_changes_in_the_middle(tmp_path: Path) -> None:
    parts = []
    for size in ((96, 64), (48, 64)):
        path = tmp_path / "part.h264"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=RATE)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            for _ in range(5):
                image = np.ascontiguousarray(GROUND[: size[1], : size[0]])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
        parts.append(path.read_bytes())
    (tmp_path / "v.h264").write_bytes(b"".join(parts))
    with VideoReader(tmp_path / "v.h264") as reader:
        shapes = {frame.shape for frame in reader}
        assert shapes == {(64, 96, 3)}
        assert any("frame 5 is 48x64 instead of 96x64" in problem for problem in reader.problems)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_frames_are_turned_upright(tmp_path: Path, degrees: int) -> None:
    """As the track's matrix says; a telephone held upright writes 90 degrees."""
    data = bytearray(make_video(tmp_path / "v.mp4", "libx264").read_bytes())
    with VideoReader(tmp_path / "v.mp4") as reader:
        plain = next(iter(reader))
    turns = degrees // 90
    cosine, sine = (0, -1, 0)[turns - 1], (1, 0, -1)[turns - 1]
    matrix = (cosine << 16, sine << 16, 0, -sine << 16, cosine << 16, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, *matrix)
    (tmp_path / "v.mp4").write_bytes(data)
    with VideoReader(tmp_path / "v.mp4") as reader:
        np.testing.assert_array_equal(next(iter(reader)), np.rot90(plain, -turns))


def test_files_without_pictures(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        sound = container.add_stream("aac", rate=8000)
        part = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        part.sample_rate = 8000
        container.mux(sound.encode(part))
        container.mux(sound.encode(None))
    with pytest.raises(UserError, match=r"v\.mp4: .*only sound"):
        VideoReader(tmp_path / "v.mp4")
    unfinished = make_video(tmp_path / "w.mp4", "libx264").read_bytes()
    (tmp_path / "w.mp4").write_bytes(unfinished[: unfinished.index(b"moov")])
    with pytest.raises(UserError, match=r"w\.mp4: .*not recorded to its end"):
        VideoReader(tmp_path / "w.mp4")


def test_pictures_that_nothing_decodes(tmp_path: Path) -> None:
    data = make_video(tmp_path / "v.avi", "mjpeg").read_bytes()
    (tmp_path / "v.avi").write_bytes(data.replace(b"MJPG", b"zzzz"))
    with pytest.raises(UserError, match=r"v\.avi: .*nothing here decodes its pictures"):
        read(tmp_path / "v.avi")


def test_a_place_before_the_beginning(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    with NamelessFile(tmp_path / "f") as file:
        assert file.seek(-3) == -1
        assert file.seek(-2, 2) == 3


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes no such names")
    path = folder / os.fsdecode(b"\xe9.mp4")
    with VideoWriter(path, RATE) as writer:
        writer.write(GROUND)
    assert read(path)[::2] == (1, "")


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nother.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile other.mp4\n",
        "v=0\nm=video 0 RTP/AVP 96\n",
    ],
)
def test_a_file_that_names_others_reads_none_of_them(tmp_path: Path, text: str) -> None:
    make_video(tmp_path / "other.mp4", "libx264")
    (tmp_path / "v.mp4").write_text(text)
    with pytest.raises(UserError, match=r"v\.mp4: cannot be opened as a video"):
        VideoReader(tmp_path / "v.mp4")
