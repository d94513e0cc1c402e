"""What the image-text families share: encoders, projections, missing modalities, unimodal heads and the fused head.

A family derives from `PairFusion`, adds what joins the two, and says in `fuse` how.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.configuration_utils import SubConfigSpec

from inference.models.base import Encoded, Family, FusionOutput, ModalityBatch
from inference.models.towers import first, image_tokens, make_encoder, text_tokens, width_of

ENCODERS = {"image": "image_encoder.", "text": "text_encoder."}


class PairConfig(PreTrainedConfig):
    """Configuration with one sub-configuration per encoder; any that transformers' `AutoModel` knows.

    `fusion_size` is the width to which both are projected. `image_stem` is `linear` (the encoder's own patch
    projection, for pretrained encoders) or `convolutional` (for encoders trained from scratch on few pictures).
    """

    sub_configs_defaults = {  # noqa: RUF012  # the base class reads this name from the class body
        "vision_config": SubConfigSpec(AutoConfig, model_type="vit"),
        "text_config": SubConfigSpec(AutoConfig, model_type="bert"),
    }

    vision_config: dict[str, Any] | PreTrainedConfig | None = None
    text_config: dict[str, Any] | PreTrainedConfig | None = None
    fusion_size: int = 256
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


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B, T, d) over the tokens that `mask` (B, T) marks; zeros for a row that marks none."""
    weight = mask.to(tokens.dtype)
    return torch.einsum("btd,bt->bd", tokens, weight) / weight.sum(1, keepdim=True).clamp(min=1.0)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax of (B, M) over what `mask` (B, M) marks, exactly zero elsewhere; even where a row marks none."""
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1)


class PairFusion(PreTrainedModel, ABC):
    """Two encoders and their projections; a family adds what joins them, then calls `add_heads`.

    With `learned_missing` a missing modality is one learned token at position 0, all else masked. Without, it is
    masked altogether, and the family leaves it out of what it averages.
    """

    base_model_prefix = "fusion"
    main_input_name = "batch"
    _supports_sdpa = True
    learned_missing = True

    def __init__(self, config: PairConfig) -> None:
        """Raises ValueError where `image_stem` is unknown, or the encoder has no patches to put one before."""
        super().__init__(config)
        vision, text = cast(Any, config.vision_config), cast(Any, config.text_config)
        self.classes = len(config.id2label or {})
        self.widths = {"image": width_of(vision), "text": width_of(text)}
        self.image_encoder: Any = make_encoder(vision)
        if config.image_stem == "convolutional":
            self._put_stem(vision)
        elif config.image_stem != "linear":
            raise ValueError(f"image_stem is {config.image_stem!r}; allowed: linear, convolutional")
        self.text_encoder: Any = make_encoder(text)
        self.image_projection = nn.Linear(self.widths["image"], config.fusion_size)
        self.text_projection = nn.Linear(self.widths["text"], config.fusion_size)
        if self.learned_missing:
            self.missing = nn.ParameterDict(
                {name: nn.Parameter(torch.randn(config.fusion_size) * config.fusion_size**-0.5) for name in ENCODERS}
            )

    def _put_stem(self, vision: Any) -> None:
        embeddings = getattr(self.image_encoder, "embeddings", None)
        if vision.model_type != "vit" or embeddings is None:
            raise ValueError(f"image_stem 'convolutional' is for vit; {vision.model_type} needs 'linear'")
        embeddings.patch_embeddings = ConvolutionalStem(vision.num_channels, vision.hidden_size)

    def add_heads(self, joined_size: int) -> None:
        """The last of a family's constructor: classifiers of what is joined and of each modality, and first values."""
        size = cast(PairConfig, self.config).fusion_size
        self.head_hidden = nn.Linear(joined_size, size)
        self.head = nn.Linear(size, self.classes)
        self.add_unimodal_heads(self.widths)

    def add_unimodal_heads(self, widths: Mapping[str, int]) -> None:
        """Classifiers of each modality, and the first values of all that is not an encoder."""
        self.image_head = nn.Linear(widths["image"], self.classes)
        self.text_head = nn.Linear(widths["text"], self.classes)
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

    def encode_image(self, image: ModalityBatch) -> Encoded:
        """Encode `pixel_values` (B, 3, H, W)."""
        hidden = image_tokens(self.image_encoder, image)
        mask = hidden.new_ones(hidden.shape[:2], dtype=torch.bool)
        encoded = Encoded(self.image_projection(hidden), mask, masked_mean(hidden, mask))
        return self.mask_missing("image", encoded, image.present)

    def encode_text(self, text: ModalityBatch) -> Encoded:
        """Encode `input_ids` and `attention_mask` (B, T); padding may be anywhere after the first token."""
        hidden, mask = text_tokens(self.text_encoder, text)
        encoded = Encoded(self.text_projection(hidden), mask, masked_mean(hidden, mask))
        return self.mask_missing("text", encoded, text.present)

    def mask_missing(self, modality: str, encoded: Encoded, present: Tensor) -> Encoded:
        """Where `present` (B,) is false, leave one learned token at position 0, or nothing, and mask the rest."""
        place = first(encoded.mask)
        if not self.learned_missing:
            place = torch.zeros_like(place)
        instead = self.missing[modality] * place[:, None] if self.learned_missing else torch.zeros_like(encoded.tokens)
        return Encoded(
            torch.where(present[:, None, None], encoded.tokens, instead),
            torch.where(present[:, None], encoded.mask, place),
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

    @abstractmethod
    def fuse(self, encoded: Mapping[str, Encoded], *, with_attention: bool = False) -> FusionOutput:
        """Join two encoded modalities; encoders need not run again when pairs are regrouped."""
        ...

    def answer(self, joined: Tensor, encoded: Mapping[str, Encoded], attention: Tensor | None = None) -> FusionOutput:
        """Classify what was joined, (B, joined size); the hidden layer is the fused embedding."""
        fused = functional.gelu(self.head_hidden(joined))
        embeddings = {name: each.pooled for name, each in encoded.items()}
        return FusionOutput(self.head(fused), embeddings | {"fused": fused}, self.heads(encoded), attention)

    def forward(self, batch: Mapping[str, ModalityBatch], *, with_attention: bool = False) -> FusionOutput:
        """Classify a batch holding `image` and `text`; see `FusionModel`."""
        return self.fuse(self.encode(batch), with_attention=with_attention)


def pair_family(config: type[PairConfig], model: type[PairFusion]) -> Family:
    """The family of a configuration and its model, made known to transformers' Auto classes."""
    AutoConfig.register(config.model_type, config, exist_ok=True)
    AutoModel.register(config, model, exist_ok=True)

    def build(given: PreTrainedConfig) -> nn.Module:
        return model(cast(PairConfig, given))

    return Family(config.model_type, config, build, ENCODERS)
