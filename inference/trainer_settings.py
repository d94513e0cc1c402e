"""Every setting of the trainer: environment variables `FUSIONWATCH_<KEY>`, checked at start."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from inference.mlflow_settings import MlflowSettings
from inference.settings import ModelSettings
from inference.stores.base import Access, open_store
from inference.training.fit_settings import FitSettings

Layout = Literal["messages", "inputs"]
_FIT = FitSettings()


class TrainerSettings(ModelSettings):
    """Settings of `fusionwatch-inference trainer`."""

    checkpoints: Path = Field(description="folder for the checkpoints it trains; workers must see it under this path")
    training_store: str = Field(description="folder, or s3://bucket/prefix, with the raw inputs of labelled traffic")
    store_layout: Layout = Field(
        default="messages", description="messages: as they were sent, by request id; inputs: each by its digest"
    )
    store_max_missing: float = Field(
        default=0.2, ge=0, le=1, description="share of labelled rows that the store may lack or have otherwise"
    )
    replay_store: str | None = Field(default=None, description="the same with labelled messages of the original data")
    s3_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="of a service that speaks S3; by default Amazon's in the region",
    )
    s3_region: str = Field(default="us-east-1", min_length=1, description="that requests are signed for")
    s3_key_id: str = Field(default="", description="access key that signs requests; none: they are not signed")
    s3_secret: SecretStr = Field(default=SecretStr(""), description="its secret")
    s3_token: SecretStr | None = Field(default=None, description="session token of a temporary key")
    replay_share: float = Field(default=0.3, ge=0, lt=1, description="share of training examples out of replay_store")
    test_store: str | None = Field(default=None, description="the same with labelled messages of a frozen test set")
    held_out_share: float = Field(default=0.4, gt=0, lt=1, description="share of labelled rows not trained on")
    train_min_rows: int = Field(default=300, ge=256, description="labelled rows below which a job fails")

    fit_steps: int = Field(default=_FIT.steps, ge=1, description="optimiser steps at most")
    fit_seconds: float = Field(default=3600, gt=0, description="seconds of training at most")
    fit_batch_size: int = Field(default=_FIT.batch_size, ge=2, le=4096, description="examples in one step")
    fit_learning_rate: float = Field(default=_FIT.learning_rate, gt=0, le=1, description="of AdamW, at its peak")
    fit_seed: int = Field(default=0, ge=0, description="seed of batches and dropout")
    fit_save_every: int = Field(default=50, ge=1, description="steps between saves, from which a later attempt goes on")
    mlflow_uri: str | None = Field(
        default_factory=lambda: os.environ.get("MLFLOW_TRACKING_URI") or None,
        description="MLflow's server or store that is told of jobs and versions; MLFLOW_TRACKING_URI; none: nobody is",
    )
    mlflow_experiment: str = Field(default="fusionwatch", min_length=1, description="that jobs' runs belong to")
    mlflow_weights: bool = Field(default=False, description="keep weights in MLflow too, not only what names them")

    state_retention_seconds: float = Field(
        default=7 * 86400, ge=0, description="how long saved states stay after their job failed or was cancelled"
    )

    trainer_poll_seconds: float = Field(default=5, gt=0, le=3600, description="how often to look for a job")
    trainer_heartbeat_seconds: float = Field(default=15, gt=0, le=30, description="the lease lapses after 60")
    trainer_id: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}",
        min_length=1,
        description="name of this process in jobs; unique to each start by default",
    )
    trainer_host: str = Field(default="127.0.0.1", description="address of /metrics, /healthz and /readyz")
    trainer_port: int = Field(default=9103, ge=0, le=65535, description="its port; 0 takes a free one")

    @field_validator("checkpoints")
    @classmethod
    def _folder(cls, folder: Path) -> Path:
        if not folder.is_dir():
            raise ValueError("no such folder")
        return folder.resolve()

    @field_validator("training_store", "replay_store", "test_store")
    @classmethod
    def _store(cls, address: str | None) -> str | None:
        if address is None or "://" in address:
            if address is not None:
                open_store(address)
            return address
        return str(cls._folder(Path(address)))

    @model_validator(mode="after")
    def _whole_key(self) -> Self:
        if bool(self.s3_key_id) != bool(self.s3_secret.get_secret_value()):
            raise ValueError("FUSIONWATCH_S3_KEY_ID and FUSIONWATCH_S3_SECRET go together: give both or neither")
        return self

    def access(self) -> Access:
        """How a bucket is reached."""
        return Access(
            endpoint=self.s3_endpoint,
            region=self.s3_region,
            key_id=self.s3_key_id,
            secret=self.s3_secret.get_secret_value(),
            token=None if self.s3_token is None else self.s3_token.get_secret_value(),
        )

    def mlflow(self) -> MlflowSettings | None:
        """Where jobs are tracked."""
        if self.mlflow_uri is None:
            return None
        # without a server MLflow would keep files in whatever folder the trainer was started in
        files = None if self.mlflow_uri.startswith(("http://", "https://")) else self.checkpoints / "mlflow-files"
        return MlflowSettings(self.mlflow_uri, self.mlflow_experiment, self.mlflow_weights, files)

    def fit(self) -> FitSettings:
        """How to fit."""
        return FitSettings(
            steps=self.fit_steps,
            batch_size=self.fit_batch_size,
            learning_rate=self.fit_learning_rate,
            seed=self.fit_seed,
            deadline_s=self.fit_seconds,
        )
