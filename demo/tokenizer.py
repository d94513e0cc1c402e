"""A WordPiece tokenizer for the demo's captions: every caption word is one piece, any other word is spelled."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer

from inference.training import wordpiece

VOCABULARY = 400
"""Rows of the model's word embedding: the pieces in use, and room for words a deployment adds."""


def build_tokenizer(captions: Iterable[str]) -> Tokenizer:
    """Make the tokenizer; the same captions in any order give the same vocabulary.

    Raises:
        ValueError: the captions hold more words than the vocabulary has room for.
    """
    known = list(captions)
    always, words = wordpiece.pieces(known)
    if len(always) + len(words) > VOCABULARY:
        raise ValueError(f"{len(always) + len(words)} pieces do not fit a vocabulary of {VOCABULARY}")
    return wordpiece.build_tokenizer(known, VOCABULARY)
