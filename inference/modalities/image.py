"""Images: JPEG, PNG and WebP, with limits that hold before a pixel is decoded."""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from inference.modalities.base import Decoded, Modality, Prepared, Preprocessing, Status

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_BYTES = 10_000_000
# 75 MB of RGB: larger files are bombs or belong to another pipeline.
MAX_PIXELS = 25_000_000
# Sharpness and noise are read at full resolution from the centre, the others from every nth pixel, so that their cost
# has a bound; planes of that size are also reused by the allocator, where larger ones cost a page fault per 4 kB.
CROP = 256
QUALITY = ("brightness", "contrast", "saturation", "sharpness", "noise")
_JPEG = b"\xff\xd8\xff"
_OTHER_FORMATS = (b"GIF8", b"BM", b"II*\0", b"MM\0*", b"8BPS", b"\0\0\1\0", b"%PDF")

_LUMA = np.array([0.299, 0.587, 0.114], np.float32) / np.float32(255)  # ITU-R BT.601

Pixels = NDArray[np.uint8]
Plane = NDArray[np.float32]


def decode(data: bytes) -> Decoded:
    """An RGB picture (height, width, 3) uint8, or why there is none."""
    if not data:
        return Decoded(Status.MISSING, "empty")
    if len(data) > MAX_BYTES:
        return Decoded(Status.REJECTED, "too_large")
    if data.startswith(_JPEG) and (pixels := _jpeg(data)) is not None:
        return Decoded(Status.PRESENT, value=pixels)
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


def _jpeg(data: bytes) -> Pixels | None:
    """The pixels of a plain JPEG within limits, as Pillow would decode them, at half its cost; None for any other."""
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
        if space not in ("YCbCr", "Gray") or height * width > MAX_PIXELS:
            return None
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB")
    except ValueError:
        return None
    return pixels


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
    sample = np.ascontiguousarray(picture[::step, ::step])
    light: Plane = sample @ _LUMA
    planes = np.ascontiguousarray(sample.transpose(2, 0, 1))  # a reduction over the last axis is several times slower
    highest, lowest = planes.max(axis=0), planes.min(axis=0)
    saturation = (highest - lowest) / np.maximum(highest, np.uint8(1), dtype=np.float32)
    top, left = max(0, (height - CROP) // 2), max(0, (width - CROP) // 2)
    detail = light if step == 1 else picture[top : top + CROP, left : left + CROP] @ _LUMA
    sharpness, noise = _detail(detail)
    return float(light.mean()), _variance(light) ** 0.5, float(saturation.mean()), sharpness, noise


def _detail(light: Plane) -> tuple[float, float]:
    if min(light.shape) < 3:
        return 0.0, 0.0
    down = _curvature(light)
    laplacian = down[:, 1:-1] + _curvature(light[1:-1].T).T
    mask = _curvature(down.T)  # Immerkær's mask is the product of the second differences along both axes
    return _variance(laplacian), float(np.abs(mask).mean() * np.sqrt(np.pi / 2) / 6)


def _curvature(plane: Plane) -> Plane:
    """Second differences along the first axis: two rows fewer."""
    slope = plane[1:] - plane[:-1]
    curvature: Plane = slope[1:] - slope[:-1]
    return curvature


def _variance(plane: Plane) -> float:
    centred = (plane - plane.mean()).ravel()
    return float(np.dot(centred, centred) / centred.size)


MODALITY = Modality("image", bytes, QUALITY, decode, prepare, blank=np.zeros((1, 1, 3), np.uint8))
