"""From answered requests to totals: how fast, how dear, and how sure, over all of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inference.projection import FINE_BINS, Rows, fine_bins
from migrations.schema.totals import LATENCY_EDGES_MS, Totals, histogram


def of_rows(rows: Rows, chosen: NDArray[np.intp], classes: int) -> Totals:
    """Totals of the chosen rows; a row without a prediction counts towards latency and cost alone."""
    found = {
        f"latency.{stage}": histogram(values[chosen], LATENCY_EDGES_MS) for stage, values in rows.latency_ms.items()
    }
    if rows.compute_us is not None:
        # row by row, so that the sum of two batches is that of all their rows
        found["compute_us"] = [int(np.rint(rows.compute_us[chosen]).sum())]
    agreement = rows.agreement[chosen]
    if known := int(np.isfinite(agreement).sum()):
        agreed = int((agreement == 1).sum())
        found["agreement"] = [known - agreed, agreed]
    answered = chosen[(rows.predicted[chosen] >= 0) & np.isfinite(rows.confidence[chosen])]
    for route in np.unique(rows.routes[answered]).tolist():
        of_route = answered[rows.routes[answered] == route]
        found[f"classes.{route}"] = np.bincount(rows.predicted[of_route], minlength=classes).tolist()
        found[f"confidence.{route}"] = np.bincount(fine_bins(rows.confidence[of_route]), minlength=FINE_BINS).tolist()
    return found
