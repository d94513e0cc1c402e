"""Settings of the command that makes dashboards: no database is needed for it."""

from __future__ import annotations

from pydantic import Field, HttpUrl, SecretStr, field_validator

from migrations.settings import EnvironmentSettings
from monitor.dashboards.base import Deployment
from monitor.slo_settings import SloSettings, objectives


class GrafanaSettings(EnvironmentSettings):
    """Where Grafana is; and of the monitor's settings those that dashboards show."""

    grafana_url: str | None = Field(default=None, description="https://host, with its port and path if any")
    grafana_token: SecretStr | None = Field(default=None, description="token of a service account, role Editor")
    grafana_folder: str = Field(default="fusionwatch", min_length=1, description="title of the dashboards' folder")
    slos: dict[str, SloSettings | None] = Field(default_factory=dict, description="as the monitor's")
    dashboard_url: HttpUrl = Field(default=HttpUrl("http://127.0.0.1:8080/"), description="the status page")
    runbook_url: str = Field(default="dashboards/runbooks", min_length=1, description="folder or site of the runbooks")

    @field_validator("slos")
    @classmethod
    def _holdable(cls, slos: dict[str, SloSettings | None]) -> dict[str, SloSettings | None]:
        objectives(slos)
        return slos

    @property
    def deployment(self) -> Deployment:
        """What the dashboards take from this deployment."""
        return Deployment(objectives(self.slos), runbooks=self.runbook_url, status_page=str(self.dashboard_url))
