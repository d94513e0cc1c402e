"""A WordPiece tokenizer for the demo's captions: every caption word is one piece, any other word is spelled."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable

from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

VOCABULARY = 400
"""Rows of the model's word embedding: the pieces in use, and room for words a deployment adds."""

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PUNCTUATION = tuple(".,;:!?'\"()-/")


def build_tokenizer(captions: Iterable[str]) -> Tokenizer:
    """Make the tokenizer; the same captions in any order give the same vocabulary.

    The vocabulary is listed, not trained: the library's WordPiece trainer breaks ties by hash order, which would
    change the checkpoint from run to run. Letters and digits are always known, whole and as continuation, so that
    an unseen Latin word splits instead of vanishing.

    Raises:
        ValueError: the captions hold more words than the vocabulary has room for.
    """
    symbols = string.ascii_lowercase + string.digits
    words = sorted({word for caption in captions for word in re.findall(r"[a-z0-9]{2,}", caption.lower())})
    pieces = [*SPECIAL, *PUNCTUATION, *symbols, *("##" + symbol for symbol in symbols), *words]
    if len(pieces) > VOCABULARY:
        raise ValueError(f"{len(pieces)} pieces do not fit a vocabulary of {VOCABULARY}")
    tokenizer = Tokenizer(WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.decoder = WordPieceDecoder()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer
