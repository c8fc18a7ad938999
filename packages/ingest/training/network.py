"""The network: BERT of two layers, whose word vectors start from what simpler models know of the words."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch
from compositions import Composer, Example
from meanings import meanings
from sentfin import LABELS, Headline
from teacher import targets
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification
from wordpieces import LONGEST, PADDING

_EPOCHS: Final = 4
_BATCH: Final = 32
_GAPS: Final = 0.15
"""Share of word pieces that are hidden, anew in each epoch."""

_RATE: Final = 8e-4
_WARM: Final = 0.1
_KEPT: Final = 0.997
"""Of the running mean of the weights, at each step; the mean generalises better than the last step."""

Tell = Callable[[str], None]
Batch = tuple[Tensor, Tensor]


def configuration(tokenizer: Tokenizer) -> BertConfig:
    """Return the network's shape."""
    return BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=256,
        max_position_embeddings=LONGEST,
        hidden_dropout_prob=0.3,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.06,
        pad_token_id=PADDING,
        id2label=dict(enumerate(LABELS)),
        label2id={label: at for at, label in enumerate(LABELS)},
        attn_implementation="eager",
    )


def trained(
    headlines: Sequence[Headline],
    composer: Composer,
    tokenizer: Tokenizer,
    *,
    seed: int,
    tell: Tell,
) -> BertForSequenceClassification:
    """Return a classifier of headlines, patterns and words of the lexicon."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = BertForSequenceClassification(configuration(tokenizer))
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight.copy_(
            torch.from_numpy(meanings(headlines, composer, tokenizer, width=model.config.hidden_size, rng=rng))
        )
    mask = tokenizer.get_vocab()["[MASK]"]
    taught = list(zip(headlines, targets(headlines, seed=seed), strict=True))
    patterns, lexical = len(headlines) * 2 // 5, len(headlines) * 3 // 5
    steps = _Steps(model, _EPOCHS * _batches_of(len(headlines) + patterns + lexical))
    for epoch in range(_EPOCHS):
        examples = [Example(text=composer.headline(each), target=target) for each, target in taught]
        examples += [composer.pattern() for _ in range(patterns)]
        examples += [composer.lexical() for _ in range(lexical)]
        wanted = torch.tensor([each.target for each in examples])
        total = 0.0
        for ids, present, at in _shuffled(tokenizer, [each.text for each in examples], rng=rng):
            gaps = torch.from_numpy(rng.random(ids.shape) < _GAPS) & (ids > mask)
            logits = model(input_ids=ids.masked_fill(gaps, mask), attention_mask=present).logits
            total += steps.take(nn.functional.cross_entropy(logits, wanted[at]))
        tell(f"labels, epoch {epoch + 1}: loss {total / _batches_of(len(examples)):.3f}")
    steps.use_mean()
    return model.eval()


def logits_of(model: BertForSequenceClassification, tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Return the logits of texts, shape (n, 3)."""
    found = torch.empty(len(texts), len(LABELS))
    with torch.inference_mode():
        encoded = _encoded(tokenizer, texts)
        for start in range(0, len(texts), _BATCH):
            ids, present = _padded(encoded[start : start + _BATCH])
            found[start : start + _BATCH] = model(input_ids=ids, attention_mask=present).logits
    return found


def calibrate(model: BertForSequenceClassification, logits: Tensor, labels: Tensor) -> float:
    """Divide the last layer by the temperature that makes these labels likeliest, and return it."""
    choices = torch.logspace(-0.5, 0.7, 121)
    losses = torch.stack([nn.functional.cross_entropy(logits / choice, labels) for choice in choices])
    temperature = float(choices[losses.argmin()])
    with torch.no_grad():
        for weights in model.classifier.parameters():
            weights.div_(temperature)
    return temperature


def halve(model: BertForSequenceClassification) -> None:
    """Round every weight to float16, as it will be stored."""
    with torch.no_grad():
        for weights in model.parameters():
            weights.copy_(weights.half().float())


class _Steps:
    """AdamW with a rate that warms up and then falls to nothing, and a running mean of the weights."""

    def __init__(self, model: Any, steps: int) -> None:
        self._model = model
        decayed = [weights for weights in model.parameters() if weights.dim() > 1]
        others = [weights for weights in model.parameters() if weights.dim() <= 1]
        groups = [{"params": decayed, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
        self._optimiser = torch.optim.AdamW(groups, lr=_RATE, fused=True)
        self._rate = torch.optim.lr_scheduler.LambdaLR(
            self._optimiser, lambda at: min((at + 1) / (_WARM * steps), max(0.0, (steps - at) / ((1 - _WARM) * steps)))
        )
        self._mean = [weights.detach().clone() for weights in model.parameters()]
        model.train()

    def take(self, loss: Tensor) -> float:
        """Take a step down the loss and return it."""
        self._optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimiser.step()
        self._rate.step()
        torch._foreach_lerp_(self._mean, [weights.detach() for weights in self._model.parameters()], 1 - _KEPT)
        return float(loss.detach())

    def use_mean(self) -> None:
        """Put the running mean in the place of the weights."""
        with torch.no_grad():
            for weights, mean in zip(self._model.parameters(), self._mean, strict=True):
                weights.copy_(mean)


def _batches_of(texts: int) -> int:
    return -(-texts // _BATCH)


def _shuffled(
    tokenizer: Tokenizer, texts: Sequence[str], *, rng: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield batches of ids, of where there are any, and of the texts' positions; like lengths go together."""
    encoded = _encoded(tokenizer, texts)
    lengths = np.array([len(ids) for ids in encoded])
    # A little noise, so that a text meets others in every epoch.
    order = np.argsort(lengths + rng.uniform(0, 4, size=len(texts)), kind="stable")
    starts = np.arange(0, len(texts), _BATCH)
    for start in rng.permutation(starts):
        at = order[start : start + _BATCH]
        ids, present = _padded([encoded[i] for i in at])
        yield ids, present, torch.from_numpy(at)


def _encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return [each.ids[:LONGEST] for each in tokenizer.encode_batch(list(texts))]


def _padded(encoded: Sequence[Sequence[int]]) -> Batch:
    width = max(len(ids) for ids in encoded)
    ids = torch.tensor([[*each, *[PADDING] * (width - len(each))] for each in encoded])
    present = torch.tensor([[1] * len(each) + [0] * (width - len(each)) for each in encoded])
    return ids, present
