"""IFEval is scored without a download, and counts sentences as a reader would."""

import subprocess
import sys

import pytest

from evaluation.tasks.punkt_fallback import punkt_is_installed, sentence_tokenizer, word_tokenize


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", 3),
        ("Dr. Brown paid $3.50 to Mr. Green at 5 p.m. on Monday. He left.", 2),
        ("We like fruit, e.g. apples. They keep well, i.e. for weeks.", 2),
        ("A line without a stop", 1),
        ("First point.\n\nSecond point... and more.", 2),
        ("", 0),
    ],
)
def test_sentences(text, sentences):
    assert len(sentence_tokenizer().tokenize(text)) == sentences


def test_words():
    assert word_tokenize("It's NOT so. OK?") == ["It", "'s", "NOT", "so", ".", "OK", "?"]


@pytest.mark.skipif(punkt_is_installed(), reason="NLTK's own data is here: nothing to replace")
def test_scoring_needs_no_network():
    """In a process of its own, as the module of lm_eval looks for its data once, when it is first imported."""
    script = """
import nltk
nltk.download = lambda *a, **k: exit("asked for a download")
find = nltk.data.find
from evaluation.tasks.punkt_fallback import import_ifeval
import_ifeval()
assert nltk.data.find is find
from lm_eval.tasks.ifeval.utils import process_results
def score(instruction, answer, **kwargs):
    doc = {"key": 1, "instruction_id_list": [instruction], "prompt": "Say it.", "kwargs": [kwargs]}
    return process_results(doc, [answer])["prompt_level_strict_acc"]
three = "One is here. Two is there. Dr. Three is away."
n = dict(instruction="length_constraints:number_sentences", relation="at least")
c = dict(instruction="change_case:capital_word_frequency", capital_relation="at least")
print(score(num_sentences=3, answer=three, **n), score(num_sentences=4, answer=three, **n))
loud = "It is SO GOOD."
print(score(capital_frequency=2, answer=loud, **c), score(capital_frequency=3, answer=loud, **c))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "True False\nTrue False\n"
