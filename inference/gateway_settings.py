"""Every setting of the gateway: environment variables `FUSIONWATCH_<KEY>`, checked at start."""

from __future__ import annotations

import os
import socket
from typing import Annotated, Literal

from pydantic import Field, SecretStr, StringConstraints

from inference.kafka_settings import KafkaSettings
from migrations.settings import EnvironmentSettings

Topic = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,249}$")]


class GatewaySettings(EnvironmentSettings, KafkaSettings):
    """Settings of `fusionwatch-inference gateway`. It needs no database."""

    topic_requests: Topic = Field(default="fusion.requests", description="requests are written to it")
    topic_predictions: Topic = Field(default="fusion.predictions", description="answers are read from it")
    topic_labels: Topic = Field(default="fusion.labels", description="labels are written to it")
    topic_dead_letters: Topic = Field(default="fusion.requests.dlq", description="what was refused is read from it")

    gateway_secret: SecretStr = Field(
        min_length=16, description="shared with the API, which alone is let in: FUSIONWATCH_GATEWAY_SECRET there too"
    )
    gateway_timeout_seconds: float = Field(default=10, gt=0, le=300, description="an answer is waited for so long")
    gateway_max_inflight: int = Field(
        default=100, ge=1, le=10_000, description="requests that wait for an answer; more are refused with 429"
    )
    gateway_host: str = Field(default="127.0.0.1", description="address that it listens at")
    gateway_port: int = Field(default=9105, ge=0, le=65535, description="its port; 0 takes a free one")
    fetch_wait_ms: int = Field(default=500, ge=1, le=10_000, description="how long a broker may hold a fetch")
    gateway_id: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}",
        min_length=1,
        description="name of this process to the broker; host and process id by default",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="least level logged")
