"""Puts the gateway together. It needs no torch and no database."""

from __future__ import annotations

import logging
from contextlib import ExitStack

import uvicorn
from prometheus_client import CollectorRegistry

from inference import garbage
from inference.answer_reader import AnswerReader
from inference.gateway import Gateway, GatewayMetrics, create_app
from inference.gateway_settings import GatewaySettings
from inference.publisher import Publisher
from inference.waiting import Waiting

_log = logging.getLogger(__name__)


class GatewayProgram:
    """Serves until SIGTERM or Ctrl-C; what waits for an answer then gets it, or its timeout."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Connects to nothing yet."""
        self._settings = settings
        self.server: uvicorn.Server | None = None

    def run(self) -> None:
        """Serve until stopped. Raises KafkaError where the broker cannot be reached or a topic is missing."""
        settings = self._settings
        waiting = Waiting(settings.gateway_max_inflight)
        metrics = GatewayMetrics(CollectorRegistry())
        with ExitStack() as stack:
            reader = AnswerReader(
                settings.kafka(),
                waiting,
                answers=settings.topic_predictions,
                dead_letters=settings.topic_dead_letters,
                client_id=f"{settings.gateway_id}-answers",
                fetch_wait_ms=settings.fetch_wait_ms,
            )
            stack.callback(reader.close)
            publisher = Publisher(settings.kafka(), f"{settings.gateway_id}-requests")
            stack.callback(publisher.close)
            reader.start()
            gateway = Gateway(
                publisher,
                waiting,
                metrics,
                requests=settings.topic_requests,
                labels=settings.topic_labels,
                timeout_seconds=settings.gateway_timeout_seconds,
            )
            app = create_app(gateway, metrics, settings.gateway_secret.get_secret_value(), lambda: reader.problem)
            self.server = uvicorn.Server(
                uvicorn.Config(
                    app,
                    host=settings.gateway_host,
                    port=settings.gateway_port,
                    log_config=None,
                    access_log=False,
                    # an answer may take its timeout, and its request some time to be sent
                    timeout_graceful_shutdown=int(settings.gateway_timeout_seconds) + 12,
                )
            )
            stack.enter_context(garbage.loaded())
            self.server.run()
