"""Cross-attention fusion: image tokens (ViT) query text tokens (BERT) and compare themselves with what they find."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.configuration_utils import SubConfigSpec

from inference.models.base import Encoded, Family, FusionOutput, ModalityBatch


class CrossAttentionConfig(PreTrainedConfig):
    """Configuration with one sub-configuration per encoder.

    `image_stem` is `linear` (ViT's own patch projection, for pretrained encoders) or `convolutional` (for encoders
    trained from scratch on few pictures).
    """

    model_type = "fusion_cross_attention"
    sub_configs_defaults = {  # noqa: RUF012  # the base class reads this name from the class body
        "vision_config": SubConfigSpec(AutoConfig, model_type="vit"),
        "text_config": SubConfigSpec(AutoConfig, model_type="bert"),
    }

    vision_config: dict[str, Any] | PreTrainedConfig | None = None
    text_config: dict[str, Any] | PreTrainedConfig | None = None
    fusion_size: int = 256
    fusion_heads: int = 4
    image_stem: str = "linear"
    initializer_range: float = 0.02


class ConvolutionalStem(nn.Module):
    """Patch embedding by stride-2 convolutions: (B, 3, H, W) to (B, H·W / 256, size).

    Early convolutions make small vision transformers trainable from scratch (Xiao et al. 2021, arXiv:2106.14881).
    """

    widths = (16, 32, 64, 96)

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        steps: list[nn.Module] = []
        for width in self.widths:
            steps += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.GroupNorm(1, width), nn.GELU()]
            channels = width
        self.steps = nn.Sequential(*steps)
        # ViTModel looks at `projection.weight` for its dtype
        self.projection = nn.Conv2d(channels, size, 1)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Patch embeddings, row by row."""
        return cast(Tensor, self.projection(self.steps(pixel_values))).flatten(2).transpose(1, 2)


