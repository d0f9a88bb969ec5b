"""Writes picture files number by number, so that a test knows what is stored."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6  # color types of PNG


def exif(turn: int) -> bytes:
    """An EXIF block that holds the orientation alone."""
    block = Image.Exif()
    block[0x0112] = turn
    return block.tobytes().removeprefix(b"Exif\0\0")


def write_png(
    path: Path,
    numbers: np.ndarray,
    depth: int = 8,
    color: int = GRAY,
    palette: np.ndarray | None = None,
    turn: int = 1,
    more: dict[bytes, bytes] | None = None,
) -> None:
    """A PNG of `numbers` (H, W) or (H, W, C) at a bit depth of 1 to 16, with further chunks `more`."""
    height, width = numbers.shape[:2]
    rows = numbers.reshape(height, -1)
    if depth == 16:
        packed = rows.astype(">u2").view(np.uint8).reshape(height, -1)
    elif depth == 8:
        packed = rows.astype(np.uint8)
    else:
        bits = (rows[..., None] >> np.arange(depth - 1, -1, -1) & 1).astype(np.uint8)
        packed = np.packbits(bits.reshape(height, -1), axis=1)
    lines = b"".join(b"\0" + row.tobytes() for row in packed)
    chunks = {b"IHDR": struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0), **(more or {})}
    if palette is not None:
        chunks[b"PLTE"] = palette.astype(np.uint8).tobytes()
        if b"tRNS" in chunks:
            chunks[b"tRNS"] = chunks.pop(b"tRNS")  # behind the palette
    if turn != 1:
        chunks[b"eXIf"] = exif(turn)
    chunks |= {b"IDAT": zlib.compress(lines), b"IEND": b""}
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks.items():
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    path.write_bytes(content)


def viewed(array: np.ndarray, turn: int) -> np.ndarray:
    """What viewers show of an array (H, W, ...), by Pillow's own turns."""
    how = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    places = np.arange(array.shape[0] * array.shape[1], dtype=np.int32).reshape(array.shape[:2])
    if turn in how:
        places = np.asarray(Image.fromarray(places).transpose(how[turn]))
    return array.reshape(-1, *array.shape[2:])[places]
