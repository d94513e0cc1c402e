"""The versions of a model that is served elsewhere: registered as they are first seen, a bounded number at a time."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine

from inference import log, observed_registry, registry
from inference.baseline import FILE, Baseline, BaselineError
from inference.errors import Code, Refusal
from inference.observations import Observation
from inference.observed_registry import Registered
from inference.projection import FUSED
from inference.summarise import WindowSummaries

_log = logging.getLogger(__name__)
# A version's name comes from outside; as a folder's name it must lead nowhere else.
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
IDLE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Declared:
    """What is known of versions before they are seen.

    `modalities` are those that the model expects. `classes` is None where the first observation tells them,
    `fingerprints` names encoders by modality and `fused`. `quality` names the statistics that are summarised by
    modality, None where the baseline does. `baselines` is a folder with a baseline in a folder for each version.
    """

    modalities: tuple[str, ...] = ("image", "text")
    classes: tuple[str, ...] | None = None
    fingerprints: Mapping[str, str] | None = None
    quality: Mapping[str, tuple[str, ...]] | None = None
    baselines: Path | None = None


@dataclass(slots=True, eq=False)
class Known:
    """A version in use. `classes` are in the order of the log; `encoders` and `widths` are by modality and `fused`.

    A width that no baseline gives is that of the first embedding seen.
    """

    version: str
    classes: tuple[str, ...]
    class_set: frozenset[str]
    modalities: tuple[str, ...]
    encoders: Mapping[str, str]
    quality: Mapping[str, tuple[str, ...]]
    widths: dict[str, int]
    used: float


class ObservedVersions:
    """Finds the version of an observation. Not for several threads.

    At most `most` versions are kept; one that nothing was heard of for an hour makes room. While all are in use, a
    further one is refused: a sender that makes up a version for each message fills neither memory nor tables.
    """

    def __init__(
        self,
        engine: Engine,
        model: str,
        declared: Declared,
        summaries: WindowSummaries,
        *,
        actor: str,
        most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`actor` is written to the audit log where a version becomes champion; `clock` is monotonic, in seconds."""
        self._engine = engine
        self._model = model
        self._declared = declared
        self._summaries = summaries
        self._actor = actor
        self._most = most
        self._clock = clock
        self._held: dict[str, Known] = {}

    def find(self, observation: Observation) -> Known | Refusal:
        """The version, or why its rows cannot be logged. Raises SQLAlchemyError: find it again."""
        known = self._held.get(observation.model_version) or self._take_in(observation)
        if isinstance(known, Refusal):
            return known
        sent = observation.probabilities
        if sent is not None and sent.keys() != known.class_set:
            detail = f"the {len(sent)} classes are not the {len(known.classes)} that this model_version began with"
            return Refusal(Code.CLASSES_DIFFER, detail)
        known.used = self._clock()
        return known

    def _take_in(self, observation: Observation) -> Known | Refusal:
        idle = None
        if len(self._held) >= self._most:
            idle = min(self._held.values(), key=lambda held: held.used)
            if self._clock() - idle.used < IDLE_SECONDS:
                return Refusal(Code.TOO_MANY_VERSIONS, f"{self._most} versions are in use already")
        with self._engine.begin() as connection:
            found = self._registered(connection, observation)
            if isinstance(found, Refusal):
                return found
            baseline = self._baseline(connection, found)
            if registry.adopt_if_none(connection, self._model, found.version, self._actor):
                _log.info("the first version is champion", extra=log.fields(version=found.version))
            elif registry.succeed_if_newer(
                connection, self._model, found.version, observed_registry.FAMILY, self._actor
            ):
                _log.info("a newer version is champion", extra=log.fields(version=found.version))
        if idle is not None:
            del self._held[idle.version]
            self._summaries.drop_version(idle.version)
        return self._hold(found, baseline)

    def _registered(self, connection: Connection, observation: Observation) -> Registered | Refusal:
        version = observation.model_version
        if observed_registry.find(connection, version) is None:
            classes = self._classes(observation)
            if isinstance(classes, Refusal):
                return classes
            observed_registry.register(connection, self._model, version, classes, self._fingerprints(observation))
            _log.info("a version was seen for the first time", extra=log.fields(version=version, classes=len(classes)))
        found = observed_registry.find(connection, version)
        if found is None or found.model != self._model:
            return Refusal(Code.MODEL_VERSION_UNKNOWN, "this model_version is registered for another model")
        return found

    def _classes(self, observation: Observation) -> tuple[str, ...] | Refusal:
        """Class names of a version that is not registered: in the order of its baseline, of the settings, or sorted."""
        sent = None if observation.probabilities is None else tuple(sorted(observation.probabilities))
        stored = self._file(observation.model_version, None)
        ordered = self._declared.classes if stored is None else tuple(stored.facts["class_names"])
        if ordered is None:
            if sent is None:
                detail = "the first observation of a model_version must hold probabilities, which name its classes"
                return Refusal(Code.MODEL_VERSION_UNKNOWN, detail)
            return sent
        if sent is not None and set(sent) != set(ordered):
            detail = f"the {len(sent)} classes are not the {len(ordered)} that baseline or settings name"
            return Refusal(Code.CLASSES_DIFFER, detail)
        return ordered

    def _fingerprints(self, observation: Observation) -> dict[str, str]:
        """By modality and `fused`: as declared, else one of this version's own, so that no two are ever compared."""
        given = {**(self._declared.fingerprints or {}), **observation.encoders}
        return {
            name: given.get(name)
            or hashlib.sha256("\0".join((self._model, observation.model_version, name)).encode()).hexdigest()
            for name in (*self._declared.modalities, FUSED)
        }

    def _baseline(self, connection: Connection, found: Registered) -> Baseline | None:
        """The version's baseline, where its file is here; it is registered where the version has none."""
        baseline = self._file(found.version, found.folder)
        if baseline is None:
            return None
        made_with = {name: baseline.fingerprints.get(name, "") for name in baseline.reference}
        stored = observed_registry.baseline_fingerprints(connection, found.version)
        if tuple(baseline.facts["class_names"]) != found.classes or stored not in (None, made_with):
            _log.error("the baseline's file is not that of the database", extra=log.fields(version=found.version))
            return None
        if stored is None:
            registry.register_baseline(connection, found.version, baseline, origin="file")
        return baseline

    def _file(self, version: str, checkpoint: Path | None) -> Baseline | None:
        folders = []
        if self._declared.baselines is not None and _FOLDER.fullmatch(version):
            folders.append(self._declared.baselines / version)
        if checkpoint is not None and checkpoint.is_absolute():
            folders.append(checkpoint)
        for folder in folders:
            if not (folder / FILE).is_file():
                continue
            try:
                return Baseline.load(folder)
            except BaselineError as error:
                _log.error("a baseline cannot be used", extra=log.fields(version=version, reason=str(error)))
        return None

    def _hold(self, found: Registered, baseline: Baseline | None) -> Known:
        quality = self._quality(found, baseline)
        known = Known(
            version=found.version,
            classes=found.classes,
            class_set=frozenset(found.classes),
            modalities=found.modalities,
            encoders=dict(found.fingerprints) | ({} if baseline is None else dict(baseline.facts["encoders"])),
            quality=quality,
            widths={} if baseline is None else {n: len(m.mean) for n, m in baseline.projector.features.items()},
            used=self._clock(),
        )
        widths = {name: len(names) for name, names in quality.items()}
        self._summaries.add_version(found.version, len(found.classes), found.fingerprints, baseline, widths)
        self._held[found.version] = known
        return known

    def _quality(self, found: Registered, baseline: Baseline | None) -> dict[str, tuple[str, ...]]:
        """Statistics to summarise by modality. With a baseline its own, in its order, or none: they are compared."""
        declared = self._declared.quality
        if baseline is None:
            named = dict(declared or {})
        else:
            measured = {name for name, bins in baseline.reference.items() if "quality" in bins.columns}
            named = {name: tuple(baseline.facts["quality"][name]) for name in measured}
            if declared is not None:
                named = {name: names for name, names in named.items() if declared.get(name) == names}
        return {name: names for name, names in named.items() if names and name in found.modalities}
