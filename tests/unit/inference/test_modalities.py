from __future__ import annotations

import io
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from inference.modalities import image, text
from inference.modalities.base import Status, modalities
from tests.support.tiny_model import small_preprocessor


def encoded(pixels: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


NOISE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def test_every_modality_is_found_by_its_name() -> None:
    assert {"image", "text"} <= modalities().keys()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_allowed_formats_decode_to_rgb(kind: str) -> None:
    decoded = image.decode(encoded(NOISE, kind))
    assert decoded.status is Status.PRESENT
    assert decoded.value.shape == (40, 60, 3)
    assert decoded.value.dtype == np.uint8


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (b"", Status.MISSING, "empty"),
        (b"\xff" * (image.MAX_BYTES + 1), Status.REJECTED, "too_large"),
        (encoded(NOISE, "JPEG")[:-200], Status.CORRUPT, "truncated"),
        (encoded(NOISE, "JPEG")[:30], Status.CORRUPT, "undecodable"),
        (b"hello", Status.CORRUPT, "undecodable"),
        (encoded(NOISE, "GIF"), Status.REJECTED, "format_not_allowed"),
        (encoded(NOISE, "TIFF"), Status.REJECTED, "format_not_allowed"),
        (encoded(NOISE, "BMP"), Status.REJECTED, "format_not_allowed"),
    ],
)
def test_an_unusable_image_has_a_reason(data: bytes, status: Status, reason: str) -> None:
    decoded = image.decode(data)
    assert (decoded.status, decoded.reason, decoded.value) == (status, reason, None)


def test_a_picture_with_scan_after_scan_is_refused_before_it_is_decoded() -> None:
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, "JPEG", progressive=True)
    progressive = buffer.getvalue()
    assert image.decode(progressive).status is Status.PRESENT
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    bomb = progressive[:-2] + scan * image.MAX_SCANS + progressive[-2:]
    decoded = image.decode(bomb)
    assert (decoded.status, decoded.reason) == (Status.REJECTED, "too_many_scans")


ADDRESSES = [
    "http://127.0.0.1/a.jpg",
    "https://host.test/a.png",
    "file:///etc/passwd",
    "ftp://h/a",
    "data:image/png;base64,AA",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_neither_fetched_nor_opened(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a decoder must not reach out")

    for reached in ("socket.socket.connect", "socket.getaddrinfo", "builtins.open", "os.open"):
        monkeypatch.setattr(reached, refuse)
    decoded = image.decode(address.encode())
    assert (decoded.status, decoded.reason) == (Status.CORRUPT, "undecodable")
    assert text.decode(address).value == address, "in a caption it is text"


@pytest.mark.parametrize("side", [5001, 10_000, 15_000])
def test_too_many_pixels_are_refused_before_they_are_decoded(side: int) -> None:
    header = encoded(np.zeros((1, 1), np.uint8))
    # the size stands in the header: a bomb needs no pixels to be refused
    at = header.index(b"IHDR")
    chunk = b"IHDR" + side.to_bytes(4, "big") * 2 + header[at + 12 : at + 17]
    bomb = header[:at] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + header[at + 21 :]
    assert image.decode(bomb).reason == "too_many_pixels"


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_never_an_exception(data: bytes) -> None:
    assert image.decode(data).status is not Status.PRESENT
    assert image.decode(b"\x89PNG\r\n\x1a\n" + data).value is None


def test_image_statistics_follow_what_they_name() -> None:
    names = dict(zip(image.QUALITY, image.measure([NOISE])[0], strict=True))
    grey = np.full((64, 64, 3), 100, np.uint8)
    flat = dict(zip(image.QUALITY, image.measure([grey])[0], strict=True))
    dark = dict(zip(image.QUALITY, image.measure([(NOISE * 0.3).astype(np.uint8)])[0], strict=True))
    assert flat["brightness"] == pytest.approx(100 / 255, abs=1e-6)
    assert flat["saturation"] == flat["sharpness"] == 0.0
    assert dark["brightness"] == pytest.approx(0.3 * names["brightness"], abs=0.01)
    assert names["sharpness"] > 0.1


def test_the_noise_estimate_finds_the_noise_that_was_added() -> None:
    rng = np.random.default_rng(1)
    light = 128 + rng.normal(0, 10, (256, 256, 1)) @ np.ones((1, 3))
    estimate = image.measure([np.clip(light, 0, 255).astype(np.uint8)])[0][image.QUALITY.index("noise")]
    assert estimate == pytest.approx(10 / 255, rel=0.05)


def test_a_large_image_is_measured_within_bounds() -> None:
    large = np.random.default_rng(0).integers(0, 256, (3000, 2000, 3), np.uint8)
    small = dict(zip(image.QUALITY, image.measure([large[:400, :400]])[0], strict=True))
    assert dict(zip(image.QUALITY, image.measure([large])[0], strict=True)) == pytest.approx(small, rel=0.03)


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        ("", Status.MISSING, "empty"),
        (" \n\t", Status.MISSING, "empty"),
        ("a\0b", Status.REJECTED, "nul"),
        ("a\ud800b", Status.REJECTED, "lone_surrogate"),
        ("a" * 64_001, Status.REJECTED, "too_large"),
        ("é" * 32_001, Status.REJECTED, "too_large"),
        ("a" * 64_000, Status.PRESENT, None),
        ("\u202eright to left", Status.PRESENT, None),
    ],
)
def test_text_limits(data: str, status: Status, reason: str | None) -> None:
    decoded = text.decode(data)
    assert (decoded.status, decoded.reason) == (status, reason)


