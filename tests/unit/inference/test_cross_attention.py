"""The cross-attention family: masks, missing modalities, and rows that do not depend on their neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from inference.models.base import FusionOutput, ModalityBatch
from inference.models.cross_attention import CrossAttentionConfig, CrossAttentionFusion
from inference.models.cross_block import CrossBlock
from inference.models.pair import masked_mean
from inference.models.registry import families
from tests.support.tiny_model import random_batch, small_model

Batch = Mapping[str, ModalityBatch]


def run(model: CrossAttentionFusion, batch: Batch, *, with_attention: bool = False) -> FusionOutput:
    with torch.inference_mode():
        output: FusionOutput = model(batch, with_attention=with_attention)
    return output


def rows(batch: Batch, chosen: slice) -> dict[str, ModalityBatch]:
    return {
        name: ModalityBatch({k: v[chosen] for k, v in part.tensors.items()}, part.present[chosen])
        for name, part in batch.items()
    }


def padded(batch: Batch, extra: int) -> dict[str, ModalityBatch]:
    ids, mask = batch["text"].tensors["input_ids"], batch["text"].tensors["attention_mask"]
    # padding carries arbitrary ids: only the mask may decide
    junk = torch.full((len(ids), extra), 17)
    tensors = {"input_ids": torch.cat((ids, junk), 1), "attention_mask": torch.nn.functional.pad(mask, (0, extra))}
    return {**batch, "text": replace(batch["text"], tensors=tensors)}


def without(batch: Batch, modality: str, gone: list[bool]) -> dict[str, ModalityBatch]:
    return {**batch, modality: replace(batch[modality], present=~torch.tensor(gone))}


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, atol=2e-6, rtol=1e-5)


def test_shapes() -> None:
    output = run(small_model(), random_batch(), with_attention=True)
    assert output.logits.shape == (4, 3)
    assert {k: tuple(v.shape) for k, v in output.embeddings.items()} == {
        "image": (4, 32),
        "text": (4, 32),
        "fused": (4, 32),
    }
    assert {k: tuple(v.shape) for k, v in output.unimodal_logits.items()} == {"image": (4, 3), "text": (4, 3)}
    assert output.attention is not None
    assert output.attention.shape == (4, 5, 10)
    assert run(small_model(), random_batch()).attention is None


def test_attention_falls_on_real_tokens_only() -> None:
    batch = random_batch()
    attention = run(small_model(), batch, with_attention=True).attention
    assert attention is not None
    mask = batch["text"].tensors["attention_mask"].bool()[:, None, :].expand_as(attention)
    assert torch.all(attention[~mask] == 0.0)
    assert torch.all(attention[mask] > 0.0)
    assert close(attention.sum(-1), torch.ones(4, 5))


@pytest.mark.parametrize("extra", [1, 7, 20])
def test_padding_changes_nothing(extra: int) -> None:
    model, batch = small_model(), random_batch()
    plain, wide = run(model, batch), run(model, padded(batch, extra))
    assert close(plain.logits, wide.logits)
    for name, embedding in plain.embeddings.items():
        assert close(embedding, wide.embeddings[name])


def test_a_real_token_matters() -> None:
    """The counterpart of the padding test: the same change inside the mask is seen."""
    model, batch = small_model(), random_batch()
    ids = batch["text"].tensors["input_ids"].clone()
    ids[:, 3] = 17
    other = {**batch, "text": replace(batch["text"], tensors={**batch["text"].tensors, "input_ids": ids})}
    assert not close(run(model, batch).logits, run(model, other).logits)


def test_batch_mates_change_nothing() -> None:
    model, batch = small_model(), random_batch()
    together = run(model, batch).logits
    for i in range(4):
        assert close(together[i : i + 1], run(model, rows(batch, slice(i, i + 1))).logits)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_missing_modality_content_is_ignored(modality: str) -> None:
    model, batch = small_model(), random_batch()
    gone = [False, True, False, True]
    first = run(model, without(batch, modality, gone))
    other = {**batch, modality: random_batch(seed=9)[modality]}
    second = run(model, without(other, modality, gone))
    missing = torch.tensor(gone)
    assert close(first.logits[missing], second.logits[missing])
    assert not close(first.logits[~missing], second.logits[~missing])
    assert torch.all(first.embeddings[modality][missing] == 0.0)
    assert torch.all(torch.isfinite(first.logits))


def test_missing_rows_leave_present_rows_alone() -> None:
    model, batch = small_model(), random_batch()
    full = run(model, batch).logits
    some = run(model, without(batch, "text", [False, True, False, False])).logits
    assert close(full[[0, 2, 3]], some[[0, 2, 3]])
    assert not close(full[1], some[1])


def test_text_missing_with_an_empty_mask_is_finite() -> None:
    model, batch = small_model(), random_batch()
    empty = {k: torch.zeros_like(v) for k, v in batch["text"].tensors.items()}
    here = torch.zeros(4, dtype=torch.bool)
    output = run(model, {**batch, "text": ModalityBatch(empty, here)}, with_attention=True)
    assert torch.all(torch.isfinite(output.logits))
    assert output.attention is not None
    assert torch.all(output.attention[..., 0] == 1.0)


def test_missing_token_learns() -> None:
    model = small_model()
    output = model(without(random_batch(), "image", [True, False, False, False]))
    output.logits.sum().backward()
    gradient = model.missing["image"].grad
    assert gradient is not None
    assert float(gradient.abs().sum()) > 0.0


def test_unimodal_heads_only_observe() -> None:
    model = small_model()
    output = model(random_batch())
    (output.unimodal_logits["image"].sum() + output.unimodal_logits["text"].sum()).backward()
    assert all(p.grad is None for p in model.image_encoder.parameters())
    assert all(p.grad is None for p in model.text_encoder.parameters())
    assert model.text_head.weight.grad is not None


def test_query_and_key_start_aligned() -> None:
    block = CrossBlock(16, 2)
    block.align()
    product = block.query.weight @ block.key.weight.T
    assert torch.allclose(product, 4.0 * torch.eye(16), atol=1e-4)


def test_masked_mean() -> None:
    tokens = torch.arange(12.0).view(2, 3, 2)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert masked_mean(tokens, mask).tolist() == [[1.0, 2.0], [0.0, 0.0]]


def test_unknown_stem_is_refused() -> None:
    config = CrossAttentionConfig(image_stem="magic", id2label={0: "a", 1: "b"})
    with pytest.raises(ValueError, match="image_stem is 'magic'; allowed: linear, convolutional"):
        CrossAttentionFusion(config)


def test_family_is_found() -> None:
    family = families()["fusion_cross_attention"]
    assert family.config is CrossAttentionConfig
    assert set(family.encoders) == {"image", "text"}
