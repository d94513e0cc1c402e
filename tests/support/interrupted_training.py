"""`python -m tests.support.interrupted_training CONFIG STEP`: trains, and is killed by SIGKILL after that step."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from inference import cli_train


class Killed(cli_train.Terminal):
    """Sends its process a signal instead of showing a certain step."""

    at = 0
    by = signal.SIGKILL

    def step(self, step: int, steps: int, loss: float) -> None:
        super().step(step, steps, loss)
        if step == self.at:
            os.kill(os.getpid(), self.by)


if __name__ == "__main__":
    Killed.at = int(sys.argv[2])
    cli_train.Terminal = Killed  # type: ignore[misc]
    sys.exit(cli_train.run(Path(sys.argv[1]), force=False))