def test_a_picture_is_prepared_at_the_models_size_as_bytes() -> None:
    prepared = image.prepare([NOISE], small_preprocessor())[0]
    expected = np.asarray(Image.fromarray(NOISE).resize((32, 32), Image.Resampling.BILINEAR))
    assert prepared.inputs["pixels"].dtype == np.uint8
    assert np.array_equal(prepared.inputs["pixels"], expected)
    assert prepared.quality == pytest.approx(image.measure([NOISE])[0])
    at_size = image.prepare([expected], small_preprocessor())[0].inputs["pixels"]
    assert np.array_equal(at_size, expected)
    with pytest.raises(ValueError, match=r"expected \(height, width, 3\) uint8"):
        small_preprocessor().picture(NOISE[:, :, 0])


def test_a_text_is_prepared_unpadded_and_measured() -> None:
    preprocessor = small_preprocessor()
    prepared = text.prepare(["a red xyz é"], preprocessor)[0]
    ids = prepared.inputs["input_ids"]
    assert ids.tolist() == preprocessor.tokenizer.encode("a red xyz é").ids
    assert prepared.inputs["attention_mask"].tolist() == [1] * len(ids)
    names = dict(zip(text.QUALITY, prepared.quality.tolist(), strict=True))
    # [CLS] a red x ##y ##z e [SEP]: the normaliser takes the accent off
    assert names == pytest.approx(
        {"pieces": 6, "unknown_share": 0, "pieces_per_word": 6 / 4, "unusual_share": 1 / 11}, rel=1e-6
    )
    long = text.prepare(["red " * 100], preprocessor)[0]
    assert len(long.inputs["input_ids"]) == 32
    assert long.quality[0] == 30
    assert text.prepare(["☃"], preprocessor)[0].quality[1] == 1.0


@given(st.text(st.sampled_from("aZ ~\t\n\r\x1f\x7f\xa0é☃"), min_size=1, max_size=20))
def test_unusual_characters_are_those_outside_printable_ascii(written: str) -> None:
    usual = sum(" " <= character <= "~" or character in "\t\n" for character in written)
    measured = text.prepare([written], small_preprocessor())[0].quality[text.QUALITY.index("unusual_share")]
    assert measured == pytest.approx(1 - usual / len(written), abs=1e-6)


def test_values_are_prepared_together_as_each_by_itself() -> None:
    preprocessor, rng = small_preprocessor(), np.random.default_rng(2)
    sizes = [(64, 64), (9, 2), (64, 64), (300, 20), (1, 1), (520, 520), (64, 64)] * 3
    pictures = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    words = ["", "red", "a red circle left of a blue square", "☃"]
    for modality, values in ((image, pictures), (text, words)):
        together = modality.prepare(values, preprocessor)
        for each, value in zip(together, values, strict=True):
            (alone,) = modality.prepare([value], preprocessor)
            assert each.quality == pytest.approx(alone.quality, rel=1e-5, abs=1e-7)
            assert all(np.array_equal(each.inputs[name], array) for name, array in alone.inputs.items())


def test_values_are_prepared_alike_by_many_threads() -> None:
    preprocessor = small_preprocessor()
    pictures = [np.roll(NOISE, i, axis=0) for i in range(40)]
    words = [" ".join(["red", "circle", "of"][: i % 3 + 1]) for i in range(40)]

    def both(index: int) -> tuple[bytes, list[int]]:
        pixels = image.prepare([pictures[index]], preprocessor)[0].inputs["pixels"]
        return pixels.tobytes(), text.prepare([words[index]], preprocessor)[0].inputs["input_ids"].tolist()

    alone = [both(index) for index in range(40)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert list(pool.map(both, range(40))) == alone
