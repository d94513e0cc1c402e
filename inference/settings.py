"""Every setting of the worker: environment variables `FUSIONWATCH_<KEY>`, checked at start."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from inference.clock import ClockTolerance
from inference.cores import available
from inference.fetching import LONGEST_MS, TO_THE_MODEL_MS, Fetching
from inference.kafka_settings import KafkaSettings
from inference.key_settings import KeySettings
from inference.model_io import Dtype, ModelOptions
from migrations.settings import DatabaseSettings

Topic = str
_TOPIC = r"^[A-Za-z0-9._-]{1,249}$"


class DeviceSettings(DatabaseSettings):
    """Settings of `fusionwatch-inference baseline`, and of whatever else runs a model."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field(default="auto", description="auto: cuda, mps, then cpu")
    torch_threads: int = Field(default=0, ge=0, le=1024, description="threads of one forward pass; 0 leaves torch's")
    family_modules: str = Field(default="", description="importable modules with model families, several with commas")

    def families(self) -> tuple[str, ...]:
        """The names in `family_modules`."""
        return tuple(name.strip() for name in self.family_modules.split(",") if name.strip())


class ModelSettings(DeviceSettings, KeySettings):
    """What worker and trainer share."""

    model: str = Field(default="fusion", min_length=1, description="the model's name; its champion alias is followed")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="least level logged")

    hmac_key_id: str = Field(min_length=1, max_length=64, description="name of the key, stored beside each digest")

    @model_validator(mode="after")
    def _has_key(self) -> Self:
        self.require_key()
        return self


