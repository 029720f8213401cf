"""What becomes of one image: real files in the formats and modes that people have."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from raycifar.data.own.decode import look
from tests.support.own_images import pictures

SIDE = 32
RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


@pytest.fixture
def photograph():
    return next(iter(pictures()))


def saved(tmp_path, image, name="x.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def decoded(path, side=SIDE, resize="crop"):
    pixels, seen = look(path, side, resize)
    assert seen.flaw == ""
    return pixels


def at(pixels, x, y):
    return tuple(int(value) for value in pixels[:, y, x])


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp"])
def test_an_image_of_the_right_size_keeps_every_pixel(tmp_path, photograph, suffix):
    path = saved(tmp_path, photograph, f"x{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    assert np.array_equal(decoded(path), np.asarray(photograph).transpose(2, 0, 1))


def flat(mode, value):
    return Image.new(mode, (SIDE, SIDE), value)


def sixteen_bits(value):
    return Image.fromarray(np.full((SIDE, SIDE), value, np.uint16))


def palette(transparent):
    image = flat("P", 1)
    image.putpalette([*RED, *BLUE])
    image.info |= {"transparency": 1} if transparent else {}
    return image


MODES = {
    "grey": (flat("L", 77), (77, 77, 77)),
    "black and white": (flat("1", 1), WHITE),
    "palette": (palette(False), BLUE),
    "palette with a transparent colour": (palette(True), WHITE),
    "16 bits, white": (sixteen_bits(65_535), WHITE),
    "16 bits, a middle grey": (sixteen_bits(257 * 100), (100, 100, 100)),
    "16 bits, rounded": (sixteen_bits(257 * 100 + 129), (101, 101, 101)),
    "transparent": (flat("RGBA", (*RED, 0)), WHITE),
    "half transparent": (flat("RGBA", (255, 0, 0, 51)), (255, 204, 204)),
    "opaque": (flat("RGBA", (*RED, 255)), RED),
    "grey and transparent": (flat("LA", (0, 0)), WHITE),
}


@pytest.mark.parametrize(("image", "colour"), MODES.values(), ids=MODES.keys())
def test_a_png_of_any_mode_becomes_three_channels_of_eight_bits(tmp_path, image, colour):
    assert at(decoded(saved(tmp_path, image)), 5, 9) == colour


def test_printers_colours_become_those_of_a_screen(tmp_path):
    path = saved(tmp_path, flat("CMYK", (0, 255, 255, 0)), "x.jpg", quality=100)
    assert np.abs(np.array(at(decoded(path), 5, 5)) - RED).max() <= 3


# What a camera writes for each way to hold it: from the pixels as stored to the upright image.
TURNS = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 6: lambda a: np.rot90(a, -1), 8: np.rot90}


@pytest.mark.parametrize(("orientation", "turned"), TURNS.items())
def test_a_phones_mark_of_rotation_is_heeded(tmp_path, photograph, orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, photograph, exif=exif)
    assert np.array_equal(decoded(path), turned(np.asarray(photograph)).transpose(2, 0, 1))


@pytest.fixture
def thirds(tmp_path):
    """Twice as wide as high: red, green and blue from left to right, the green as wide as the image is high."""
    image = Image.new("RGB", (256, 128), GREEN)
    image.paste(RED, (0, 0, 64, 128))
    image.paste(BLUE, (192, 0, 256, 128))
    return saved(tmp_path, image)


def test_crop_keeps_the_middle_square(thirds):
    pixels = decoded(thirds)
    assert (at(pixels, 3, 16), at(pixels, 28, 16)) == (GREEN, GREEN)


def test_squeeze_keeps_both_ends(thirds):
    pixels = decoded(thirds, resize="squeeze")
    assert [at(pixels, x, 16) for x in (1, 16, 30)] == [RED, GREEN, BLUE]


def test_pad_keeps_the_shape_on_black(thirds):
    pixels = decoded(thirds, resize="pad")
    assert [at(pixels, 16, y) for y in (0, 7, 16, 24, 31)] == [BLACK, BLACK, GREEN, BLACK, BLACK]
    assert [at(pixels, x, 16) for x in (1, 30)] == [RED, BLUE]


def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same(tmp_path, photograph):
    large = photograph.resize((1024, 1024), Image.Resampling.BICUBIC)
    once, plain = decoded(saved(tmp_path, large, "x.jpg", quality=95)), decoded(saved(tmp_path, large, "x.png"))
    assert np.abs(once.astype(int) - plain).mean() < 2


def png_of(width, height):
    """A PNG whose header promises so many pixels, and that has none."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(3)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


BAD = {
    "a page in place of an image": (b"<!DOCTYPE html>", "no image"),
    "nothing": (b"", "no image"),
    "400 megapixels": (png_of(20_000, 20_000), "400 megapixels, more than 100"),
    "a GIF by another name": (b"GIF89a" + bytes(20), "no image"),
}


@pytest.mark.parametrize(("content", "flaw"), BAD.values(), ids=BAD.keys())
def test_what_is_no_image_has_its_reason(tmp_path, content, flaw):
    (tmp_path / "x.png").write_bytes(content)
    pixels, seen = look(tmp_path / "x.png", SIDE, "crop")
    assert (pixels, seen.flaw) == (None, flaw)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_file_cut_short_is_truncated(tmp_path, photograph, suffix):
    path = saved(tmp_path, photograph, f"x.{suffix}")
    path.write_bytes(path.read_bytes()[:-300])
    assert look(path, SIDE, "crop")[1].flaw == "truncated"


def test_pixels_that_are_floating_point_numbers_are_refused(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.zeros((4, 4), np.float32)), "x.tif")
    assert "floating-point" in look(path, SIDE, "crop")[1].flaw


def test_images_equal_pixel_by_pixel_have_one_digest_and_near_ones_nearly_one_hash(tmp_path, photograph):
    png, bmp = saved(tmp_path, photograph), saved(tmp_path, photograph, "x.bmp")
    jpeg, other = saved(tmp_path, photograph, "x.jpg", quality=90), list(pictures())[7]
    looks = [look(path, SIDE, "crop")[1] for path in (png, bmp, jpeg, saved(tmp_path, other, "y.png"))]
    assert [seen.pixels == looks[0].pixels for seen in looks] == [True, True, False, False]
    apart = [(seen.gist ^ looks[0].gist).bit_count() for seen in looks]
    assert apart[:2] == [0, 0]
    assert apart[2] <= 2
    assert apart[3] > 10
