"""A minimal HEIC writer, so that no picture file needs to be committed: pi-heif only reads.

One HEVC key frame in the boxes that ISO/IEC 23008-12 asks for: `ftyp`, `meta` (handler, primary
item, location, item type, properties: decoder configuration and size, perhaps rotation) and `mdat`.
"""

from __future__ import annotations

import re
import struct
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt

_FULL_RANGE = 2
_PARAMETER_SETS = (32, 33, 34)  # Video, sequence, picture: always in this order.


def heic_of(rgb: npt.NDArray[np.uint8], *, quarter_turns: int = 0) -> bytes:
    """Return a HEIC file of an RGB picture with even sizes; the file says how to turn it."""
    configuration, frame = _hevc_key_frame(rgb)
    height, width = rgb.shape[:2]
    properties = [
        _box(b"hvcC", configuration),
        _box(b"ispe", struct.pack(">III", 0, width, height)),
        _box(b"irot", bytes([quarter_turns])),
    ]
    ftyp = _box(b"ftyp", b"heic" + struct.pack(">I", 0) + b"mif1heic")
    # The location box holds the frame's place in the file, which the boxes before it decide.
    place = len(ftyp) + len(_meta(properties, place=0, length=len(frame))) + 8
    meta = _meta(properties, place=place, length=len(frame))
    return ftyp + meta + _box(b"mdat", frame)


def _meta(properties: list[bytes], *, place: int, length: int) -> bytes:
    handler = _full_box(b"hdlr", struct.pack(">I4s12x", 0, b"pict") + b"\0")
    primary = _full_box(b"pitm", struct.pack(">H", 1))
    location = _full_box(b"iloc", struct.pack(">BBHHHHII", 0x44, 0, 1, 1, 0, 1, place, length))
    entry = _full_box(b"infe", struct.pack(">HH4s", 1, 0, b"hvc1") + b"\0", version=2)
    items = _full_box(b"iinf", struct.pack(">H", 1) + entry)
    # The decoder configuration and the rotation are essential (the high bit).
    uses = struct.pack(">IHB", 1, 1, len(properties)) + bytes([0x81, 0x02, 0x83])
    described = _box(b"iprp", _box(b"ipco", b"".join(properties)) + _full_box(b"ipma", uses))
    return _full_box(b"meta", handler + primary + location + items + described)


def _hevc_key_frame(rgb: npt.NDArray[np.uint8]) -> tuple[bytes, bytes]:
    """Return the decoder configuration record and the frame's length-prefixed units."""
    units = [unit for unit in re.split(rb"\x00?\x00\x00\x01", _encoded(rgb)) if unit]
    parameters = [unit for unit in units if _kind(unit) in _PARAMETER_SETS]
    slices = [unit for unit in units if _kind(unit) < min(_PARAMETER_SETS)]
    # ISO/IEC 14496-15, 8.3.3: version, profile to level, then 4:2:0 and 8 bits in reserved ones,
    # and lengths of four bytes.
    sequence = parameters[1].replace(b"\0\0\3", b"\0\0")
    record = b"\1" + sequence[3:15] + bytes.fromhex("f000 fc fd f8 f8 0000 0f")
    arrays = [
        bytes([0x80 | _kind(unit)]) + struct.pack(">HH", 1, len(unit)) + unit for unit in parameters
    ]
    frame = b"".join(struct.pack(">I", len(unit)) + unit for unit in slices)
    return record + bytes([len(arrays)]) + b"".join(arrays), frame


def _encoded(rgb: npt.NDArray[np.uint8]) -> bytes:
    """Return one HEVC key frame with its parameter sets, in units parted by start codes."""
    encoder = av.VideoCodecContext.create("libx265", "w")
    encoder.height, encoder.width = rgb.shape[:2]
    encoder.pix_fmt = "yuv420p"
    encoder.time_base = Fraction(1)
    encoder.options = {"crf": "5", "x265-params": "log-level=none:info=0:range=full"}
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    frame = frame.reformat(format="yuv420p", dst_color_range=_FULL_RANGE)
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode()])


def _kind(unit: bytes) -> int:
    return unit[0] >> 1


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


def _full_box(kind: bytes, content: bytes, *, version: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24) + content)
