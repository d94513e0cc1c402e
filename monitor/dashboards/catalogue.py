"""Every dashboard, by the name of its file."""

from __future__ import annotations

import json

from monitor.dashboards import debug, executive, on_call
from monitor.dashboards.base import Deployment
from monitor.dashboards.panels import Json
from monitor.domain.objectives import DEFAULTS, Objectives

# What the committed files are made of: the default objectives, and where compose puts runbooks and status page.
SHIPPED = Deployment(Objectives(DEFAULTS), runbooks="/public/runbooks", status_page="http://127.0.0.1:8080/")


def dashboards(deployment: Deployment) -> dict[str, Json]:
    """The dashboards of a deployment, by slug, as Grafana keeps them."""
    made = (executive.dashboard(deployment), on_call.dashboard(deployment), debug.dashboard(deployment))
    return {each.slug: each.json(deployment) for each in made}


def files(deployment: Deployment) -> dict[str, str]:
    """The same as texts of JSON, by file name."""
    return {f"{slug}.json": json.dumps(made, indent=1) + "\n" for slug, made in dashboards(deployment).items()}
