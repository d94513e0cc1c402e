"""Video: a sequence of feature vectors that an extractor before the producer gave, one for each frame or clip."""

from inference.modalities._sequence import sequence_modality

MODALITY = sequence_modality("video")
