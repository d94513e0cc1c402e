"""Every setting of the program that observes a model served elsewhere: environment variables `FUSIONWATCH_<KEY>`."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from inference.kafka_settings import KafkaSettings
from inference.key_settings import KeySettings
from inference.projection import FUSED
from migrations.settings import DatabaseSettings

Topic = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class ObserveSettings(DatabaseSettings, KafkaSettings, KeySettings):
    """Settings of `fusionwatch-inference observe`."""

    model: str = Field(default="fusion", min_length=1, description="the model's name; its champion alias is followed")
    modalities: tuple[Name, ...] = Field(
        default=("image", "text"), min_length=1, max_length=16, description="what a new version expects"
    )
    class_names: tuple[Text, ...] | None = Field(
        default=None, min_length=1, max_length=1000, description="classes of a new version; as first sent by default"
    )
    encoder_fingerprints: dict[Name, Text] = Field(
        default_factory=dict, description="encoders of a new version by modality and fused; no two alike by default"
    )
    quality_names: dict[Name, tuple[Name, ...]] | None = Field(
        default=None, description="statistics that are sent and summarised, by modality; the baseline's by default"
    )
    baselines: Path | None = Field(
        default=None, description="folder with <model version>/baseline.safetensors of versions that have one"
    )
    max_versions: int = Field(default=32, ge=1, le=1000, description="model versions in use at the same time")

    # observations, labels, and two probes at once
    database_pool_size: int = Field(default=4, ge=4, le=100, description="connections kept open by this process")

    consumer_group: str = Field(
        default="fusionwatch-observe", min_length=1, description="group that shares the partitions"
    )
    topic_observations: Topic = Field(default="fusion.observations", description="observations are read from it")
    topic_labels: Topic = Field(default="fusion.labels", description="labels are read from it")
    topic_dead_letters: Topic = Field(default="fusion.requests.dlq", description="refused messages")
    read_labels: bool = Field(default=True, description="false where a worker of the same database reads the labels")
    create_topics: bool = Field(default=False, description="make missing topics at start")
    topic_partitions: int = Field(default=4, ge=1, le=10_000, description="partitions of topics made at start")
    max_poll_seconds: float = Field(default=300, ge=10, le=3600, description="a slower member loses its partitions")
    liveness_seconds: float = Field(
        default=180, ge=1, le=3600, description="a loop that does not come round for so long fails /healthz"
    )
    max_message_bytes: int = Field(default=2_000_000, ge=1000, le=100_000_000, description="larger ones are refused")

    write_interval_ms: float = Field(default=250, ge=0, le=60_000, description="rows wait so long for a transaction")
    write_rows: int = Field(default=1000, ge=1, le=100_000, description="most rows in one transaction")
    slot_seconds: int = Field(default=60, ge=1, le=3600, description="width of a summary slot")
    bin_rows: int = Field(default=8, ge=1, le=1024, description="rows in one bin of a summary")
    embedding_samples: int = Field(
        default=8, ge=0, le=1024, description="embeddings of an hour, class and route that are kept whole; 0: none"
    )
    clock_future_seconds: float = Field(
        default=300, ge=0, description="produced_at later than this is quarantined, labelled_at refused"
    )
    clock_past_seconds: float = Field(default=86_400, ge=0, description="produced_at older than this is quarantined")
    drain_seconds: float = Field(default=20, ge=0, le=600, description="what is in hand may take so long at a stop")

    hmac_key_id: str = Field(default="", max_length=64, description="name of the key of annotators' digests")

    observer_id: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}",
        min_length=1,
        description="name of this process in summaries and the group; host and process id by default",
    )
    observer_host: str = Field(default="127.0.0.1", description="address of /metrics, /healthz and /readyz")
    observer_port: int = Field(default=9104, ge=0, le=65535, description="its port; 0 takes a free one")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="least level logged")

    @field_validator("modalities")
    @classmethod
    def _distinct(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if FUSED in names or len(set(names)) < len(names):
            raise ValueError(f"each name once, and none may be {FUSED!r}")
        return tuple(sorted(names))

    @field_validator("baselines")
    @classmethod
    def _folder(cls, folder: Path | None) -> Path | None:
        if folder is not None and not folder.is_dir():
            raise ValueError("no such folder")
        return None if folder is None else folder.resolve()

    @model_validator(mode="after")
    def _names_modalities(self) -> Self:
        named = {*self.encoder_fingerprints} - {FUSED} | {*(self.quality_names or {})}
        if unknown := sorted(named - set(self.modalities)):
            raise ValueError(f"{unknown} are not among FUSIONWATCH_MODALITIES {list(self.modalities)}")
        return self

    @model_validator(mode="after")
    def _has_key(self) -> Self:
        if self.read_labels:
            if not self.hmac_key_id:
                raise ValueError("reading labels needs FUSIONWATCH_HMAC_KEY_ID; or set FUSIONWATCH_READ_LABELS=false")
            self.require_key()
        return self
