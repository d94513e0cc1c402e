"""Manifests of `deploy/` as a cluster sees them: resources of a kustomization with its patches and settings."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from referencing import Registry, Resource

Manifest = dict[str, Any]
DEPLOY = Path(__file__).parents[2] / "deploy"
KEDA = Path(__file__).parent / "keda"
OLDEST_KUBERNETES, NEWEST_KUBERNETES = "1.31", "1.37"


@dataclass
class Rendered:
    """Resources by kind and name, and the entries of each generated ConfigMap."""

    resources: dict[tuple[str, str], Manifest] = field(default_factory=dict)
    settings: dict[str, dict[str, str]] = field(default_factory=dict)

    def of(self, kind: str) -> dict[str, Manifest]:
        return {name: each for (found, name), each in self.resources.items() if found == kind}


def kustomization(folder: Path) -> Manifest:
    found: Manifest = yaml.load((folder / "kustomization.yaml").read_text(), yaml.CSafeLoader)
    return found


def documents(path: Path) -> list[Manifest]:
    return [each for each in yaml.load_all(path.read_text(), yaml.CSafeLoader) if each is not None]


def env_file(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    found = dict(line.split("=", 1) for line in lines)
    assert len(found) == len(lines), f"{path}: a key is given twice"
    return found


def rendered(folder: Path, into: Rendered | None = None) -> Rendered:
    """What the parts of a kustomization that `deploy/` makes use of come to."""
    found, described = into or Rendered(), kustomization(folder)
    known = {"apiVersion", "kind", "namespace", "resources", "components", "configMapGenerator", "patches", "images"}
    assert described.keys() <= known, described.keys() - known
    for name in described.get("resources", ()):
        if (folder / name).is_dir():
            rendered((folder / name).resolve(), found)
            continue
        for each in documents(folder / name):
            key = each["kind"], each["metadata"]["name"]
            assert key not in found.resources, f"{key} is there twice"
            found.resources[key] = each
    for each in described.get("configMapGenerator", ()):
        assert (each["name"] in found.settings) == (each.get("behavior") == "merge"), each
        for path in each["envs"]:
            found.settings.setdefault(each["name"], {}).update(env_file(folder / path))
    for name in described.get("components", ()):
        rendered((folder / name).resolve(), found)
    for patch in described.get("patches", ()):
        _patch(found, patch["target"], yaml.load((folder / patch["path"]).read_text(), yaml.CSafeLoader))
    return found


def _patch(found: Rendered, target: dict[str, str], operations: list[Manifest]) -> None:
    names = [name for name in found.of(target["kind"]) if re.fullmatch(target["name"], name)]
    assert names, f"no resource is {target}"
    for name in names:
        patched = copy.deepcopy(found.resources[target["kind"], name])
        for operation in operations:
            _apply(patched, operation)
        found.resources[target["kind"], name] = patched


def _apply(document: Any, operation: Manifest) -> None:
    """One `add` or `replace` of a JSON patch (RFC 6902)."""
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    for part in parents:
        document = document[int(part)] if isinstance(document, list) else document[part]
    assert (operation["op"], last == "-" or last in document) in {("add", True), ("add", False), ("replace", True)}
    if isinstance(document, list):
        assert last == "-", "list entries are only added at the end"
        document.append(operation["value"])
    else:
        document[last] = operation["value"]


def check(manifest: Manifest) -> None:
    """Refuse what an API server would refuse, unknown fields too. Raises ValidationError."""
    if manifest["apiVersion"].startswith("keda.sh/"):
        jsonschema.Draft202012Validator(_keda(manifest["kind"])).validate(manifest)
        return
    for version in (OLDEST_KUBERNETES, NEWEST_KUBERNETES):
        _kubernetes(manifest["kind"], manifest["apiVersion"], version).validate(manifest)


@cache
def _kubernetes(kind: str, api_version: str, version: str) -> jsonschema.Draft202012Validator:
    """As `kubernetes_validate.validate` has it, which reads megabytes at each call."""
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    schema = json.loads((_schemas(version) / f"{kind.lower()}-{group}.json").read_text())
    return jsonschema.Draft202012Validator(schema, registry=Resource.from_contents(schema) @ _definitions(version))


@cache
def _definitions(version: str) -> Any:
    return Resource.from_contents(json.loads((_schemas(version) / "_definitions.json").read_text())) @ Registry()


def _schemas(version: str) -> Path:
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    return folder / f"v{version}.0-local-strict"


@cache
def _keda(kind: str) -> Manifest:
    schema: Manifest = _closed(json.loads((KEDA / f"{kind.lower()}.json").read_text()))
    # the API server knows what metadata holds
    schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}
    return schema


def _closed(schema: Any) -> Any:
    """The same schema, refusing what it does not name."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


def pods(found: Rendered) -> Iterator[tuple[str, Manifest]]:
    """Every pod's name and specification."""
    for (kind, name), each in found.resources.items():
        if kind in ("Deployment", "Job"):
            yield name, each["spec"]["template"]["spec"]


def environment(found: Rendered, container: Manifest) -> dict[str, str | None]:
    """What a container gets; None stands for a secret's entry."""
    given: dict[str, str | None] = {}
    for source in container.get("envFrom", ()):
        given |= found.settings[source["configMapRef"]["name"]]
    for each in container.get("env", ()):
        assert each["name"] not in given, f"{each['name']} is given twice"
        given[each["name"]] = each.get("value")
    return given
