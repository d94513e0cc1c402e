"""Every setting of the monitor and its API: environment variables `FUSIONWATCH_<KEY>`, checked at start."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, HttpUrl, SecretStr, ValidationError, field_validator, model_validator

from monitor.alerts.routes import Route
from monitor.channels.base import Options, kinds
from monitor.detectors.base import catalogue
from monitor.domain.access import SHORTEST
from monitor.loop_settings import LoopSettings, Seconds
from monitor.reports.base import kinds as report_kinds
from monitor.route_settings import RouteSettings, routes
from monitor.slo_settings import SloSettings, objectives
from monitor.token_settings import TokenName, TokenSettings


class MonitorSettings(LoopSettings):
    """Windows are a whole number of hops, hops a whole number of slots; all in seconds."""

    model: str = Field(default="fusion", min_length=1, description="the model whose champion is watched")
    database_pool_size: int = Field(default=8, ge=4, le=100, description="connections kept open by this process")

    slot_seconds: Seconds = Field(default=60, ge=1, le=3600, description="width of a worker's summary slot")
    hop_seconds: Seconds = Field(default=300, ge=1, le=86400, description="a window ends every so often")
    window_seconds: Seconds = Field(default=3600, ge=1, le=7 * 86400, description="width of a window")
    availability_window_seconds: Seconds | None = Field(
        default=None,
        ge=1,
        description="width of an availability window; one hop by default, so that outages show at once",
    )
    grace_seconds: float = Field(default=30, ge=0, le=3600, description="how long workers may take to write a slot")
    catch_up_windows: int = Field(default=12, ge=1, le=1000, description="windows judged after the monitor was away")
    silence_seconds: Seconds = Field(default=300, ge=1, description="a stream without rows for so long is silent")
    database_page_seconds: Seconds = Field(
        default=120, ge=1, description="a database that takes no writes for so long is told without it"
    )
    label_window_seconds: Seconds = Field(default=86400, ge=1, description="labels received so lately are judged")
    label_limit: int = Field(default=20_000, ge=100, le=1_000_000, description="at most so many labelled rows")

    false_pages: float = Field(
        default=1, gt=0, le=1000, description="pages in 30 days that gradual change may raise if nothing is wrong"
    )
    false_tickets: float = Field(default=4, gt=0, le=1000, description="the same of tickets, over all metrics together")
    calibration_windows: int | None = Field(
        default=None, ge=24, le=2016, description="windows learnt from first; 7 days of them, 168 to 2016, by default"
    )
    reference_windows: int = Field(default=720, ge=100, le=10_000, description="windows in control that are remembered")
    late_windows: int = Field(
        default=24, ge=0, le=1000, description="windows that are judged again when their data or labels came late"
    )

    detectors: tuple[str, ...] | None = Field(default=None, description="detectors switched on; all by default")
    detector_options: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description='parameters by detector name, e.g. {"class_drift": {"threshold": 0.2}}'
    )

    slos: dict[str, SloSettings | None] = Field(
        default_factory=dict,
        description='objectives that differ from the defaults, by name, e.g. {"availability.text": {"target": 0.98}}; '
        "null switches one off",
    )
    slo_interval_seconds: float = Field(default=60, gt=0, le=3600, description="how often objectives are judged")
    slo_min_events: int = Field(default=100, ge=1, description="events in a rule's long window that a verdict takes")
    slo_min_bad: int = Field(default=10, ge=1, description="bad ones among them that a rule takes to fire")
    slo_low_traffic_bad: int = Field(
        default=10, ge=1, description="bad events in 6 hours that are a ticket where those hold fewer events than that"
    )
    topic_labels: str = Field(
        default="fusion.labels", min_length=1, description="labels' topic: what is refused of it is no failed request"
    )

    receivers: dict[str, dict[str, SecretStr]] = Field(
        default_factory=lambda: {"log": {"channel": SecretStr("log")}},
        description="by name: its channel and that channel's options",
    )
    routes: tuple[RouteSettings, ...] = Field(
        default=(),
        description="the first that matches says who is told, e.g. "
        '[{"matchers": ["severity=page"], "receiver": "pager", "continue": true}, {"receiver": "log"}]; '
        "every receiver of everything by default",
    )
    group_wait_seconds: float = Field(default=30, ge=0, le=3600, description="a message waits so long for its like")
    group_interval_seconds: float = Field(
        default=300, ge=0, le=86400, description="least time between messages of one alert name, model and version"
    )
    flap_seconds: Seconds = Field(
        default=1800, ge=1, le=86400, description="four changes of an alert within so long become one ticket"
    )
    repeat_seconds: Seconds = Field(
        default=4 * 3600, ge=60, le=30 * 86400, description="what still fires and nobody acknowledged is told again"
    )
    dashboard_url: HttpUrl = Field(default=HttpUrl("http://127.0.0.1:8080/"), description="where messages link to")
    runbook_url: str = Field(default="dashboards/runbooks", min_length=1, description="folder or site of the runbooks")

    reports: tuple[Literal["daily", "weekly"], ...] = Field(
        default=("daily", "weekly"), description="reports by schedule, of days and weeks in UTC; [] makes none"
    )
    report_kinds: tuple[str, ...] | None = Field(
        default=None, description="kinds of report that are made; all by default: evidently, summary"
    )
    report_delay_seconds: Seconds = Field(
        default=3600, ge=0, le=86400, description="from a period's end to its report, for what comes late"
    )
    report_keep_days: int = Field(default=180, ge=1, le=3650, description="reports of older periods are dropped")
    report_deadline_seconds: Seconds = Field(
        default=300, ge=1, le=3600, description="a kind of report that takes longer is left out of it"
    )
    report_memory_mb: int = Field(
        default=2048, ge=64, le=1_048_576, description="address space of the process that makes one"
    )
    report_interval_seconds: float = Field(default=60, gt=0, le=3600, description="how often reports are looked at")

    detect_interval_seconds: float = Field(default=5, gt=0, le=3600, description="how often to look for a window's end")
    notify_interval_seconds: float = Field(default=2, gt=0, le=3600, description="how often the outbox is emptied")
    retrain_interval_seconds: float = Field(default=10, gt=0, le=3600, description="how often jobs are looked at")
    security_interval_seconds: float = Field(
        default=60, gt=0, le=3600, description="how often the audit log and reads of embeddings are looked at"
    )
    embedding_reads_per_hour: int = Field(
        default=20, ge=0, le=100_000, description="reads of embeddings by one login in an hour, above which it pages"
    )
    maintenance_interval_seconds: float = Field(
        default=3600, gt=0, le=86400, description="how often partitions are made"
    )

    retention_log_days: int = Field(
        default=30, ge=0, le=36_500, description="whole days of the log that are kept, with their request ids; 0: all"
    )
    retention_summary_days: int = Field(
        default=400, ge=0, le=36_500, description="whole days of summaries that are kept; 0: all"
    )
    archive_folder: Path | None = Field(
        default=None, description="where days are kept as Parquet before they are dropped; none: they are only dropped"
    )

    monitor_host: str = Field(default="127.0.0.1", description="address of /metrics, /healthz and /readyz")
    monitor_port: int = Field(default=9102, ge=0, le=65535, description="its port; 0 takes a free one")
    api_host: str = Field(default="127.0.0.1", description="address of the API and the status page")
    api_port: int = Field(default=8080, ge=0, le=65535, description="its port")
    api_token: SecretStr | None = Field(
        default=None, min_length=SHORTEST, description="a token named api that has every scope"
    )
    api_tokens: dict[TokenName, TokenSettings] = Field(
        default_factory=dict,
        description="the API's tokens by name, as `tokens new` prints them; without any nobody writes",
    )
    api_rate: float = Field(
        default=20, gt=0, le=10_000, description="requests a second that a token, or without one an address, may make"
    )
    api_burst: int = Field(default=100, ge=1, le=100_000, description="requests that it may make at once")
    gateway_url: HttpUrl | None = Field(
        default=None, description="`fusionwatch-inference gateway`, to which the API sends requests and labels"
    )
    gateway_secret: SecretStr | None = Field(default=None, min_length=16, description="shared with the gateway")
    gateway_timeout_seconds: float = Field(
        default=25, gt=0, le=330, description="the gateway is waited for so long; its own timeout must be shorter"
    )
    environment: Literal["development", "production"] = Field(
        default="development", description="in production the API reads with a token alone, and does not start without"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="least level logged")

    @property
    def availability_window(self) -> Seconds:
        """Width of an availability window, in seconds."""
        return self.availability_window_seconds or self.hop_seconds

    def calibration_of(self, window_seconds: Seconds) -> int:
        """How many windows of that width are learnt from."""
        return self.calibration_windows or min(2016, max(168, 7 * 86400 // window_seconds))

    @property
    def checked_routes(self) -> tuple[Route, ...]:
        """The routes as the pipeline takes them."""
        return routes(self.routes, self.receivers)

    def options_of(self, receiver: str) -> tuple[str, Options]:
        """A receiver's channel name and that channel's checked options."""
        given = {name: value.get_secret_value() for name, value in self.receivers[receiver].items()}
        kind = kinds()[given.pop("channel")]
        return kind.name, kind.options.model_validate(given)

    @field_validator("report_kinds")
    @classmethod
    def _known_reports(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        unknown = sorted(set(names or ()) - set(report_kinds()))
        if unknown:
            raise ValueError(f"unknown kinds {unknown}; there are {sorted(report_kinds())}")
        if names is not None and "summary" not in names:
            raise ValueError("'summary' must be among them: it tells of the others, and is left when they fail")
        return names

    @field_validator("detectors")
    @classmethod
    def _known_detectors(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        unknown = sorted(set(names or ()) - set(catalogue()))
        if unknown:
            raise ValueError(f"unknown detectors {unknown}; there are {sorted(catalogue())}")
        return names

    @field_validator("detector_options")
    @classmethod
    def _known_options(cls, options: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, parameters in options.items():
            if name not in catalogue():
                raise ValueError(f"unknown detector {name!r}; there are {sorted(catalogue())}")
            try:
                catalogue()[name].options(**parameters)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name}: {error}") from None
        return options

    @field_validator("slos")
    @classmethod
    def _holdable(cls, slos: dict[str, SloSettings | None]) -> dict[str, SloSettings | None]:
        objectives(slos)
        return slos

    @field_validator("receivers")
    @classmethod
    def _known_channels(cls, receivers: dict[str, dict[str, SecretStr]]) -> dict[str, dict[str, SecretStr]]:
        if not receivers:
            raise ValueError("at least one receiver is needed")
        for name, options in receivers.items():
            channel = options["channel"].get_secret_value() if "channel" in options else ""
            if channel not in kinds():
                raise ValueError(f"receiver {name!r} needs a channel, one of {sorted(kinds())}")
            given = {key: value.get_secret_value() for key, value in options.items() if key != "channel"}
            try:
                kinds()[channel].options.model_validate(given)
            except ValidationError as error:
                wrong = "; ".join(
                    ": ".join(
                        filter(None, (".".join(map(str, each["loc"])), each["msg"].removeprefix("Value error, ")))
                    )
                    for each in error.errors()
                )
                raise ValueError(f"receiver {name!r}: {wrong}") from None
        return receivers

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.hop_seconds % self.slot_seconds:
            raise ValueError(f"hop_seconds {self.hop_seconds} must be a multiple of slot_seconds {self.slot_seconds}")
        for name in ("window_seconds", "availability_window_seconds"):
            width = getattr(self, name)
            if width is not None and width % self.hop_seconds:
                raise ValueError(f"{name} {width} must be a multiple of hop_seconds {self.hop_seconds}")
        if self.gateway_url is not None and self.gateway_secret is None:
            raise ValueError("gateway_url needs gateway_secret, the gateway's own FUSIONWATCH_GATEWAY_SECRET")
        self._fireable()
        routes(self.routes, self.receivers)
        return self

    def _fireable(self) -> None:
        """A window that is shorter than a slot holds no whole one, and so no event."""
        for name, objective in objectives(self.slos).chosen.items():
            for rule in objective.rules:
                if rule.short.total_seconds() < self.slot_seconds:
                    raise ValueError(
                        f"slos: {name}: the rule '{rule}' can never fire: its short window is shorter than "
                        f"slot_seconds {self.slot_seconds}; give it rules of its own, or null to switch it off"
                    )
