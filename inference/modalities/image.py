"""Images: JPEG, PNG and WebP, with limits that hold before a pixel is decoded."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from inference.modalities.base import Decoded, Modality, Prepared, Preprocessing, Status

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_BYTES = 10_000_000
# 75 MB of RGB: larger files are bombs or belong to another pipeline.
MAX_PIXELS = 25_000_000
warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # from 89 million on: refused here long before
# Encoders write about ten. Each costs a pass over the whole picture however few bytes it has: 0.2 s at MAX_PIXELS.
MAX_SCANS = 32
# Sharpness and noise are read at full resolution from the centre, the others from every nth pixel, so that their cost
# has a bound; planes of that size are also reused by the allocator, where larger ones cost a page fault per 4 kB.
CROP = 256
# Small pictures of one size are measured together, up to so many pixels: planes of 128 kB, which stay in the cache.
STACKED = 32_768
QUALITY = ("brightness", "contrast", "saturation", "sharpness", "noise")
_JPEG = b"\xff\xd8\xff"
_START_OF_SCAN = b"\xff\xda"
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
    # a marker's bytes do not occur in what a scan encodes: there 0xFF is followed by 0 or a restart
    if data.startswith(_JPEG) and data.count(_START_OF_SCAN) > MAX_SCANS:
        return Decoded(Status.REJECTED, "too_many_scans")
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


def prepare(pictures: Sequence[Pixels], preprocessing: Preprocessing) -> list[Prepared]:
    """`pixels` and the quality statistics of each picture."""
    measured = measure(pictures)
    return [
        Prepared(preprocessing.picture(picture), quality) for picture, quality in zip(pictures, measured, strict=True)
    ]


def measure(pictures: Sequence[Pixels]) -> NDArray[np.float32]:
    """(N, 5) statistics named in `QUALITY` of N pictures (height, width, 3) of any sizes, pixels scaled to 0-1.

    Brightness and contrast are the mean and standard deviation of luminance (ITU-R BT.601); saturation is the mean of
    (max - min) / max over the channels; sharpness is the variance of the Laplacian (Pech-Pacheco et al. 2000);
    noise is the standard deviation estimated by Immerkær's mask (1996).
    """
    by_size: dict[tuple[int, ...], list[int]] = {}
    for index, picture in enumerate(pictures):
        by_size.setdefault(picture.shape, []).append(index)
    measured = np.empty((len(pictures), len(QUALITY)), np.float32)
    for (height, width, _), chosen in by_size.items():
        step = max(1, max(height, width) // CROP)
        together = max(1, STACKED * step**2 // (height * width))
        for start in range(0, len(chosen), together):
            part = chosen[start : start + together]
            # one by itself is no copy: it may be large
            stack = pictures[part[0]][None] if len(part) == 1 else np.stack([pictures[index] for index in part])
            measured[part] = _measure(stack, step)
    return measured


def _measure(stack: Pixels, step: int) -> Plane:
    """(K, 5) of K pictures (K, height, width, 3), of which every `step`-th row and column is looked at."""
    planes = _planes(stack[:, ::step, ::step])
    light = _light(planes)
    highest, lowest = (by(by(planes[0], planes[1]), planes[2]) for by in (np.maximum, np.minimum))
    saturation = (highest - lowest) / np.maximum(highest, np.uint8(1), dtype=np.float32)
    height, width = stack.shape[1:3]
    top, left = max(0, (height - CROP) // 2), max(0, (width - CROP) // 2)
    detail = light if step == 1 else _light(_planes(stack[:, top : top + CROP, left : left + CROP]))
    sharpness, noise = _detail(detail)
    return np.stack([_mean(light), np.sqrt(_variance(light)), _mean(saturation), sharpness, noise], axis=1)


def _planes(stack: Pixels) -> Pixels:
    """(3, K, height, width): what is done to channels is several times slower along the last axis."""
    return np.ascontiguousarray(stack.transpose(3, 0, 1, 2))


def _light(planes: Pixels) -> Plane:
    light: Plane = planes[0] * _LUMA[0]
    light += planes[1] * _LUMA[1]
    light += planes[2] * _LUMA[2]
    return light


def _detail(light: Plane) -> tuple[Plane, Plane]:
    """Sharpness and noise (K,); 0 of pictures too small for a 3 x 3 mask."""
    if min(light.shape[1:]) < 3:
        return np.zeros(len(light), np.float32), np.zeros(len(light), np.float32)
    down = _curvature(light, 1)
    laplacian = down[:, :, 1:-1] + _curvature(light[:, 1:-1], 2)
    mask = _curvature(down, 2)  # Immerkær's mask is the product of the second differences along both axes
    return _variance(laplacian), _mean(np.abs(mask, out=mask)) * np.float32(np.sqrt(np.pi / 2) / 6)


def _curvature(stack: Plane, axis: int) -> Plane:
    """Second differences along an axis of (K, height, width): two fewer there."""
    after, before = (slice(1, None), slice(None, -1))
    along = (slice(None),) * axis
    slope = stack[(*along, after)] - stack[(*along, before)]
    curvature: Plane = slope[(*along, after)] - slope[(*along, before)]
    return curvature


def _mean(stack: Plane) -> Plane:
    mean: Plane = stack.reshape(len(stack), -1).mean(axis=1)
    return mean


def _variance(stack: Plane) -> Plane:
    rows = stack.reshape(len(stack), -1)
    centred = rows - rows.mean(axis=1, keepdims=True)
    variance: Plane = np.einsum("ij,ij->i", centred, centred) / np.float32(rows.shape[1])
    return variance


MODALITY = Modality("image", bytes, QUALITY, decode, prepare, blank=np.zeros((1, 1, 3), np.uint8))
