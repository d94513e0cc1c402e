"""Puts the trainer together from its settings."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import torch
from prometheus_client import REGISTRY
from sqlalchemy import Engine

from inference import health
from inference.hashing import Hasher
from inference.predictor import pick_device
from inference.retrain import Retraining, RetrainSettings
from inference.settings import TrainerSettings
from inference.trainer import Trainer
from migrations.connect import connect, require_revision, unreachable


class TrainerProgram:
    """A trainer and its health server."""

    def __init__(self, settings: TrainerSettings) -> None:
        """Connects to nothing yet."""
        self._settings = settings
        self.stop = threading.Event()

    def run(self) -> None:
        """Work on jobs until `stop` is set. Raises SchemaTooOldError or SQLAlchemyError where it cannot start."""
        settings = self._settings
        if settings.torch_threads:
            torch.set_num_threads(settings.torch_threads)
        engine = connect(
            settings.database_url.get_secret_value(),
            application=f"fusionwatch-trainer {settings.trainer_id}",
            pool_size=settings.database_pool_size,
        )
        with ExitStack() as stack:
            stack.callback(engine.dispose)
            require_revision(engine)
            stack.enter_context(
                health.serve(
                    settings.trainer_host,
                    settings.trainer_port,
                    REGISTRY,  # the process's own figures; retrain jobs are counted by the monitor
                    alive=lambda: None,
                    ready=lambda: unreachable(engine),
                )
            )
            self._trainer(engine).run(self.stop)

    def _trainer(self, engine: Engine) -> Trainer:
        settings = self._settings
        work = Retraining(
            engine,
            Hasher(settings.hmac_key_id, settings.key()),
            RetrainSettings(
                checkpoints=settings.checkpoints,
                store=settings.training_store,
                replay=settings.replay_store,
                fit=settings.fit(),
                held_out_share=settings.held_out_share,
                replay_share=settings.replay_share,
                min_rows=settings.train_min_rows,
                family_modules=settings.families(),
                test=settings.test_store,
            ),
            pick_device(settings.device),
        )
        return Trainer(
            engine,
            work,
            model=settings.model,
            name=settings.trainer_id,
            poll_seconds=settings.trainer_poll_seconds,
            heartbeat_seconds=settings.trainer_heartbeat_seconds,
        )
