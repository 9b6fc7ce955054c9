"""Pictures of every kind become upright uint8 RGB, and bad ones a clear line."""

import io
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitpose_jax.errors import UserError
from vitpose_jax.files import pictures
from vitpose_jax.files.pictures import PictureMemory, load_image, read_picture


def png_chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


@pytest.fixture
def photo() -> np.ndarray:
    """Smooth colours, so that JPEG keeps them."""
    y, x = np.mgrid[:48, :64]
    return np.stack([x * 4, y * 5, 255 - x * 2 - y], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "ppm"])
def test_lossless_files(photo: np.ndarray, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(photo).save(path, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(load_image(path), photo)
    np.testing.assert_array_equal(load_image(str(path)), photo)


def test_jpeg_is_read_as_opencv_reads_it(photos: Path) -> None:
    import cv2

    path = sorted(photos.iterdir())[0]
    np.testing.assert_array_equal(load_image(path), cv2.imread(str(path))[:, :, ::-1])


def test_jpeg_is_read_as_pillow_reads_it(photos: Path) -> None:
    for path in sorted(photos.iterdir())[:8]:
        np.testing.assert_array_equal(load_image(path), load_image(Image.open(path)))


def test_cmyk(photo: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(photo).convert("CMYK").save(tmp_path / "c.jpg", quality=95)
    assert np.abs(load_image(tmp_path / "c.jpg").astype(int) - photo).mean() < 4


def test_grey_pictures(photo: np.ndarray, tmp_path: Path) -> None:
    grey = photo[:, :, 0]
    Image.fromarray(grey).save(tmp_path / "8.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.tiff")
    for name in ("8.png", "16.png", "16.tiff"):
        np.testing.assert_array_equal(load_image(tmp_path / name), np.stack([grey] * 3, axis=-1))


def test_black_and_white_and_palette(photo: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(photo).convert("1").save(tmp_path / "bw.png")
    assert set(np.unique(load_image(tmp_path / "bw.png"))) == {0, 255}
    palette = Image.fromarray(photo).quantize(64)
    palette.save(tmp_path / "p.gif")
    np.testing.assert_array_equal(load_image(tmp_path / "p.gif"), palette.convert("RGB"))


def test_sixteen_bit_colour(tmp_path: Path) -> None:
    """A 16-bit RGB PNG, written by hand (Pillow cannot)."""
    rows = np.zeros((2, 3, 3), ">u2")
    rows[..., 0], rows[..., 1] = 0xFFFF, 0x8000
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", 3, 2, 16, 2, 0, 0, 0)
    parts = (
        png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(raw))
        + png_chunk(b"IEND", b"")
    )
    (tmp_path / "rgb16.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    np.testing.assert_array_equal(load_image(tmp_path / "rgb16.png")[0, 0], [255, 128, 0])


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2] = (200, 0, 0, 255)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png")
    assert image[0, 0].tolist() == [200, 0, 0]
    assert image[3, 3].tolist() == [255, 255, 255]
    Image.fromarray(rgba).convert("P").save(tmp_path / "p.png", transparency=0)
    assert load_image(tmp_path / "p.png").shape == (4, 4, 3)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(photo: np.ndarray, tmp_path: Path, orientation: int, suffix: str) -> None:
    """Whatever way the camera was held, the picture is upright: as stored, turned by its tag."""
    turned = {  # how to get from the stored to the upright picture
        **{1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud},
        **{5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, -1)},
        **{7: lambda a: np.rot90(a, 2).transpose(1, 0, 2), 8: np.rot90},
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"e.{suffix}"
    Image.fromarray(photo).save(path, exif=exif, quality=95)
    off = np.abs(load_image(path).astype(int) - turned(photo))
    assert off.max() == 0 if suffix == "png" else off.mean() < 4
    picture = Image.open(path)
    np.testing.assert_array_equal(load_image(picture), load_image(path))
    assert picture.size == (64, 48)  # the caller's picture stays as it was


def test_one_pixel(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "1.png")
    assert load_image(tmp_path / "1.png").tolist() == [[[1, 2, 3]]]


def test_arrays_and_pil(photo: np.ndarray) -> None:
    np.testing.assert_array_equal(load_image(photo), photo)
    np.testing.assert_array_equal(load_image(Image.fromarray(photo)), photo)
    np.testing.assert_array_equal(load_image(photo.astype(np.uint16) << 8), photo)
    np.testing.assert_array_equal(load_image(photo[:, :, 0])[..., 2], photo[:, :, 0])
    rgba = np.concatenate([photo, photo[..., :1]], axis=-1)
    np.testing.assert_array_equal(load_image(rgba), photo)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_bad_arrays(array: np.ndarray) -> None:
    with pytest.raises(UserError, match="uint8 RGB"):
        load_image(array)


def as_bytes(photo: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_files(tmp_path: Path, kind: str, share: float) -> None:
    data = as_bytes(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8), kind)
    path = tmp_path / "cut.jpg"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match=r"cut\.jpg") as caught:
        load_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty"), (b"hello, world" * 9, "not a picture")]
)
def test_files_that_are_no_picture(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_image(tmp_path / "x.jpg")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_image(tmp_path / "nowhere.jpg")
    with pytest.raises(UserError, match="is a folder"):
        load_image(tmp_path)


def test_floating_point_and_32_bits(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "f.tiff")
    with pytest.raises(UserError, match="floating-point"):
        load_image(tmp_path / "f.tiff")
    Image.fromarray(np.full((4, 4), 1 << 20, np.int32)).save(tmp_path / "i.tiff")
    with pytest.raises(UserError, match="32 bits"):
        load_image(tmp_path / "i.tiff")


def test_decompression_bomb(tmp_path: Path) -> None:
    """A file of a few kilobytes that claims 400 million pixels is refused before it is decoded."""
    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0)
    parts = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(10**6)))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    with pytest.raises(UserError, match="million pixels"):
        load_image(tmp_path / "bomb.png")


