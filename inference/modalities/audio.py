"""Audio: a sequence of feature vectors that an extractor before the producer gave, such as log-mel frames."""

from inference.modalities._sequence import sequence_modality

MODALITY = sequence_modality("audio")
