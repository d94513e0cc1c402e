"""`python -m tests.support.killed_trainer JOB STEP`: a trainer that is killed by SIGKILL once it has made that step."""

from __future__ import annotations

import os
import signal
import sys

from inference import retrain
from inference.trainer_settings import TrainerSettings
from inference.trainer_wiring import TrainerProgram


class Killed(retrain._Told):
    """Sends its process a signal instead of telling of a certain step."""

    at = 0

    def step(self, step: int, steps: int, loss: float) -> None:
        if step == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        super().step(step, steps, loss)


if __name__ == "__main__":
    Killed.at = int(sys.argv[2])
    retrain._Told = Killed  # type: ignore[misc]
    TrainerProgram(TrainerSettings.from_environment()).run(int(sys.argv[1]))
