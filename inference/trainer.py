"""The trainer program: waits for retrain jobs, works on one at a time, and never holds one it cannot finish."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from inference import jobs
from inference.jobs import ClaimedJob, LeaseLostError

_log = logging.getLogger(__name__)

Clock = Callable[[], datetime]
MAX_ERROR_CHARACTERS = 500


class Work(Protocol):
    """What is done with a job: returns the result that the monitor's gate judges."""

    def __call__(
        self, job: ClaimedJob, progress: Callable[..., None], should_stop: Callable[[], bool]
    ) -> Mapping[str, Any]:
        """Train and measure. `progress` takes facts by keyword; stop soon after `should_stop` turns true."""
        ...


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@dataclass(slots=True)
class _Heart:
    """Beats in a thread of its own, so that a long step does not cost the lease."""

    engine: Engine
    job: ClaimedJob
    clock: Clock
    stop: threading.Event
    seconds: float
    progress: dict[str, Any] = field(default_factory=dict)
    lost: LeaseLostError | None = None
    _done: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Beat until left."""
        thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    def beat(self, connection: Connection) -> None:
        """Store the last progress, and make sure that the job is still ours. Raises LeaseLostError."""
        jobs.heartbeat(connection, self.job, self.clock(), self.progress)

    def _run(self) -> None:
        while self.lost is None and not self._done.wait(self.seconds):
            try:
                with self.engine.begin() as connection:
                    self.beat(connection)
            except LeaseLostError as error:
                self.lost = error
            except OperationalError:
                _log.warning("job %d: no heartbeat, the database is out of reach", self.job.job_id)

    def tell(self, **facts: Any) -> None:
        self.progress = {**self.progress, **facts}
        if phase := facts.get("phase"):
            _log.info("job %d: %s", self.job.job_id, phase)

    def should_stop(self) -> bool:
        return self.lost is not None or self.stop.is_set() or self.clock() >= self.job.deadline


class Trainer:
    """Claims jobs of one model and hands in their results."""

    def __init__(
        self,
        engine: Engine,
        work: Work,
        *,
        model: str,
        name: str,
        poll_seconds: float,
        heartbeat_seconds: float = jobs.HEARTBEAT_SECONDS,
        clock: Clock = utc_now,
        processes: int = 1,
        idle: Callable[[], None] | None = None,
    ) -> None:
        """`name` tells this trainer apart from every other one, an earlier run of itself included.

        `processes` is how many train together: their time counts each. `idle` is called where no job waits.
        """
        self._engine = engine
        self._work = work
        self._model = model
        self._name = name
        self._poll_seconds = poll_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._clock = clock
        self._processes = processes
        self._idle = idle

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; the job in hand is let go, for another trainer to take."""
        while not stop.is_set():
            try:
                worked = self.run_once(stop)
            except OperationalError:
                _log.warning("the database is out of reach; trying again in %.0f s", self._poll_seconds)
                worked = False
            if not worked:
                self.while_idle()
                stop.wait(self._poll_seconds)

    def while_idle(self) -> None:
        """What is done between jobs."""
        if self._idle is not None:
            try:
                self._idle()
            except (OperationalError, OSError):
                _log.warning("what is done between jobs failed; tried again in %.0f s", self._poll_seconds)

    def run_once(self, stop: threading.Event, job_id: int | None = None) -> bool:
        """Claim a job, the oldest or the one named, and work on it; False where none waits."""
        with self._engine.begin() as connection:
            job = jobs.claim(connection, self._model, self._name, self._clock(), job_id, self._processes)
        if job is None:
            return False
        _log.info("job %d: claimed, attempt %d", job.job_id, job.attempt)
        heart = _Heart(self._engine, job, self._clock, stop, self._heartbeat_seconds)
        with heart.beating():
            outcome = self._attempt(job, heart)
        # The heart has stopped: a late beat must not prolong a lease that ends here.
        try:
            with self._engine.begin() as connection:
                if isinstance(outcome, str):
                    jobs.let_go(connection, job, outcome, self._clock())
                else:
                    heart.beat(connection)
                    jobs.hand_in(connection, job, outcome)
                    _log.info("job %d: trained", job.job_id)
        except LeaseLostError as error:
            _log.warning("%s; its work is dropped", error)
        return True

    def _attempt(self, job: ClaimedJob, heart: _Heart) -> Mapping[str, Any] | str:
        """The result, or why there is none."""
        try:
            result = self._work(job, heart.tell, heart.should_stop)
        except Exception as error:  # noqa: BLE001  # whatever training raises ends this attempt alone, and is told
            _log.exception("job %d: the attempt failed", job.job_id)
            return f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARACTERS]
        return "stopped before it was finished" if heart.should_stop() else result
