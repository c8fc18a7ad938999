"""The tokenizer: lower case, any number is ``0``, any currency is ``$``, words as WordPiece."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

LEARNT: Final = 6_000
"""Word pieces learnt from the headlines; whole words of patterns and lexicon come on top."""

LONGEST: Final = 128
"""Tokens of a text that the network has positions for."""

PADDING: Final = 0
"""Number of the piece that fills up a batch; see the order of `_SPECIAL`."""

_SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_MONEY: Final = r"(?:\b(?:rs|inr|eur|euro|usd|gbp|sek|nok|dkk|chf|jpy|cny|cad|aud|us)\b\.?|[€£¥₹]|\$)\s*[$]?\s*(?=0)"
_UNIT: Final = r"(?<=0)\s*(?:mn|mln|mio|bn|tn|m|b|k|lakh|crores?|cr|millions?|billions?|trillions?|thousand)\b\.?"
_PERCENT: Final = r"(?<=0)\s*(?:%|per\s?cent\b|percent\b|pct\b|pc\b)"


def learnt(texts: Sequence[str], words: Sequence[str]) -> Tokenizer:
    """Return a tokenizer whose pieces are learnt from texts, with words that are whole ones besides.

    What is done to numbers and currencies is part of the tokenizer, so that inference does it too.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.BertNormalizer(lowercase=True, strip_accents=True),
            normalizers.Replace(Regex("[\u2018\u2019`]"), "'"),
            normalizers.Replace(Regex(r"n't\b"), " not"),
            normalizers.Replace(Regex(r"\d+(?:[.,:/]\d+)*"), " 0 "),
            normalizers.Replace(Regex(_MONEY), " $ "),
            normalizers.Replace(Regex(_UNIT), " "),
            normalizers.Replace(Regex(_PERCENT), " % "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces = sorted(_pieces(tokenizer, texts) | set(words))
    vocabulary = {piece: at for at, piece in enumerate([*_SPECIAL, *pieces])}
    tokenizer.model = models.WordPiece(vocab=vocabulary, unk_token="[UNK]", continuing_subword_prefix="##")
    tokenizer.add_special_tokens(list(_SPECIAL))
    cls, sep = vocabulary["[CLS]"], vocabulary["[SEP]"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", cls), ("[SEP]", sep)]
    )
    return tokenizer


def _pieces(tokenizer: Tokenizer, texts: Sequence[str]) -> set[str]:
    """Return pieces of the texts' words, the same in every process."""
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer, learner.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    letters = sorted(set("".join(learner.normalizer.normalize_str(text) for text in texts)) - {" "})
    # Of equally frequent pairs the trainer joins the one numbered first, and it numbers what it is not given in the
    # order of a hash table.
    given = [*_SPECIAL, *letters, *(f"##{letter}" for letter in letters)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=LEARNT, special_tokens=given, continuing_subword_prefix="##", show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    return set(learner.get_vocab()) - set(_SPECIAL)


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write what transformers' AutoTokenizer reads, ``tokenizer.json`` as it is and not rebuilt from a vocabulary."""
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": LONGEST,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        **{f"{word[1:-1].lower()}_token": word for word in _SPECIAL},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
