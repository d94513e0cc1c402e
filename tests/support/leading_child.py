"""A monitor of one task in a process of its own, for tests that stop it: `python -m tests.support.leading_child URL`.

The task writes an audit row by its process id in a fenced transaction, again and again. Whether it led or was refused
stands on standard output, a word a line.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from migrations.connect import connect
from monitor.errors import FencedError
from monitor.tasks.leader import Leadership

WRITE = text("INSERT INTO audit_log (actor, action, subject, details) VALUES (:actor, 'written', '', '{}')")


def main(url: str, lease_seconds: float) -> None:
    """Lead while it can, and write within each lease many times; goes on until killed."""
    engine = connect(url, application="child")
    short = timedelta(seconds=lease_seconds)
    leadership = Leadership(engine, "fusion", lease=short, longest_pause=short)
    fenced = leadership.fence(engine)
    while True:
        led = leadership.hold()
        print("led" if led else "stood by", flush=True)
        while led:  # does not ask again whether it leads: a stopped task does not know that it was stopped
            try:
                with fenced.begin() as connection:
                    connection.execute(WRITE, {"actor": str(os.getpid())})
            except FencedError:
                print("fenced", flush=True)
                led = False
            except DBAPIError:
                print("cut off", flush=True)  # it was stopped in the middle of a transaction
            leadership.renew()
            time.sleep(0.01)
        time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
