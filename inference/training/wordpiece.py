"""Makes a WordPiece tokenizer of the texts that a model is trained on, for encoders that start from nothing."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PUNCTUATION = tuple(".,;:!?'\"()-/")
SYMBOLS = string.ascii_lowercase + string.digits


def pieces(texts: Iterable[str]) -> tuple[list[str], Counter[str]]:
    """The pieces that are always known, and how often each word of two characters or more occurs.

    Letters and digits, and any other character of the texts, are known whole and as continuation, so that an unseen
    word splits instead of vanishing.
    """
    normaliser, splitter = BertNormalizer(lowercase=True), BertPreTokenizer()
    words = Counter(
        word for text in texts for word, _ in splitter.pre_tokenize_str(normaliser.normalize_str(text)) if word
    )
    others = {character for word in words for character in word} - set(SYMBOLS) - set(PUNCTUATION)
    symbols = [*SYMBOLS, *sorted(others)]
    always = [*SPECIAL, *PUNCTUATION, *symbols, *("##" + symbol for symbol in symbols)]
    return always, Counter({word: count for word, count in words.items() if len(word) > 1})


def build_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A tokenizer of at most `vocabulary` pieces; the same texts in any order give the same one.

    The vocabulary is counted, not trained: the library's WordPiece trainer breaks ties by hash order, which would
    change the checkpoint from run to run. Raises ValueError where the characters alone do not fit.
    """
    always, words = pieces(texts)
    if len(always) > vocabulary:
        raise ValueError(f"{len(always)} characters and markers do not fit a vocabulary of {vocabulary}")
    ranked = sorted(words, key=lambda word: (-words[word], word))
    chosen = sorted(ranked[: vocabulary - len(always)])
    tokenizer = Tokenizer(WordPiece({piece: i for i, piece in enumerate([*always, *chosen])}, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.decoder = WordPieceDecoder()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer
