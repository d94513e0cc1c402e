"""Images: JPEG, PNG and WebP, with limits that hold before a pixel is decoded."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inference.modalities.base import Decoded, Modality, Prepared, Preprocessing, Status

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_BYTES = 10_000_000
# 75 MB of RGB: larger files are bombs or belong to another pipeline.
MAX_PIXELS = 25_000_000
# Sharpness and noise are read at full resolution from the centre, so that their cost has a bound.
CROP = 512
QUALITY = ("brightness", "contrast", "saturation", "sharpness", "noise")
_OTHER_FORMATS = (b"GIF8", b"BM", b"II*\0", b"MM\0*", b"8BPS", b"\0\0\1\0", b"%PDF")

Pixels = NDArray[np.uint8]
Plane = NDArray[np.float32]


def decode(data: bytes) -> Decoded:
    """An RGB picture (height, width, 3) uint8, or why there is none."""
    if not data:
        return Decoded(Status.MISSING, "empty")
    if len(data) > MAX_BYTES:
        return Decoded(Status.REJECTED, "too_large")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                return Decoded(Status.REJECTED, "too_many_pixels")
            return Decoded(Status.PRESENT, value=np.asarray(image.convert("RGB")))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return Decoded(Status.REJECTED, "too_many_pixels")
    except Exception as error:  # noqa: BLE001  # decoders meet untrusted bytes with whatever exception they have
        if data.startswith(_OTHER_FORMATS):
            return Decoded(Status.REJECTED, "format_not_allowed")
        return Decoded(Status.CORRUPT, "truncated" if "truncated" in str(error) else "undecodable")


def prepare(picture: Pixels, preprocessing: Preprocessing) -> Prepared:
    """`pixels` and the quality statistics of a picture."""
    return Prepared(preprocessing.picture(picture), np.array(measure(picture), np.float32))


def measure(picture: Pixels) -> tuple[float, ...]:
    """The statistics named in `QUALITY`, on pixel values scaled to 0-1.

    Brightness and contrast are the mean and standard deviation of luminance (ITU-R BT.601); saturation is the mean of
    (max - min) / max over the channels; sharpness is the variance of the Laplacian (Pech-Pacheco et al. 2000);
    noise is the standard deviation estimated by Immerkær's mask (1996).
    """
    height, width = picture.shape[:2]
    step = max(1, max(height, width) // CROP)
    red, green, blue = _planes(picture[::step, ::step])
    light = _luminance(red, green, blue)
    # plane by plane: a reduction over an axis of three is several times slower
    highest = np.maximum(np.maximum(red, green), blue)
    lowest = np.minimum(np.minimum(red, green), blue)
    saturation = (highest - lowest) / np.maximum(highest, np.float32(1 / 255))
    whole = max(height, width) <= CROP
    top, left = max(0, (height - CROP) // 2), max(0, (width - CROP) // 2)
    detail = light if whole else _luminance(*_planes(picture[top : top + CROP, left : left + CROP]))
    sharpness, noise = _detail(detail)
    return float(light.mean()), float(light.std()), float(saturation.mean()), sharpness, noise


def _planes(picture: Pixels) -> Plane:
    """(3, height, width), contiguous, scaled to 0-1."""
    return np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32) / np.float32(255)


def _luminance(red: Plane, green: Plane, blue: Plane) -> Plane:
    light: Plane = np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
    return light


def _detail(light: Plane) -> tuple[float, float]:
    if min(light.shape) < 3:
        return 0.0, 0.0
    centre = light[1:-1, 1:-1]
    edges = light[:-2, 1:-1] + light[2:, 1:-1] + light[1:-1, :-2] + light[1:-1, 2:]
    corners = light[:-2, :-2] + light[:-2, 2:] + light[2:, :-2] + light[2:, 2:]
    laplacian = edges - 4 * centre
    mask = corners - 2 * edges + 4 * centre
    return float(laplacian.var()), float(np.abs(mask).mean() * np.sqrt(np.pi / 2) / 6)


MODALITY = Modality("image", bytes, QUALITY, decode, prepare, blank=np.zeros((1, 1, 3), np.uint8))
