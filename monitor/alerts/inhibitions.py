"""Which alert explains which, as data: of what one cause brings, only the cause is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SAME = "<same>"  # the modality of its cause
FUSED = "fused"


@dataclass(frozen=True, slots=True)
class Inhibition:
    """While `cause` is open, `target` is explained by it. `modality` limits the target: SAME, a name, or "" for any."""

    cause: str
    target: str
    modality: str = ""
    cause_not: str = ""


INHIBITIONS: tuple[Inhibition, ...] = (
    Inhibition("ModalityUnavailable", "EmbeddingDrift", SAME),
    Inhibition("ModalityUnavailable", "EmbeddingDrift", FUSED),
    Inhibition("ModalityUnavailable", "PairingDrift"),
    Inhibition("ModalityUnavailable", "AgreementDrop"),
    Inhibition("ModalityUnavailable", "PredictionDrift"),
    Inhibition("ModalityUnavailable", "ContributionDrift"),
    Inhibition("ModalityUnavailable", "EstimatedAccuracyLow"),  # answers by fewer modalities are less sure
    Inhibition("EmbeddingDrift", "PairingDrift", cause_not=FUSED),
    Inhibition("EmbeddingDrift", "EmbeddingDrift", FUSED, cause_not=FUSED),
    Inhibition("EmbeddingDrift", "PredictionDrift", cause_not=FUSED),
    Inhibition("EmbeddingDrift", "AgreementDrop", cause_not=FUSED),
    Inhibition("EmbeddingDrift", "ContributionDrift", cause_not=FUSED),
    Inhibition("PairingDrift", "EmbeddingDrift", FUSED),
    Inhibition("PairingDrift", "PredictionDrift"),
    Inhibition("PairingDrift", "AgreementDrop"),
    Inhibition("PairingDrift", "ContributionDrift"),
    # classes contribute unequally
    Inhibition("PredictionDrift", "ContributionDrift"),
    Inhibition("ModalityUnavailable", "QualityShapeDrift", SAME),
    Inhibition("EmbeddingDrift", "QualityShapeDrift", SAME),
    Inhibition("ModalityUnavailable", "ConfidenceDrift"),
    Inhibition("EmbeddingDrift", "ConfidenceDrift"),
    Inhibition("QualityShapeDrift", "ConfidenceDrift"),
    Inhibition("PairingDrift", "ConfidenceDrift"),
    Inhibition("PredictionDrift", "ConfidenceDrift"),
    # the sentence of the pairing says who runs late
    Inhibition("ModalityUnavailable", "Misalignment"),
    Inhibition("PairingDrift", "Misalignment"),
    Inhibition("Misalignment", "ConfidenceDrift"),
    # what a window shows by itself is told first, and more plainly
    Inhibition("ModalityUnavailable", "GradualUnavailability", SAME),
    Inhibition("ModalityUnavailable", "GradualDrift"),
    Inhibition("EmbeddingDrift", "GradualDrift"),
    Inhibition("PairingDrift", "GradualDrift", FUSED),
    Inhibition("PredictionDrift", "GradualDrift", FUSED),
    Inhibition("AgreementDrop", "GradualDrift", FUSED),
    Inhibition("ContributionDrift", "GradualDrift", FUSED),
    Inhibition("QualityShapeDrift", "GradualDrift", SAME),
    Inhibition("ConfidenceDrift", "GradualDrift", FUSED),
    Inhibition("Misalignment", "GradualDrift", FUSED),
    Inhibition("GradualDrift", "GradualDrift", FUSED, cause_not=FUSED),
    # an outage is told as that, and not again by what it costs; of an objective the faster burn is told
    Inhibition("ModalityUnavailable", "ErrorBudgetBurnFast", SAME),
    Inhibition("ModalityUnavailable", "ErrorBudgetBurnSlow", SAME),
    Inhibition("ModalityUnavailable", "ErrorBudgetBurnSlow", "agreement"),
    Inhibition("ErrorBudgetBurnFast", "ErrorBudgetBurnSlow", SAME),
    Inhibition("ErrorBudgetBurnFast", "GradualUnavailability", SAME),
    Inhibition("AgreementDrop", "ErrorBudgetBurnSlow", "agreement"),
    Inhibition("PairingDrift", "ErrorBudgetBurnSlow", "agreement"),
    Inhibition("EmbeddingDrift", "ErrorBudgetBurnSlow", "agreement", cause_not=FUSED),
)

BY_TARGET: Mapping[str, Sequence[Inhibition]] = {
    name: [rule for rule in INHIBITIONS if rule.target == name] for name in {rule.target for rule in INHIBITIONS}
}
