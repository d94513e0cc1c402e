"""Puts the trainer together from its settings."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta

import torch
from prometheus_client import REGISTRY
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from inference import health
from inference.devices import pick_device
from inference.gather import GatherSettings
from inference.hashing import Hasher
from inference.job_tracking import tracker
from inference.mirror import Mirror, mirror
from inference.retrain import Retraining, RetrainSettings
from inference.stores.base import Store, open_store
from inference.sweep import Sweep
from inference.trainer import Trainer, utc_now
from inference.trainer_settings import TrainerSettings
from inference.training.mlflow_run import TrackingError
from inference.training.team import Team, joined
from migrations.connect import connect, require_revision, unreachable

SWEEP_SECONDS = 3600.0
MIRROR_SECONDS = 5.0


class Seldom:
    """Does something at its first call, and again where that is `seconds` ago."""

    def __init__(self, do: Callable[[], object], seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._do = do
        self._seconds = seconds
        self._clock = clock
        self._done: float | None = None

    def __call__(self) -> None:
        """Do it where it is time to; one that fails is not tried again before its time."""
        if self._done is None or self._clock() >= self._done + self._seconds:
            self._done = self._clock()
            self._do()


class TrainerProgram:
    """A trainer and its health server."""

    def __init__(self, settings: TrainerSettings) -> None:
        """Connects to nothing yet."""
        self._settings = settings
        self.stop = threading.Event()

    def run(self, job_id: int | None = None) -> bool:
        """Work on jobs until `stop` is set, or on the one named alone; False where that one did not wait for a trainer.

        Processes that `torchrun` started together work on the named job as one. Raises SchemaTooOldError or
        SQLAlchemyError where it cannot start.
        """
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
            device = pick_device(settings.device)
            if job_id is not None:
                return self._one(engine, stack.enter_context(joined(device)), job_id)
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
            self._trainer(engine, self._work(engine, Team(device))).run(self.stop)
        return True

    def follow(self, seconds: float | None) -> bool:
        """Keep MLflow in step with the database until `stop` is set, or once; False where it is not in the end.

        Raises TrackingError where no MLflow is named or it cannot be imported, SchemaTooOldError, SQLAlchemyError.
        """
        settings = self._settings
        if (place := settings.mlflow()) is None:
            raise TrackingError("no MLflow is named: set FUSIONWATCH_MLFLOW_URI")
        engine = connect(settings.database_url.get_secret_value(), application="fusionwatch-mirror")
        try:
            require_revision(engine)
            following = Mirror(engine, settings.model, place)
            sound = following.run()
            while seconds is not None and not self.stop.wait(seconds):
                try:
                    sound = following.run()
                except OperationalError:
                    sound = False
            return sound
        finally:
            engine.dispose()

    def _one(self, engine: Engine, team: Team, job_id: int) -> bool:
        work = self._work(engine, team)
        if not team.leads:
            work.follow()
            return True
        try:
            require_revision(engine)
            trainer = self._trainer(engine, work, team.size)
            worked = trainer.run_once(self.stop, job_id)
            trainer.while_idle()
            return worked
        finally:
            work.dismiss()

    def _work(self, engine: Engine, team: Team) -> Retraining:
        settings = self._settings
        access = settings.access()

        def opened(address: str | None) -> Store | None:
            return None if address is None else open_store(address, access)

        return Retraining(
            engine,
            Hasher(settings.hmac_key_id, settings.key()),
            RetrainSettings(
                checkpoints=settings.checkpoints,
                gather=GatherSettings(
                    store=open_store(settings.training_store, access),
                    replay=opened(settings.replay_store),
                    test=opened(settings.test_store),
                    layout=settings.store_layout,
                    held_out_share=settings.held_out_share,
                    replay_share=settings.replay_share,
                    min_rows=settings.train_min_rows,
                    max_missing=settings.store_max_missing,
                ),
                fit=settings.fit(),
                save_every=settings.fit_save_every,
                family_modules=settings.families(),
            ),
            team.device,
            team,
            tracker(engine, settings.mlflow() if team.leads else None, settings.fit_save_every),
        )

    def _idle(self, engine: Engine) -> Callable[[], None]:
        """What is done between jobs, now and then."""
        settings = self._settings
        sweep = Sweep(engine, settings.checkpoints, settings.model, timedelta(seconds=settings.state_retention_seconds))
        follow = mirror(engine, settings.model, settings.mlflow())
        swept = Seldom(lambda: sweep.run(utc_now()), SWEEP_SECONDS)
        mirrored = None if follow is None else Seldom(follow.run, MIRROR_SECONDS)

        def idle() -> None:
            if mirrored is not None:
                mirrored()
            swept()

        return idle

    def _trainer(self, engine: Engine, work: Retraining, processes: int = 1) -> Trainer:
        settings = self._settings
        return Trainer(
            engine,
            work,
            model=settings.model,
            name=settings.trainer_id,
            poll_seconds=settings.trainer_poll_seconds,
            heartbeat_seconds=settings.trainer_heartbeat_seconds,
            processes=processes,
            idle=self._idle(engine),
        )