class WorkerSettings(ModelSettings, KafkaSettings):
    """Settings of `fusionwatch-inference worker`."""

    checkpoint: Path = Field(description="folder that becomes champion where the model has none yet")
    champion_poll_seconds: float = Field(default=3.0, gt=0, le=3600, description="how often to look for a new champion")

    standby_seconds: float = Field(
        default=600, ge=0, le=86_400, description="a former champion stays loaded so long, for a rollback"
    )
    challenger_seconds: float = Field(
        default=5, gt=0, le=3600, description="a challenger silent for longer is given up; the champion answers"
    )

    # requests, labels, champion, rollout, shadow, and two probes at once
    database_pool_size: int = Field(default=8, ge=4, le=100, description="connections kept open by this process")

    consumer_group: str = Field(default="fusionwatch", min_length=1, description="group that shares the partitions")
    topic_requests: Topic = Field(default="fusion.requests", pattern=_TOPIC, description="requests are read from it")
    topic_predictions: Topic = Field(default="fusion.predictions", pattern=_TOPIC, description="answers go to it")
    answer_compression: Literal["none", "gzip", "lz4", "zstd"] = Field(
        default="none", description="how batches of answers and dead letters are compressed"
    )
    topic_labels: Topic = Field(default="fusion.labels", pattern=_TOPIC, description="labels are read from it")
    topic_dead_letters: Topic = Field(default="fusion.requests.dlq", pattern=_TOPIC, description="refused messages")
    create_topics: bool = Field(default=False, description="make missing topics at start")
    topic_partitions: int = Field(default=4, ge=1, le=10_000, description="partitions of topics made at start")
    max_poll_seconds: float = Field(default=300, ge=10, le=3600, description="a slower member loses its partitions")
    fetch_min_bytes: int = Field(
        default=500_000,
        ge=1,
        le=100_000_000,
        description="a broker gathers so many bytes before it answers; 1: not at all",
    )
    fetch_wait_ms: int | None = Field(
        default=None, ge=1, le=LONGEST_MS, description="but no longer than this; none: 8 ms less than a batch waits"
    )
    max_message_bytes: int = Field(default=16_000_000, ge=1000, le=100_000_000, description="larger ones are refused")

    dtype: Dtype = Field(default="float32", description="of the encoders' weights; bfloat16 for recent GPUs")
    compile: bool = Field(default=False, description="compile the model at its start; needs a C++ compiler")
    cascade_threshold: float | None = Field(
        default=None, gt=0, lt=1, description="heads surer than this spare a row the fusion; none: fuse all"
    )
    cascade_sample: float = Field(
        default=0.05, ge=0, le=1, description="share of batches that are fused whole all the same, for drift to judge"
    )
    answer_attention: bool = Field(default=False, description="answers carry the model's attention, where it has one")
    contribution_share: float = Field(
        default=0.05, ge=0, le=1, description="share of batches on which modalities' contributions are measured"
    )
    cache_bytes: int = Field(default=0, ge=0, description="predictions kept for equal inputs; 0 keeps none")

    model_cores: int = Field(
        default=0, ge=0, description="cores that the model has to itself, the rest of the worker the others; 0: shared"
    )
    model_seconds: float = Field(default=120, ge=1, le=3600, description="a model silent for longer is started anew")

    batch_size: int = Field(default=32, ge=1, le=4096, description="most requests in one forward pass")
    batch_wait_ms: float = Field(
        default=20, ge=0, le=10_000, description="how long a request waits for batch-mates, from when it could be read"
    )
    batch_tokens: int = Field(default=0, ge=0, description="most padded tokens in one forward pass; 0: no limit")
    decode_threads: int = Field(default=0, ge=0, le=256, description="threads that decode; 0 takes one for each core")
    max_inflight_requests: int = Field(default=4096, ge=1, description="read and not yet written, at most")
    max_inflight_bytes: int = Field(default=134_217_728, ge=1, description="bytes read and not yet written, about")
    stall_seconds: float = Field(
        default=60, ge=5, le=3600, description="a position that stands still under lag so long"
    )
    liveness_seconds: float = Field(
        default=180, ge=1, le=3600, description="a loop that does not come round for so long fails /healthz"
    )
    write_interval_ms: float = Field(default=250, ge=0, le=60_000, description="rows wait so long for a transaction")
    write_rows: int = Field(default=1000, ge=1, le=100_000, description="most rows in one transaction")
    slot_seconds: int = Field(default=60, ge=1, le=3600, description="width of a summary slot")
    bin_rows: int = Field(default=8, ge=1, le=1024, description="rows in one bin of a summary")
    embedding_samples: int = Field(
        default=8, ge=0, le=1024, description="embeddings of an hour, class and route that are kept whole; 0: none"
    )
    clock_future_seconds: float = Field(default=300, ge=0, description="produced_at later than this is quarantined")
    clock_past_seconds: float = Field(default=86_400, ge=0, description="produced_at older than this is quarantined")
    drain_seconds: float = Field(default=20, ge=0, le=600, description="what is in hand may take so long at a stop")

    otlp_endpoint: str | None = Field(
        default=None, pattern=r"^https?://", description="OTLP/HTTP collector of traces, as http://host:4318"
    )
    trace_ratio: float = Field(default=0.01, ge=0, le=1, description="share of batches that are traced")
    cost_per_hour: float = Field(default=0, ge=0, description="dollars of one worker for an hour; 0: cost not told")

    worker_id: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}",
        min_length=1,
        description="name of this process in summaries and the group; host and process id by default",
    )
    worker_host: str = Field(default="127.0.0.1", description="address of /metrics, /healthz and /readyz")
    worker_port: int = Field(default=9101, ge=0, le=65535, description="its port; 0 takes a free one")

    @field_validator("checkpoint")
    @classmethod
    def _folder(cls, folder: Path) -> Path:
        if not folder.is_dir():
            raise ValueError("no such folder")
        return folder.resolve()

    @model_validator(mode="after")
    def _room_for_a_batch(self) -> Self:
        for name in ("write_rows", "max_inflight_requests"):
            if getattr(self, name) < self.batch_size:
                key = f"FUSIONWATCH_{name.upper()}"
                raise ValueError(f"{key} {getattr(self, name)} must hold a batch of {self.batch_size}")
        return self

    @field_validator("model_cores")
    @classmethod
    def _a_core_is_left(cls, count: int) -> int:
        if count and count >= available():
            raise ValueError(f"must leave a core to the rest of the worker: there are {available()}")
        return count

    def fetching(self) -> Fetching:
        """When a broker answers a fetch: a request may wait there for its batch, and spares a round trip of its own."""
        if self.fetch_wait_ms is not None:
            return Fetching(self.fetch_wait_ms, self.fetch_min_bytes)
        if round(self.batch_wait_ms) == 0:  # batches do not wait: the first message is answered
            return Fetching()
        wait = max(1, round(self.batch_wait_ms) - TO_THE_MODEL_MS)
        return Fetching(min(wait, LONGEST_MS), self.fetch_min_bytes)

    def clock_tolerance(self) -> ClockTolerance:
        """How far producers' clocks may be off."""
        return ClockTolerance(timedelta(seconds=self.clock_future_seconds), timedelta(seconds=self.clock_past_seconds))

    def model_options(self, cores: tuple[int, ...] = ()) -> ModelOptions:
        """How the model process runs its checkpoint, on these cores only where there are any."""
        return ModelOptions(
            device=self.device,
            dtype=self.dtype,
            compile=self.compile,
            torch_threads=self.torch_threads,
            cores=cores,
            cascade_threshold=self.cascade_threshold,
            cascade_sample=self.cascade_sample,
            attention=self.answer_attention,
            contribution_share=self.contribution_share,
            family_modules=self.families(),
        )
