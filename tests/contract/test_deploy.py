"""deploy/ agrees with Kubernetes, KEDA and the programs: schemas, settings, commands, probes, privileges, names."""

from __future__ import annotations

import importlib.metadata
import json
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

import inference.cli
import migrations.__main__
import monitor.api.health
import monitor.cli
from inference import health
from inference.gateway_settings import GatewaySettings
from inference.membership import HANDOVER_SECONDS
from inference.observe_settings import ObserveSettings
from inference.settings import WorkerSettings
from inference.trainer_settings import TrainerSettings
from migrations.settings import PREFIX, DatabaseSettings, EnvironmentSettings
from monitor import telemetry
from monitor.launchers.base import Launch
from monitor.launchers.kubernetes import KubernetesOptions, manifest
from monitor.settings import MonitorSettings
from tests.support.manifests import DEPLOY, Rendered, check, documents, environment, kustomization, pods, rendered

ROOT = DEPLOY.parent
SETTINGS: dict[str, type[EnvironmentSettings]] = {
    "worker": WorkerSettings,
    "observer": ObserveSettings,
    "gateway": GatewaySettings,
    "trainer": TrainerSettings,
    "monitor": MonitorSettings,
    "api": MonitorSettings,
    "migrate": DatabaseSettings,
    "contract": DatabaseSettings,
}
COMMANDS: dict[tuple[str, ...], typer.Typer] = {
    ("fusionwatch-inference",): inference.cli.app,
    ("fusionwatch-monitor",): monitor.cli.app,
    ("python", "-m", "migrations"): migrations.__main__.app,
}
# What KEDA 2.20's Kafka trigger reads of `metadata`: pkg/scalers/kafka_scaler.go.
TRIGGER = {
    *("activationLagThreshold", "allowIdleConsumers", "awsRegion", "bootstrapServers", "consumerGroup"),
    *("ensureEvenDistributionOfPartitions", "excludePersistentLag", "lagThreshold", "limitToPartitionsWithLag"),
    *("offsetResetPolicy", "partitionLimitation", "sasl", "saslTokenProvider", "scaleToZeroOnInvalidOffset"),
    *("tls", "topic", "unsafeSsl", "version"),
}
FOLDERS = ("overlays/small", "overlays/production", "contract")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
# Of secrets, those that are checked for more than their length.
ENTRIES = {
    "FUSIONWATCH_DATABASE_URL": "postgresql+psycopg2://someone:secret@postgres:5432/fusionwatch",
    "FUSIONWATCH_API_TOKENS": json.dumps({"ci": {"sha256": "0" * 64, "scopes": ["read"]}}),
}


@pytest.fixture(scope="module", params=FOLDERS)
def found(request: pytest.FixtureRequest) -> Rendered:
    return rendered(DEPLOY / request.param)


def launched() -> dict[str, Any]:
    """The Job that the monitor of the production overlay posts."""
    ((_, pod),) = [each for each in pods(rendered(DEPLOY / "overlays/production")) if each[0] == "monitor"]
    (given,) = [each["value"] for each in pod["containers"][0]["env"] if each["name"] == f"{PREFIX}LAUNCHER"]
    options = json.loads(given)
    assert options.pop("kind") == "kubernetes"
    return manifest(KubernetesOptions.model_validate(options), Launch(7, "fusion", 2, NOW + timedelta(hours=6), NOW))


def test_every_file_is_named_by_one_kustomization_and_every_name_is_a_file() -> None:
    named: list[Path] = []
    for path in DEPLOY.rglob("kustomization.yaml"):
        described = kustomization(path.parent)
        assert described["kind"] == ("Component" if "components" in path.parts else "Kustomization"), path
        names = [*described.get("resources", ()), *(each["path"] for each in described.get("patches", ()))]
        names += [file for each in described.get("configMapGenerator", ()) for file in each["envs"]]
        for name in (*names, *described.get("components", ())):
            assert (path.parent / name).exists(), f"{path}: {name}"
        named += [path, *(path.parent / name for name in names if (path.parent / name).is_file())]
    assert sorted(named) == sorted(path for path in DEPLOY.rglob("*") if path.is_file())


def test_an_api_server_takes_manifests_as_overlays_patch_them(found: Rendered) -> None:
    assert found.resources
    for each in found.resources.values():
        check(each)


def test_an_api_server_takes_every_manifest_by_itself_and_what_the_monitor_posts() -> None:
    check(launched())
    for path in DEPLOY.rglob("*.yaml"):
        for each in documents(path):
            if isinstance(each, dict) and path.name != "kustomization.yaml":
                check(each)


