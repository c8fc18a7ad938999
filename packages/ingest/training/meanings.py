"""What simpler models know of words: the word vectors that the network starts from."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from compositions import Composer
from scipy.sparse import coo_array, csr_array
from sentfin import Headline
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer

_MADE: Final = 4
"""Patterns, and texts with words of the lexicon, per headline."""

_REACH: Final = 4
_SPREAD: Final = 0.06
"""Standard deviation of the vectors' numbers, as of the network's other weights."""

FloatArray = npt.NDArray[np.float32]


def meanings(
    headlines: Sequence[Headline],
    composer: Composer,
    tokenizer: Tokenizer,
    *,
    width: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Return a vector of each word piece: its neighbours, and the labels of texts that it stands in.

    Half is the singular value decomposition of how much more often than by chance two pieces stand close by, half
    the coefficients of a logistic model, in random directions.
    """
    examples = [*(composer.pattern() for _ in headlines), *(composer.lexical() for _ in range(_MADE * len(headlines)))]
    texts = [each.title for each in headlines] + [each.text for each in examples]
    labels = [each.label for each in headlines] + [int(np.argmax(each.target)) for each in examples]
    ids = [each.ids[1:-1] for each in tokenizer.encode_batch(texts)]
    size = tokenizer.get_vocab_size()
    near = _neighbours(ids[: 2 * len(headlines)], size)
    context = TruncatedSVD(width, random_state=int(rng.integers(2**31))).fit_transform(near)
    context = context / np.maximum(np.linalg.norm(context, axis=1, keepdims=True), 1e-9)
    sense = _coefficients(ids, labels, size) @ rng.standard_normal((3, width))
    vectors = sense / sense.std() + context / context.std() + 0.3 * rng.standard_normal((size, width))
    return np.asarray(vectors / vectors.std() * _SPREAD, dtype=np.float32)


def _neighbours(ids: Sequence[Sequence[int]], size: int) -> csr_array:
    """Return the positive pointwise mutual information of pieces within each other's reach, shape (size, size)."""
    pairs = [
        (np.asarray(each[step:]), np.asarray(each[:-step]))
        for each in ids
        for step in range(1, _REACH + 1)
        if len(each) > step
    ]
    one, other = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    rows, columns = np.concatenate([one, other]), np.concatenate([other, one])
    counts = coo_array((np.ones(len(rows)), (rows, columns)), shape=(size, size)).tocsr()
    totals = np.asarray(counts.sum(axis=0)).ravel()
    at = counts.tocoo()
    # The power of .75 holds back rare neighbours, as in word2vec.
    chance = totals[at.row] * totals[at.col] ** 0.75 / (totals**0.75).sum()
    information = np.maximum(np.log(at.data / chance), 0.0)
    return coo_array((information, (at.row, at.col)), shape=(size, size)).tocsr()


def _coefficients(ids: Sequence[Sequence[int]], labels: Sequence[int], size: int) -> npt.NDArray[np.float64]:
    """Return what each piece adds to the log odds of each label, shape (size, 3)."""
    columns = [sorted(set(each)) for each in ids]
    rows = np.repeat(np.arange(len(ids)), [len(each) for each in columns])
    present = coo_array((np.ones(len(rows)), (rows, np.concatenate(columns))), shape=(len(ids), size)).tocsr()
    return np.asarray(LogisticRegression(C=1.0, max_iter=200).fit(present, labels).coef_.T)