def test_pil_pictures_that_cannot_be_read(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8)
    data = as_bytes(noise, "PNG")
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with Image.open(tmp_path / "cut.png") as closed:
        pass
    bad = {
        "truncated": Image.open(tmp_path / "cut.png"),
        "damaged": closed,
        "mode La": Image.new("La", (4, 5)),
        "no pixels": Image.new("I", (0, 5)),
    }
    for message, picture in bad.items():
        with pytest.raises(UserError, match=f"the PIL picture: .*{message}"):
            load_image(picture)


@pytest.mark.parametrize("source", [None, 3, [[[0, 0, 0]]]])
def test_what_is_no_picture(source: object) -> None:
    with pytest.raises(UserError, match="must be a path, a PIL picture or an array"):
        load_image(source)


@pytest.mark.parametrize(
    ("name", "message"), [("x.jpg/y.jpg", "Not a directory"), ("x" * 300, "File name too long")]
)
def test_paths_that_cannot_be(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "x.jpg").touch()
    with pytest.raises(UserError, match=f"cannot be read .{message}"):
        load_image(tmp_path / name)


def test_the_result_is_the_callers_own(photo: np.ndarray, tmp_path: Path) -> None:
    import jax.numpy as jnp

    for suffix in ("png", "jpg"):
        Image.fromarray(photo).save(tmp_path / f"p.{suffix}")
    files = (tmp_path / "p.png", tmp_path / "p.jpg")
    for source in (*files, Image.fromarray(photo), photo, jnp.asarray(photo)):
        image = load_image(source)
        image[:] = 7
    assert photo.max() == 255


def test_heic_and_how_to_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    picture = Image.new("RGB", (64, 48), (200, 30, 10))
    pillow_heif.from_pillow(picture).save(tmp_path / "a.jpg", quality=95)  # content, not suffix
    np.testing.assert_allclose(load_image(tmp_path / "a.jpg")[20, 20], (200, 30, 10), atol=4)
    monkeypatch.setattr(pictures, "reads_heic", lambda: False)
    with pytest.raises(UserError, match=r'a\.jpg: is HEIC: pip install "vitpose-jax\[heic\]"'):
        load_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_several_pictures_in_a_file(tmp_path: Path, suffix: str) -> None:
    path, more = tmp_path / f"a.{suffix}", [Image.new("RGB", (64, 48), "blue")]
    Image.new("RGB", (64, 48), "red").save(path)
    assert read_picture(path)[1] is None
    Image.new("RGB", (64, 48), "red").save(path, save_all=True, append_images=more)
    pixels, told = read_picture(path)
    assert pixels[20, 20, 0] > 200
    assert told is not None
    assert f"a.{suffix}: holds several pictures" in told


def test_stereo_photographs_and_jpeg_2000(tmp_path: Path) -> None:
    picture = Image.new("RGB", (64, 48), "red")
    picture.save(tmp_path / "a.mpo", save_all=True, append_images=[picture])
    picture.save(tmp_path / "a.jp2")
    for name in ("a.mpo", "a.jp2"):
        pixels, told = read_picture(tmp_path / name)
        assert (pixels.shape, told) == ((48, 64, 3), None)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is PostScript"),
        ("a.png", b"8BPS\0\x01", "is Photoshop"),
        ("a.jpg", b"\xff\x0a\0\0", "is JPEG XL"),
        ("a.dng", b"II*\0\x08\0\0\0", "raw file"),
    ],
)
def test_formats_that_are_not_opened(
    tmp_path: Path, name: str, content: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")  # nor is Ghostscript started
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        load_image(tmp_path / name)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "CMYK", "I;16", "1"])
def test_large_pictures_in_strips_are_the_same(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (50, 40, 4), np.uint8)
    picture = Image.fromarray(noise[..., 0].astype(np.uint16) << 8)
    if mode != "I;16":
        picture = Image.fromarray(noise).convert("RGB" if mode in ("P", "CMYK") else "RGBA")
        picture = picture.convert(mode)
    whole = load_image(picture)
    monkeypatch.setattr(pictures, "_STRIP", 40 * 7)
    np.testing.assert_array_equal(load_image(picture), whole)


def test_pictures_share_a_budget_of_memory() -> None:
    memory = PictureMemory(100 * pictures._BYTES_A_PIXEL)
    inside, most, lock = 0, 0, threading.Lock()

    def hold(_: int) -> None:
        nonlocal inside, most
        with memory.kept(), memory.claim_for((10, 4)), memory.claim_for((1, 1)):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.01)
            with lock:
                inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, range(16)))
    assert most == 2
    with memory.claim_for((1000, 1000)):  # one may always
        pass
