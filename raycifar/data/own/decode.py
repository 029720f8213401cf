"""One image file becomes a square of RGB pixels; and the process that does so for many, which decoders.py starts.

It imports Pillow and NumPy alone, so that it starts in a tenth of a second.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from raycifar.storage.files import read_file

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")  # the last is GTSRB's
MOST_PIXELS, MOST_BYTES = 100_000_000, 1_000_000_000  # of an image
_SIXTEEN_BITS = 257  # 65535 / 255
_one_at_a_time = threading.Lock()


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of a decoded image: why there is none ("": there is one), how it looks, and its size before."""

    flaw: str = ""
    pixels: str = ""  # a digest: equal for images equal pixel by pixel
    gist: int = 0  # its 64-bit difference hash
    sums: tuple[int, int, int, int, int, int] = (0,) * 6  # of each channel, then of its squares
    size: int = 0  # the longer side, in pixels


def look(content: Path | bytes | np.ndarray, side: int, resize: str) -> tuple[np.ndarray | None, Look]:
    """The image uint8 (3, side, side), or None and why it cannot be read."""
    try:
        image = _opened(content)
        size = max(image.size)
        pixels = square(image, side, resize)
    except Exception as why:  # of any kind: each format's decoder has its own
        return None, Look(flaw=_reason(why))
    return pixels, _look(pixels, size)


def _opened(content: Path | bytes | np.ndarray) -> Image.Image:
    if isinstance(content, np.ndarray):
        return Image.fromarray(np.ascontiguousarray(content.transpose(1, 2, 0)))
    encoded = content if isinstance(content, bytes) else read_file(content, MOST_BYTES)
    with _of_any_size():  # the limit is below, and an error
        image = Image.open(io.BytesIO(encoded), formats=FORMATS)
    if (pixels := image.width * image.height) > MOST_PIXELS:
        raise ValueError(f"{pixels / 1e6:.0f} megapixels, more than {MOST_PIXELS / 1e6:.0f}")
    return image


def bordered(pixels: np.ndarray, width: int) -> np.ndarray:
    """Pixels (..., H, W) with so many black ones on each side."""
    return np.pad(pixels, [(0, 0)] * (pixels.ndim - 2) + [(width, width)] * 2)


@contextmanager
def _of_any_size() -> Iterator[None]:
    """Pillow's limit is the process's, which may be the user's own: it is lifted while a header is read."""
    with _one_at_a_time:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _reason(why: Exception) -> str:
    text = str(why).strip().partition("\n")[0]
    if "truncated" in text or "Truncated" in text:
        return "truncated"
    return "no image" if "cannot identify" in text else text[:80] or type(why).__name__


def square(image: Image.Image, side: int, resize: str) -> np.ndarray:
    """The image as uint8 (3, side, side): upright, in RGB, on white where it is transparent.

    `resize` is "crop": the short side becomes `side`, and the middle is kept; "squeeze": both become `side`; "pad": the
    long side becomes `side`, on black. A JPEG much larger than that is decoded at a half, a quarter or an eighth.
    """
    if image.format == "JPEG" and min(image.size) >= 4 * side:
        image.draft(None, (2 * side * image.width // min(image.size), 2 * side * image.height // min(image.size)))
    upright = ImageOps.exif_transpose(image)
    pixels = np.asarray(_sized(_rgb(upright), side, resize))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey
        grey = np.asarray(image).astype(np.int64).clip(0, 65_535)
        image = Image.fromarray(((grey + _SIXTEEN_BITS // 2) // _SIXTEEN_BITS).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; save it with 8 bits a channel")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return image.convert("RGB")


def _sized(image: Image.Image, side: int, resize: str) -> Image.Image:
    if image.size == (side, side):
        return image
    width, height = image.size
    if resize == "squeeze":
        return image.resize((side, side), Image.Resampling.BICUBIC)
    if resize == "pad":
        return ImageOps.pad(image, (side, side), Image.Resampling.BICUBIC)
    short = min(width, height)
    left, top = (width - short) / 2, (height - short) / 2
    return image.resize((side, side), Image.Resampling.BICUBIC, (left, top, left + short, top + short))


def _look(pixels: np.ndarray, size: int) -> Look:
    wide = pixels.reshape(3, -1).astype(np.int64)
    sums = [int(number) for number in (*wide.sum(1), *(wide * wide).sum(1))]
    digest = hashlib.blake2b(pixels.data, digest_size=16).hexdigest()
    return Look("", digest, _gist(pixels), (sums[0], sums[1], sums[2], sums[3], sums[4], sums[5]), size)


def _gist(pixels: np.ndarray) -> int:
    """Whether each of 8 x 8 grey pixels is brighter than its left neighbour (Krawetz 2013: a difference hash)."""
    grey = Image.fromarray(pixels.transpose(1, 2, 0).copy()).convert("L").resize((9, 8), Image.Resampling.BOX)
    small = np.asarray(grey).astype(np.int16)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def main(scratch: str, side: int, resize: str) -> None:
    """Decode what standard input asks for, `[first row, paths]` a line, into the rows of the file `scratch`.

    Each line is answered by one, the looks of its images.
    """
    warnings.simplefilter("ignore")  # of files that Pillow reads all the same
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the process that started this one, which ends this
    rows = os.open(scratch, os.O_WRONLY)
    for line in sys.stdin:
        first, paths = json.loads(line)
        looks = []
        for row, path in enumerate(paths, first):
            pixels, seen = look(Path(path), side, resize)
            if pixels is not None:
                os.pwrite(rows, pixels.tobytes(), row * pixels.nbytes)
            looks.append(asdict(seen))
        print(json.dumps(looks), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