class CrossBlock(nn.Module):
    """Pre-norm cross-attention whose update sees the query, what it found, and their product.

    The product lets a token test whether what it attends to agrees with it, which attention alone only averages.
    """

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_norm, self.key_norm, self.feed_norm = (nn.LayerNorm(size) for _ in range(3))
        self.query, self.key, self.value = (nn.Linear(size, size) for _ in range(3))
        self.update = nn.Linear(3 * size, size)
        self.feed = nn.Sequential(nn.Linear(size, 2 * size), nn.GELU(), nn.Linear(2 * size, size))

    def align(self) -> None:
        """Start with queries and keys in the same rotated space, so that like attends to like from the first step."""
        nn.init.orthogonal_(self.query.weight, gain=2.0)
        with torch.no_grad():
            self.key.weight.copy_(self.query.weight)

    def forward(self, queries: Tensor, keys: Tensor, key_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Update `queries` (B, Q, d) from `keys` (B, K, d); attention (B, Q, K) is the mean over heads."""
        x, y = self.query_norm(queries), self.key_norm(keys)
        q, k, v = self._split(self.query(x)), self._split(self.key(y)), self._split(self.value(y))
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        weights = scores.masked_fill(~key_mask[:, None, None, :], torch.finfo(scores.dtype).min).softmax(-1)
        found = (weights @ v).transpose(1, 2).flatten(2)
        queries = queries + self.update(torch.cat((x, found, x * found), dim=-1))
        return queries + self.feed(self.feed_norm(queries)), weights.mean(1)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B, T, d) over the tokens that `mask` (B, T) marks; zeros for a row that marks none."""
    weight = mask.to(tokens.dtype)
    return torch.einsum("btd,bt->bd", tokens, weight) / weight.sum(1, keepdim=True).clamp(min=1.0)


def _first(mask: Tensor) -> Tensor:
    """(T,) bool: true at position 0 only."""
    return torch.arange(mask.shape[1], device=mask.device) == 0


class CrossAttentionFusion(PreTrainedModel):
    """ViT and BERT, joined by one cross-attention block; a missing modality is one learned token."""

    config_class = CrossAttentionConfig
    base_model_prefix = "fusion"
    main_input_name = "batch"
    _supports_sdpa = True

    def __init__(self, config: CrossAttentionConfig) -> None:
        super().__init__(config)
        vision = cast(Any, config.vision_config)
        text = cast(Any, config.text_config)
        size, classes = config.fusion_size, len(config.id2label or {})
        self.image_encoder = AutoModel.from_config(vision, add_pooling_layer=False)
        if config.image_stem == "convolutional":
            stem = ConvolutionalStem(vision.num_channels, vision.hidden_size)
            self.image_encoder.embeddings.patch_embeddings = stem
        elif config.image_stem != "linear":
            raise ValueError(f"image_stem is {config.image_stem!r}; allowed: linear, convolutional")
        self.text_encoder = AutoModel.from_config(text, add_pooling_layer=False)
        self.image_projection = nn.Linear(vision.hidden_size, size)
        self.text_projection = nn.Linear(text.hidden_size, size)
        self.missing = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(size) * size**-0.5) for name in ("image", "text")}
        )
        self.cross = CrossBlock(size, config.fusion_heads)
        self.head_hidden = nn.Linear(2 * size, size)
        self.head = nn.Linear(size, classes)
        self.image_head = nn.Linear(vision.hidden_size, classes)
        self.text_head = nn.Linear(text.hidden_size, classes)
        self.post_init()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        self._reset_fusion_parameters()

    def _reset_fusion_parameters(self) -> None:
        """Torch's fan-in scale for what joins the encoders: transformers' fixed 0.02 is far too small at this width."""
        for module in self.modules():
            if isinstance(module, ConvolutionalStem):
                own: list[nn.Module] = list(module.modules())
            elif module is self:
                own = [m for name, m in self.named_modules() if not name.startswith(("image_enc", "text_enc"))]
            else:
                continue
            for part in own:
                if isinstance(part, nn.Linear | nn.Conv2d):
                    part.reset_parameters()
        self.cross.align()

    def encode_image(self, image: ModalityBatch) -> Encoded:
        """Encode `pixel_values` (B, 3, H, W)."""
        hidden = self.image_encoder(pixel_values=image.tensors["pixel_values"]).last_hidden_state.float()
        mask = hidden.new_ones(hidden.shape[:2], dtype=torch.bool)
        encoded = Encoded(self.image_projection(hidden), mask, masked_mean(hidden, mask))
        return self.mask_missing("image", encoded, image.present)

    def encode_text(self, text: ModalityBatch) -> Encoded:
        """Encode `input_ids` and `attention_mask` (B, T); padding may be anywhere after the first token."""
        mask = text.tensors["attention_mask"].bool()
        # a row without text would mask all its keys, which some attention kernels answer with NaN
        mask = torch.where(text.present[:, None], mask, _first(mask))
        output = self.text_encoder(input_ids=text.tensors["input_ids"], attention_mask=mask.long())
        hidden = output.last_hidden_state.float()
        encoded = Encoded(self.text_projection(hidden), mask, masked_mean(hidden, mask))
        return self.mask_missing("text", encoded, text.present)

    def mask_missing(self, modality: str, encoded: Encoded, present: Tensor) -> Encoded:
        """Where `present` (B,) is false, leave one learned token at position 0 and mask the rest."""
        first = _first(encoded.mask)
        return Encoded(
            torch.where(present[:, None, None], encoded.tokens, self.missing[modality] * first[:, None]),
            torch.where(present[:, None], encoded.mask, first),
            torch.where(present[:, None], encoded.pooled, torch.zeros_like(encoded.pooled)),
        )

    def encode(
        self, batch: Mapping[str, ModalityBatch], done: Callable[[str], None] = lambda _: None
    ) -> dict[str, Encoded]:
        """Encode `image` and `text`; see `StagedModel`."""
        image = self.encode_image(batch["image"])
        done("image")
        text = self.encode_text(batch["text"])
        done("text")
        return {"image": image, "text": text}

    def heads(self, encoded: Mapping[str, Encoded]) -> dict[str, Tensor]:
        """Logits (B, C) of each modality by itself; those of a missing one mean nothing."""
        # the unimodal heads observe: their loss must not turn the encoders away from the joint task
        return {
            "image": self.image_head(encoded["image"].pooled.detach()),
            "text": self.text_head(encoded["text"].pooled.detach()),
        }

    def fuse(self, encoded: Mapping[str, Encoded], *, with_attention: bool = False) -> FusionOutput:
        """Join two encoded modalities; encoders need not run again when pairs are regrouped."""
        image, text = encoded["image"], encoded["text"]
        tokens, attention = self.cross(image.tokens, text.tokens, text.mask)
        joined = torch.cat((masked_mean(tokens, image.mask), masked_mean(text.tokens, text.mask)), dim=-1)
        fused = functional.gelu(self.head_hidden(joined))
        return FusionOutput(
            logits=self.head(fused),
            embeddings={"image": image.pooled, "text": text.pooled, "fused": fused},
            unimodal_logits=self.heads(encoded),
            attention=attention if with_attention else None,
        )

    def forward(self, batch: Mapping[str, ModalityBatch], *, with_attention: bool = False) -> FusionOutput:
        """Classify a batch holding `image` and `text`; see `FusionModel`."""
        return self.fuse(self.encode(batch), with_attention=with_attention)


AutoConfig.register(CrossAttentionConfig.model_type, CrossAttentionConfig, exist_ok=True)
AutoModel.register(CrossAttentionConfig, CrossAttentionFusion, exist_ok=True)


def _build(config: PreTrainedConfig) -> nn.Module:
    return CrossAttentionFusion(cast(CrossAttentionConfig, config))


FAMILY = Family(
    name=CrossAttentionConfig.model_type,
    config=CrossAttentionConfig,
    build=_build,
    encoders={"image": "image_encoder.", "text": "text_encoder."},
)
