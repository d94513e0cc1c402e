"""Writing gives way to opening, batching and answering, and never for long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from inference import courtesy as module
from inference.courtesy import Courtesy
from inference.model_io import ModelInput
from inference.pipeline import Opened, Opener
from inference.record import Record
from tests.support.local import LocalPath
from tests.support.worker import wait_until
from tests.unit.inference.messages import message, record


def _gives_way(courtesy: Courtesy, done: list[str]) -> threading.Thread:
    def run() -> None:
        courtesy.give_way()
        done.append("written")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_it_waits_until_the_last_urgent_thing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SECONDS", 60.0)
    courtesy, done = Courtesy(), list[str]()
    with courtesy:
        with courtesy:
            thread = _gives_way(courtesy, done)
            waiting = courtesy._rested._waiters  # type: ignore[attr-defined]
            wait_until(lambda: len(waiting) == 1, 10, "it does not wait")
        done.append("answered")
    thread.join(10)
    assert done == ["answered", "written"]


def test_it_waits_for_no_more_than_a_batch_needs() -> None:
    courtesy, done = Courtesy(), list[str]()
    with courtesy:
        _gives_way(courtesy, done).join(10)
    assert done == ["written"]


def test_what_failed_is_urgent_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SECONDS", 60.0)
    courtesy, done = Courtesy(), list[str]()
    with pytest.raises(ZeroDivisionError), courtesy:
        raise ZeroDivisionError
    _gives_way(courtesy, done).join(10)
    assert done == ["written"]


def test_opening_batching_and_answering_are_urgent_and_the_model_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = LocalPath(), dict[str, bool]()

    def told(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            seen[name] = path.courtesy.busy
            return real(*given)

        return call

    opened: Callable[[Opener, Sequence[Record], Any], list[Opened]] = Opener.open
    submit: Callable[[ModelInput], None] = path.model.submit
    monkeypatch.setattr(Opener, "open", told("opening", opened))
    monkeypatch.setattr(path.model, "submit", told("batching", submit))
    monkeypatch.setattr(path.model, "result", told("waiting for the model", path.model.result))
    monkeypatch.setattr(path.publisher, "start", told("answering", path.publisher.start))
    path.run([record(message())])
    assert seen == {"opening": True, "batching": True, "waiting for the model": False, "answering": True}
    assert not path.courtesy.busy
