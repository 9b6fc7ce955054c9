"""Small inputs that ask for much: memory, time, or pages of text. Each has one right ending."""

import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.faults import sound


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int = 16, colour: int = 0) -> bytes:
    """A sound PNG of one colour, whatever its size."""
    channels = {0: 1, 2: 3, 6: 4}[colour]
    packer, row = zlib.compressobj(9), bytes(1 + width * channels * bits // 8)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def claims(width: int, height: int) -> bytes:
    """A PNG whose header claims a size, with hardly any data."""
    data = bytearray(png(1, 1, 8, 2))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def large_pictures(folder: Path) -> None:
    for index in range(4):
        (folder / f"{index}.png").write_bytes(png(13_300, 13_300))


def claimed_pictures(folder: Path) -> None:
    for index, size in enumerate(((2**31 - 1, 2**31 - 1), (30_000, 30_000), (2**24, 10), (0, 5))):
        (folder / f"{index}.png").write_bytes(claims(*size))


def many_boxes(folder: Path) -> None:
    (folder / "a.png").write_bytes(png(64, 48, 8, 2))
    box = {"file_name": "a.png", "bbox": [1, 2, 30, 40], "score": 0.9}
    (folder.parent / "boxes.json").write_text(json.dumps([box] * 20_000))


def postscript(folder: Path) -> None:
    (folder / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    (folder / "b.png").write_bytes(png(64, 48, 8, 2))


def playlist(folder: Path) -> None:
    (folder / "a.mp4").write_text("#EXTM3U\n#EXTINF:5,\nb.png\n#EXT-X-ENDLIST\n")
    (folder / "c.mp4").write_text("ffconcat version 1.0\nfile b.png\n")
    (folder / "b.png").write_bytes(png(64, 48, 8, 2))


def links(folder: Path) -> None:
    (folder / "loop").symlink_to(folder)
    (folder / "b").mkdir()
    (folder / "b" / "loop").symlink_to(folder)
    (folder / "gone.jpg").symlink_to(folder / "nothing")
    (folder / "a.png").write_bytes(png(64, 48, 8, 2))


def depth(folder: Path) -> None:
    sound.write_weights(folder, 2)
    config = folder / "w" / "config.json"
    text = config.read_text()
    content = json.loads(text)
    content["backbone_config"]["num_hidden_layers"] = 10**9
    config.write_text(json.dumps(content))


def blocks(folder: Path) -> None:
    import torch

    sound.write_weights(folder, 1)
    tensors = torch.load(folder / "w.pth", weights_only=True)["state_dict"]
    tensors["backbone.blocks.99999.norm1.weight"] = torch.zeros(16)
    torch.save({"state_dict": tensors}, folder / "w.pth")


def inflated(folder: Path) -> None:
    sound.write_weights(folder, 1)
    whole = folder / "w.pth"
    with zipfile.ZipFile(whole) as before:
        parts = {name: before.read(name) for name in before.namelist()}
    big = max(parts, key=lambda name: len(parts[name]))
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as after:
        for name, data in parts.items():
            after.writestr(name, data if name != big else bytes(3 * 10**8))


def header(folder: Path) -> None:
    (folder / "w.safetensors").write_bytes((2**63 - 1).to_bytes(8, "little") + b"{}")


def pickles(folder: Path) -> None:
    (folder / "a.pkl").write_bytes(b"\x80\x02}(" + b"\x85q\0h\0h\0\x86" * 40 + b"K\1u.")


BOMBS: dict[str, tuple[Callable[[Path], None], str]] = {
    "four 16-bit pictures of 13,300 x 13,300": (large_pictures, "predict"),
    "pictures that claim to be huge": (claimed_pictures, "predict"),
    "20,000 boxes on a picture": (many_boxes, "predict with boxes"),
    "PostScript called .jpg": (postscript, "predict"),
    "playlists called .mp4": (playlist, "predict"),
    "links in circles": (links, "predict below"),
    "a depth of a thousand million": (depth, "weights"),
    "block 99999": (blocks, "weights"),
    "a .pth that inflates": (inflated, "weights"),
    "a header of 8 EB": (header, "weights"),
    "a pickle of doubled tuples": (pickles, "3dpw"),
}
"""What each writes into a folder, and what then reads it."""


def write(folder: Path, variant: int) -> None:
    """One of BOMBS."""
    np.random.seed(0)  # noqa: NPY002 (of whatever initialises weights)
    list(BOMBS.values())[variant][0](folder)
    (folder / "reads.txt").write_text(list(BOMBS.values())[variant][1])
