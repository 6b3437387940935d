"""Scores IFEval without a download.

lm_eval's ifeval fetches NLTK's `punkt_tab` when it is imported, and needs it for two of its 25 instructions: the number
of sentences and the number of words in capitals. Where the data is installed it is used, untouched. Where it isn't,
nothing is fetched: NLTK's own sentence splitter runs with its untrained parameters and the abbreviations below, which
counts the same unless a text has rarer abbreviations. `python -m nltk.downloader punkt_tab` gives the exact figure.
"""

import logging
from functools import lru_cache
from types import SimpleNamespace
from unittest.mock import patch

import nltk
from nltk.tokenize.destructive import NLTKWordTokenizer
from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

logger = logging.getLogger(__name__)

# Punkt keeps abbreviations in lower case and without their last full stop.
ABBREVIATIONS = (
    "mr mrs ms dr prof st jr sr gen col capt lt rev hon gov sen rep inc ltd co corp dept est fig vol no vs etc approx"
    " jan feb mar apr jun jul aug sep sept oct nov dec e.g i.e a.m p.m u.s u.k u.n d.c ph.d b.a m.a"
)


@lru_cache(maxsize=1)
def sentence_tokenizer() -> PunktSentenceTokenizer:
    """NLTK's splitter with the abbreviations above and no trained collocations."""
    parameters = PunktParameters()
    parameters.abbrev_types.update(ABBREVIATIONS.split())
    return PunktSentenceTokenizer(parameters)


def word_tokenize(text: str) -> list[str]:
    """`nltk.word_tokenize` over the fallback's sentences."""
    words = NLTKWordTokenizer()
    return [word for sentence in sentence_tokenizer().tokenize(text) for word in words.tokenize(sentence)]


def punkt_is_installed() -> bool:
    """Whether NLTK's trained sentence data is on this machine."""
    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        return False
    return True


def import_ifeval() -> None:
    """Import lm_eval's ifeval instructions; without punkt_tab, don't let them fetch it and lend them the fallback."""
    if punkt_is_installed():
        return
    with patch.object(nltk.data, "find"):  # the module looks for its data once, while it is imported
        from lm_eval.tasks.ifeval import instructions_util
    if instructions_util._get_sentence_tokenizer is not sentence_tokenizer:
        logger.warning(
            "ifeval: NLTK's punkt_tab is not installed, so sentences are split by a built-in fallback; "
            "for the exact figure run `python -m nltk.downloader punkt_tab` once"
        )
    instructions_util._get_sentence_tokenizer = sentence_tokenizer
    fallback = SimpleNamespace(tokenize=nltk.tokenize, word_tokenize=word_tokenize)
    instructions_util.nltk = fallback  # ty: ignore[invalid-assignment]
