"""Formats of pictures and videos, by suffix and by a file's first bytes."""

import importlib.util
import os
import re
from pathlib import Path
from typing import Literal

MediaKind = Literal["image", "video"]


def _suffixes(text: str) -> frozenset[str]:
    return frozenset(text.split())


HEIC_SUFFIXES = frozenset({".heic", ".heif", ".hif", ".heics", ".heifs"})
IMAGE_SUFFIXES = HEIC_SUFFIXES | _suffixes(
    ".apng .avif .avifs .bmp .dib .gif .j2c .j2k .jfif .jp2 .jpc .jpe .jpeg .jpf .jpg .jpx "
    ".mpo .pbm .pgm .png .pnm .ppm .tif .tiff .webp"
)
VIDEO_SUFFIXES = _suffixes(
    ".264 .265 .3g2 .3gp .asf .avi .divx .dv .f4v .flv .gxf .h264 .hevc .ivf .lrv .m2t "
    ".m2ts .m2v .m4v .mjpeg .mjpg .mkv .mov .mp4 .mpeg .mpg .mpv .mts .mxf .nut .ogm .ogv "
    ".qt .rm .rmvb .ts .vob .webm .wmv .wtv .y4m"
)
RAW_SUFFIXES = _suffixes(
    ".3fr .arw .cr2 .cr3 .crw .dng .erf .gpr .iiq .kdc .mrw .nef .nrw .orf .pef .raf .raw "
    ".rw2 .rwl .sr2 .srf .srw .x3f"
)
OTHER_SUFFIXES = _suffixes(
    ".ai .ari .bpg .braw .cin .dcm .dds .dpx .eps .exr .flif .hdp .hdr .icns .ico .insp "
    ".insv .jls .jxl .jxr .kra .mng .pcx .psb .psd .qoi .r3d .ras .sgi .svg .svgz .swf .tga "
    ".wdp .wmf .xbm .xcf .xpm"
)
"""Suffixes of picture and video formats that are not supported."""

BEGINNING = 512
"""How many bytes are needed to recognise a format."""

_FORMATS: tuple[tuple[bytes, MediaKind | None, str], ...] = (
    (rb"\xff\xd8\xff", "image", "JPEG"),
    (rb"\x89PNG\r\n\x1a\n", "image", "PNG"),
    (rb"GIF8[79]a", "image", "GIF"),
    (rb"BM....\0\0\0\0.\0\0\0[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", "image", "BMP"),
    (rb"RIFF....WEBP", "image", "WebP"),
    (rb"(II\*\0|MM\0\*|II\+\0|MM\0\+)", "image", "TIFF"),
    (rb"(\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51)", "image", "JPEG 2000"),
    (rb"P[1-6]\s[\s\d#]", "image", "PNM"),
    (rb"....ftypavi[fs]", "image", "AVIF"),
    (rb"....ftyp(hei[cxms]|hev[cxms]|mif[12]|msf1)", "image", "HEIC"),
    (rb"....ftypcrx ", None, "a camera's raw format"),
    (rb"....ftyp(M4[AB] |aax )", None, "sound"),
    (rb"....(ftyp|moov|mdat|wide|free|skip|pnot)", "video", "MP4"),
    (rb"RIFF....AVI ", "video", "AVI"),
    (rb"\x1aE\xdf\xa3", "video", "Matroska"),
    (rb"FLV\x01", "video", "FLV"),
    (rb"0&\xb2u\x8ef\xcf\x11", "video", "ASF"),
    (rb"\0\0\x01[\xba\xb3]", "video", "MPEG"),
    (rb"G.{187}G.{187}G", "video", "MPEG-TS"),
    (rb"....G.{191}G", "video", "MPEG-TS"),
    (rb"OggS.{0,60}(theora|OVP80)", "video", "Ogg"),
    (rb"YUV4MPEG2 ", "video", "Y4M"),
    (rb"(\xff\x0a|\0\0\0\x0cJXL )", None, "JPEG XL"),
    (rb"8BPS", None, "Photoshop"),
    (rb"(%!PS|\xc5\xd0\xd3\xc6)", None, "PostScript"),
    (rb"%PDF", None, "PDF"),
    (rb"#EXTM3U", None, "a playlist"),
    (rb"\s*(<\?xml.*)?<svg", None, "SVG"),
    (rb"\s*<(!doctype html|!DOCTYPE html|html|HTML)", None, "a web page"),
)
_TABLE = [(re.compile(begins, re.DOTALL), kind, name) for begins, kind, name in _FORMATS]


def format_of(data: bytes) -> tuple[MediaKind | None, str | None]:
    """The kind of a file and the name of its format, by its first bytes; (None, None) if unknown.

    The kind is None for formats that are not supported.
    """
    for begins, kind, name in _TABLE:
        if begins.match(data[:BEGINNING]):
            return kind, name
    return None, None


def kind_of(path: str | Path) -> MediaKind | None:
    """Whether a file is read as a picture or a video, by its first bytes, then by its suffix."""
    suffix = os.path.splitext(path)[1].lower()
    try:
        with open(path, "rb") as file:
            kind, name = format_of(file.read(BEGINNING))
    except OSError:
        kind, name = None, None
    if suffix in RAW_SUFFIXES:  # most look like a TIFF, but only a tiny preview would be read
        return None if name == "TIFF" else kind
    if kind is None and suffix in IMAGE_SUFFIXES:
        return "image"
    if kind is None and suffix in VIDEO_SUFFIXES:
        return "video"
    return kind


def reads_heic() -> bool:
    """Whether the extra `heic` is installed."""
    return importlib.util.find_spec("pillow_heif") is not None
