"""docker-compose.yml agrees with the repository: paths, settings, health, secrets, metric names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from sqlalchemy import make_url

from inference.gateway_settings import GatewaySettings
from inference.gpu import GpuCollector
from inference.kafka_settings import KafkaSettings
from inference.settings import WorkerSettings
from inference.telemetry import Metrics as WorkerMetrics
from inference.trainer_settings import TrainerSettings
from migrations.settings import PREFIX, EnvironmentSettings
from monitor.settings import MonitorSettings
from monitor.telemetry import Metrics as MonitorMetrics
from tests.support.certificates import certificates
from tests.support.gpu import Driver

ROOT = Path(__file__).parents[2]
SETTINGS: dict[str, type[EnvironmentSettings]] = {
    "worker": WorkerSettings,
    "trainer": TrainerSettings,
    "monitor": MonitorSettings,
    "gateway": GatewaySettings,
    "api": MonitorSettings,
}
PROGRAMS = ("worker", "trainer", "monitor", "api")  # those with a database
ONE_SHOT = {"migrate", "roles"}
INTERPOLATED = re.compile(r"(?<!\$)\$\{(\w+)(:[?-])?([^}]*)\}")
OPTIONAL = {
    "FUSIONWATCH_ANSWER_COMPRESSION",
    "FUSIONWATCH_CHECKPOINT",
    "FUSIONWATCH_DASHBOARD_URL",
    "FUSIONWATCH_KAFKA_FILES",
    *(f"{PREFIX}{name}".upper() for name in KafkaSettings.model_fields),
}


class StrictLoader(yaml.SafeLoader):
    """Refuses a key that is given twice."""


def _mapping(loader: StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value if key.value != "<<"]
    assert len(keys) == len(set(keys)), f"a key is given twice in {keys}, {node.start_mark}"
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE = yaml.load(TEXT, StrictLoader)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def filled(value: str, given: dict[str, str]) -> str:
    """The value as compose would interpolate it."""

    def one(match: re.Match[str]) -> str:
        name, how, other = match.groups()
        return given.get(name) or (other if how == ":-" else pytest.fail(f"{name} has no value"))

    return INTERPOLATED.sub(one, value)


def test_every_service_is_healthy_or_ends() -> None:
    for name, service in SERVICES.items():
        if name in ONE_SHOT:
            assert service["restart"] == "no"
        else:
            assert service["restart"] == "unless-stopped"
            assert service["healthcheck"]["test"][0] == "CMD", name


def test_nothing_waits_for_less_than_health_or_completion() -> None:
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
            assert how == {"condition": wanted}, f"{name} on {other}"


def test_every_secret_must_be_given_and_is_explained() -> None:
    explained = set(re.findall(r"^#?(FUSIONWATCH_\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    interpolated = {name: how for name, how, _ in INTERPOLATED.findall(TEXT)}
    assert set(interpolated) == explained
    assert {name for name, how in interpolated.items() if how != ":?"} == OPTIONAL
    for secret in COMPOSE["secrets"].values():
        assert interpolated[secret["environment"]] == ":?"
    assert re.findall(r"^(FUSIONWATCH_\w+)=(?:.+)$", (ROOT / ".env.example").read_text(), re.MULTILINE) == []


def test_secrets_used_are_declared_and_not_put_into_read_only_containers() -> None:
    for service in SERVICES.values():
        assert set(service.get("secrets", ())) <= COMPOSE["secrets"].keys()
        # compose copies secrets out of the environment into the container, which a read-only one refuses
        assert not (service.get("secrets") and service.get("read_only"))


def test_images_have_a_tag_and_builds_a_dockerfile() -> None:
    for name, service in SERVICES.items():
        _, _, tag = service["image"].partition(":")
        assert tag not in ("", "latest"), name
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()


def test_mounted_files_exist_and_volumes_are_declared() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            source = filled(volume, {"FUSIONWATCH_TRAINING_STORE": "/anywhere"}).split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), f"{name}: {source}"
            elif not source.startswith("/"):
                assert source in COMPOSE["volumes"], f"{name}: {source}"


def test_only_loopback_is_published() -> None:
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


@pytest.mark.parametrize("name", SETTINGS)
def test_each_program_accepts_its_environment(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = dict.fromkeys({name for name, _, _ in INTERPOLATED.findall(TEXT)} - OPTIONAL, "a" * 40)
    targets = [volume.split(":")[-2 if volume.endswith(":ro") else -1] for volume in SERVICES[name].get("volumes", ())]
    known = {f"{PREFIX}{field}".upper() for field in SETTINGS[name].model_fields}
    for key, value in SERVICES[name]["environment"].items():
        shown = filled(value, given)
        if key.startswith(PREFIX):
            assert key.split("__")[0] in known, f"{key} is no setting of {name}"
        if shown in targets:  # a folder of the container: make one that exists here
            (tmp_path / shown.lstrip("/")).mkdir(parents=True)
            shown = str(tmp_path / shown.lstrip("/"))
        monkeypatch.setenv(key, shown)
    settings = SETTINGS[name].from_environment()
    port = getattr(settings, f"{name}_port")
    assert int(SERVICES[name]["environment"]["HEALTH_PORT"]) == port
    assert getattr(settings, f"{name}_host") == "0.0.0.0"
    scraped = yaml.safe_load((ROOT / "dashboards/prometheus/prometheus.yml").read_text())["scrape_configs"]
    (job,) = (each for each in scraped if each["job_name"] == name)
    ports = [sd["port"] for sd in job.get("dns_sd_configs", ())]
    assert ports == [port] or job["static_configs"][0]["targets"] == [f"{name}:{port}"]


def test_the_worker_can_be_pointed_at_a_secured_kafka(tmp_path: Path) -> None:
    authority = certificates(tmp_path / "certificates").authority
    given = {
        "FUSIONWATCH_KAFKA_BOOTSTRAP_SERVERS": "kafka.test:9094",
        "FUSIONWATCH_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "FUSIONWATCH_KAFKA_SSL_CA_FILE": str(authority),
        "FUSIONWATCH_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "FUSIONWATCH_KAFKA_SASL_USERNAME": "ann",
        "FUSIONWATCH_KAFKA_SASL_PASSWORD": "a-password",
    }
    environment = SERVICES["worker"]["environment"]
    shown = {key: filled(value, given) for key, value in environment.items() if key.startswith(f"{PREFIX}KAFKA_")}
    settings = KafkaSettings(**{key.removeprefix(PREFIX).lower(): value for key, value in shown.items()})
    assert settings.kafka() == {
        "bootstrap_servers": ["kafka.test:9094"],
        "security_protocol": "SASL_SSL",
        "ssl_check_hostname": True,
        "ssl_cafile": str(authority),
        "ssl_certfile": None,
        "ssl_keyfile": None,
        "ssl_password": "",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "ann",
        "sasl_plain_password": "a-password",
    }


def test_each_program_has_a_login_of_its_own_that_is_made_before_it_starts() -> None:
    made = (ROOT / "migrations/logins.sql").read_text()
    passwords = dict(re.findall(r"ALTER ROLE (\w+) LOGIN PASSWORD :'(\w+)'", made))
    given = dict(re.findall(r"\\getenv (\w+) (\w+)", made))
    roles = SERVICES["roles"]
    named = {name: SERVICES[name]["environment"]["FUSIONWATCH_DATABASE_URL"] for name in (*PROGRAMS, "migrate")}
    urls = {name: make_url(url) for name, url in named.items()}
    assert {name: url.username for name, url in urls.items()} == {name: f"fusion_{name}" for name in PROGRAMS} | {
        "migrate": SERVICES["postgres"]["environment"]["POSTGRES_USER"]
    }
    assert len({url.password for url in urls.values()}) == len(urls)
    for name in PROGRAMS:
        password = roles["environment"][given[passwords[f"fusion_{name}"]]]
        assert f":{password}@" in named[name]
        assert "roles" in SERVICES[name]["depends_on"]
    files = dict(volume.split(":")[:2] for volume in roles["volumes"])
    scripts = ("./migrations/logins.sql", "./dashboards/postgres/grafana_ro.sql")
    assert [files[name] for name in scripts] == re.findall(r"--file=(\S+)", roles["command"][-1])


def test_programs_run_without_privileges_on_a_read_only_disk() -> None:
    for name in (*SETTINGS, "migrate"):
        service = SERVICES[name]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        lines = (ROOT / service["build"]["dockerfile"]).read_text().splitlines()
        assert "USER 10001:10001" in lines
        assert any(line.startswith("HEALTHCHECK") for line in lines)
        assert any("--require-hashes" in line for line in lines)
        run = [line.strip().removeprefix("CMD ") for line in lines if line.strip().startswith("CMD ")]
        assert run
        assert all(json.loads(line) for line in run), "no shell is needed"


def test_dashboards_and_rules_name_metrics_that_the_programs_have() -> None:
    registry = CollectorRegistry()
    WorkerMetrics(registry, version="", revision="", dollars_per_hour=1.0)
    registry.register(GpuCollector(Driver(percent=[50], used=[1])))
    names: set[str] = set()
    for metric in (*registry.collect(), *MonitorMetrics().registry.collect()):
        ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(metric.type, ("",))
        names |= {metric.name + end for end in ends}
    rules = (ROOT / "dashboards/prometheus/rules.yml").read_text()
    shown = "".join(path.read_text() for path in sorted((ROOT / "dashboards/grafana/dashboards").glob("*.json")))
    used = set(re.findall(r"(?<![:\w])fusion_\w+", rules + shown))
    assert used
    assert used <= names, used - names
    recorded = set(re.findall(r"record: (\S+)", rules))
    asked = set(re.findall(r"\bfusion:[\w:]+", shown))
    assert asked <= recorded


def test_grafana_finds_its_sources_and_dashboards() -> None:
    folder = ROOT / "dashboards/grafana/provisioning"
    sources = yaml.safe_load((folder / "datasources/fusionwatch.yml").read_text())["datasources"]
    uids = {source["uid"] for source in sources}
    files = sorted((ROOT / "dashboards/grafana/dashboards").glob("*.json"))
    for file in files:
        assert set(re.findall(r'"uid": "(fusionwatch-(?:postgres|prometheus))"', file.read_text())) == uids
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert Path(home).name in {file.name for file in files}
    provider = yaml.safe_load((folder / "dashboards/fusionwatch.yml").read_text())["providers"][0]
    mounted = {volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]}
    assert provider["options"]["path"] in mounted
    for source in sources:
        host = source["url"].removeprefix("http://").split(":")[0]
        assert host in SERVICES