def test_a_field_that_does_not_exist_is_refused() -> None:
    found = rendered(DEPLOY / "overlays/small")
    worker, scaling = found.resources["Deployment", "worker"], found.resources["ScaledObject", "worker"]
    worker["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    scaling["spec"]["maxReplicas"] = 3
    with pytest.raises(jsonschema.ValidationError, match="readynessProbe"):
        check(worker)
    with pytest.raises(jsonschema.ValidationError, match="maxReplicas"):
        check(scaling)


def test_programs_accept_their_environment_and_no_secret_is_written_down(
    found: Rendered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = tmp_path / "ca.pem"
    for name, pod in pods(found):
        (container,) = pod["containers"]
        kind = SETTINGS[name]
        fields = {f"{PREFIX}{field}".upper(): field for field in kind.model_fields}
        shared = (
            {f"{PREFIX}{field}".upper() for field in MonitorSettings.model_fields} if name == "api" else set(fields)
        )
        given: dict[str, Any] = {}
        for key, value in environment(found, container).items():
            assert key.split("__")[0] in shared, f"{key} is no setting of {name}"
            secret = SecretStr.__name__ in str(kind.model_fields[fields[key.split("__")[0]]].annotation)
            assert value is None or not secret or "__" in key, f"{name}: {key} belongs in a Secret"
            given[key] = value or ENTRIES.get(key, "a" * 40)
            if given[key].startswith("/"):  # a folder or file of the container: one that is here
                assert any(given[key].startswith(mount["mountPath"]) for mount in container["volumeMounts"]), key
                given[key] = str(tmp_path)
        if f"{PREFIX}KAFKA_SSL_CA_FILE" in given:
            authority.write_bytes(_certificate())
            given[f"{PREFIX}KAFKA_SSL_CA_FILE"] = str(authority)
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            for key, value in given.items():
                patch.setenv(key, value)
            settings = kind.from_environment()
        if "ports" in container:
            assert getattr(settings, f"{name}_host") == "0.0.0.0"
            assert container["ports"] == [{"name": "http", "containerPort": getattr(settings, f"{name}_port")}]
        grace = getattr(settings, "drain_seconds", 0) + HANDOVER_SECONDS + 10
        assert pod["terminationGracePeriodSeconds"] >= grace, f"{name} could not end as it should"
    assert not found.of("Secret")


def _certificate() -> bytes:
    import trustme

    return trustme.CA().cert_pem.bytes()


def test_each_program_reaches_the_database_by_a_secret_of_its_own() -> None:
    secrets: dict[str, str] = {}
    for folder in FOLDERS:
        for name, pod in pods(rendered(DEPLOY / folder)):
            for each in pod["containers"][0].get("env", ()):
                if each["name"] == f"{PREFIX}DATABASE_URL":
                    secrets[name] = each["valueFrom"]["secretKeyRef"]["name"]
    assert secrets == {name: f"fusionwatch-{name}" for name in SETTINGS if name not in ("gateway", "contract")} | {
        "contract": "fusionwatch-migrate"
    }


def test_whoever_reaches_the_database_finds_its_authority_at_one_place_if_there_is_one(found: Rendered) -> None:
    trainer = ("trainer", launched()["spec"]["template"]["spec"])
    for name, pod in (*pods(found), trainer):
        (container,) = pod["containers"]
        mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
        volumes = {each["name"]: each.get("secret") for each in pod["volumes"]}
        known = volumes[mounts["/database"]] if "/database" in mounts else None
        authority = {"secretName": "fusionwatch-database", "optional": True}
        assert known == (None if name == "gateway" else authority), name


def test_programs_know_their_commands(found: Rendered) -> None:
    for _, pod in (*pods(found), ("trainer", launched()["spec"]["template"]["spec"])):
        command = tuple(pod["containers"][0]["command"])
        (program,) = (each for each in COMMANDS if command[: len(each)] == each)
        asked = typer.main.get_command(COMMANDS[program])
        context = asked.make_context(program[0], list(command[len(program) :]))
        if (commands := getattr(asked, "commands", None)) is not None:
            name, *rest = command[len(program) :]
            commands[name].make_context(name, rest, parent=context)


def test_probes_ask_for_pages_that_are_served() -> None:
    asked: dict[str, set[str]] = {}
    for name, pod in pods(rendered(DEPLOY / "overlays/production")):
        (container,) = pod["containers"]
        if "ports" in container:
            probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
            assert {each["port"] for each in probes} == {"http"}
            assert [each["path"] for each in probes] == ["/healthz", "/healthz", "/readyz"]
            asked.setdefault("api" if name == "api" else container["image"], set()).update(p["path"] for p in probes)
    assert asked.pop("api") <= {getattr(route, "path", "") for route in monitor.api.health.router.routes}
    assert len(asked) == 2
    with (
        health.serve("127.0.0.1", 0, CollectorRegistry(), lambda: None, lambda: None) as worker,
        telemetry.serve(telemetry.Metrics(), lambda: None, "127.0.0.1", 0) as watching,
    ):
        for image, paths in asked.items():
            port = watching if "monitor" in image else worker
            for path in paths:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                    assert answer.status == 200


def test_pods_have_no_privileges_write_to_no_image_and_are_bounded(found: Rendered) -> None:
    for name, pod in (*pods(found), ("trainer", launched()["spec"]["template"]["spec"])):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
        assert all({"emptyDir", "persistentVolumeClaim", "secret"} & each.keys() for each in volumes.values())
        assert "memory" in container["resources"]["limits"]
        may_ask = name == "monitor" and ("Role", "launcher") in found.resources
        assert pod["automountServiceAccountToken"] is may_ask
        account = pod["serviceAccountName"]
        if found.of("ServiceAccount"):
            assert not found.resources["ServiceAccount", account]["automountServiceAccountToken"]


def test_what_selects_pods_selects_some_and_all_have_a_policy() -> None:
    for folder in FOLDERS[:2]:
        found = rendered(DEPLOY / folder)
        labels = {
            name: found.resources[kind, name]["spec"]["template"]["metadata"]["labels"]
            for kind in ("Deployment", "Job")
            for name in found.of(kind)
        }
        for each in (*found.of("Service").values(), *found.of("PodDisruptionBudget").values()):
            selector = each["spec"]["selector"]
            wanted = selector.get("matchLabels", selector)
            assert [name for name in labels if wanted.items() <= labels[name].items()] == [each["metadata"]["name"]]
        for name, each in found.of("Deployment").items():
            assert each["spec"]["selector"]["matchLabels"] == labels[name]
        bounded = {name for name in found.of("Deployment") if name != "trainer"}
        assert bounded == found.of("PodDisruptionBudget").keys(), "a trainer goes on from its last save anywhere"
        for name, each in found.of("NetworkPolicy").items():
            selector = each["spec"]["podSelector"]
            chosen = {"app.kubernetes.io/part-of": "fusionwatch"}
            assert chosen.items() <= selector.get("matchLabels", chosen).items(), name
            for part in selector.get("matchExpressions", ()):
                assert any(one.get(part["key"]) in part["values"] for one in labels.values()), name
        assert found.resources["NetworkPolicy", "nothing-else"]["spec"] == {
            "podSelector": {"matchLabels": {"app.kubernetes.io/part-of": "fusionwatch"}},
            "policyTypes": ["Ingress", "Egress"],
        }
    ours = {"app.kubernetes.io/part-of": "fusionwatch", "app.kubernetes.io/component": "trainer"}
    assert ours.items() <= launched()["spec"]["template"]["metadata"]["labels"].items(), "its policies hold for Jobs"


def test_workers_are_scaled_by_the_lag_of_the_group_and_topic_that_they_read() -> None:
    for folder in FOLDERS[:2]:
        found = rendered(DEPLOY / folder)
        spec = found.resources["ScaledObject", "worker"]["spec"]
        assert spec["scaleTargetRef"]["name"] in found.of("Deployment")
        assert "replicas" not in found.resources["Deployment", "worker"]["spec"], "two would decide"
        (trigger,) = spec["triggers"]
        assert trigger["metadata"].keys() <= TRIGGER
        settings = {**found.settings["kafka"], **found.settings["worker"]}
        for key, name in (
            ("bootstrapServers", "KAFKA_BOOTSTRAP_SERVERS"),
            ("consumerGroup", "CONSUMER_GROUP"),
            ("topic", "TOPIC_REQUESTS"),
        ):
            assert trigger["metadata"][key] == settings[PREFIX + name]
        assert 2 <= spec["minReplicaCount"] < spec["maxReplicaCount"]
        if "authenticationRef" in trigger:
            assert trigger["authenticationRef"]["name"] in found.of("TriggerAuthentication")
            assert settings[f"{PREFIX}KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"


def test_two_monitors_run_and_images_are_of_this_version() -> None:
    version = importlib.metadata.version("fusionwatch")
    for folder in FOLDERS:
        described = kustomization(DEPLOY / folder)
        for each in described["images"]:
            assert each["newTag"] == version
        for _, pod in pods(rendered(DEPLOY / folder)):
            name, tag = pod["containers"][0]["image"].split(":")
            assert name in {each["name"] for each in described["images"]}
            assert tag == version
    assert rendered(DEPLOY / "overlays/small").resources["Deployment", "monitor"]["spec"]["replicas"] == 2
    assert launched()["spec"]["template"]["spec"]["containers"][0]["image"].endswith(f":{version}")
