"""`python -m tests.fuzz [INPUTS] [SEED]`: a million inputs by default, on an embedded PostgreSQL; prints a table."""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

from demo import servers
from migrations.connect import connect
from tests.fuzz import targets
from tests.fuzz.run import fuzz


def main() -> None:
    """Run every target and print what was run."""
    inputs = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="fusionwatch-") as folder, servers.postgres(Path(folder)) as server:
        url = server.create("fuzz")
        servers.migrate(url)
        engine = connect(url, application="fuzz")
        chosen = [*targets.parsers(), *targets.decoders(), targets.settings(), targets.api(engine)]
        print(f"{'target':<12} {'inputs':>9} {'seconds':>8} {'longest':>9} {'grown':>8}", flush=True)
        found = []
        for each in fuzz(chosen, inputs, seed):
            found.append(each)
            print(
                f"{each.target:<12} {each.inputs:>9} {each.seconds:>8.1f} {each.longest * 1000:>6.1f} ms "
                f"{each.grown / 2**20:>4.1f} MiB",
                flush=True,
            )
        engine.dispose()
    print(f"{'all':<12} {sum(each.inputs for each in found):>9} {sum(each.seconds for each in found):>8.1f}")


main()
