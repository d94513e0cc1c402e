"""Collections leave alone what was loaded before, and still find what is lost afterwards."""

from __future__ import annotations

import gc
import weakref

from inference import garbage


class Knot:
    def __init__(self) -> None:
        self.itself = self


def test_what_was_loaded_is_looked_at_no_more_and_what_came_after_is_collected() -> None:
    before = Knot()
    with garbage.loaded():
        assert not any(each is before for each in gc.get_objects())
        lost = weakref.ref(Knot())
        gc.collect()
        assert lost() is None
    assert any(each is before for each in gc.get_objects())
    assert gc.get_freeze_count() == 0
