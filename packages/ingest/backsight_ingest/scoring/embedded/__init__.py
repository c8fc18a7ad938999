"""The model that comes with the package, for machines without a network; see ``MODEL_CARD.md`` beside it.

It runs the code path of a large model. It is no FinBERT, and is never chosen unless named.
"""

from importlib.resources import files
from pathlib import Path
from typing import Final

NAME: Final = "sentfin-tiny-bert"
"""As it stands in the scores and in every table."""


def folder() -> Path:
    """Return the folder of the model's files, which `hub.local` reads.

    Examples
    --------
    >>> sorted(path.name for path in folder().iterdir() if path.suffix == ".json")
    ['config.json', 'tokenizer.json', 'tokenizer_config.json']
    """
    return Path(str(files(__name__)))
