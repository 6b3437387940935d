"""Rewards on sentences: what the field's BLEUs give, largest for the reference, and not to be had by copying."""

import random
from dataclasses import replace

import pytest
import torch
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from sacrebleu.metrics import BLEU

from mrl.model import ReactiveConfig, TurnFrame
from mrl.recipes.rewards import TERMS as NAMES
from mrl.rl.episode_start import EpisodeStart
from mrl.rl.rewards import (
    RewardConfig,
    Vocabulary,
    bleu,
    content,
    fact_recall,
    repetition,
    says_something,
    score,
    strategy_table,
)
from mrl.rl.rewards.combined import TERMS
from mrl.rl.rewards.overlap import agreement, shared
from mrl.rl.rewards.silence import as_answered
from mrl.rl.rewards.words import Words
from mrl.rl.trajectory import NO_TOKEN, EpisodeBatch, Rollout, Strategy
from tests.mrl.rl.toy import pad_stack

PAD, EOS, ANSWER, THINK, QUERY, BOS = 0, 1, 2, 3, 4, 5
FRAME = TurnFrame.single(pad=PAD, mask=None, bos=BOS, eos=EOS, query=QUERY, answer=ANSWER, think=THINK)
WORDS = "my dog is called rex . what name does have your noted and the cat tom lives in oslo where ann ##a".split()
IDS = {word: 6 + i for i, word in enumerate(WORDS)}
SIZE = 6 + len(WORDS)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    special = torch.arange(SIZE) < 6
    starts = torch.zeros(SIZE, dtype=torch.bool)
    starts[IDS["##a"]] = True
    ends = ~special
    ends[IDS["."]] = False
    generator = torch.Generator().manual_seed(0)
    return Vocabulary.build(special, starts, ends, torch.randn(SIZE, 16, generator=generator), FRAME)


def test_recipes_know_the_terms_that_there_are():
    assert set(NAMES) == set(TERMS)


def say(text: str) -> list[int]:
    return [ANSWER, *(IDS[w] for w in text.split()), EOS]


def pair(text: str, vocabulary: Vocabulary):
    ids, mask = pad_stack([[say(text)]])
    return Words(*(x[0] for x in content(ids, mask, vocabulary)))


def random_texts(shortest: int) -> list[tuple[str, str]]:
    """Pairs of texts of `shortest` to 11 of six words."""
    rng = random.Random(1)
    return [tuple(" ".join(rng.choices(WORDS[:6], k=rng.randint(shortest, 11))) for _ in range(2)) for _ in range(40)]


@pytest.mark.parametrize("orders", [1, 2, 4])
def test_bleu_with_equal_weights_is_sacrebleus(orders, vocabulary):
    metric = BLEU(max_ngram_order=orders, smooth_method="add-k", smooth_value=1, tokenize="none", effective_order=True)
    for said, reference in random_texts(1):
        expected = metric.sentence_score(said, [reference]).score / 100
        ours = bleu(pair(said, vocabulary), pair(reference, vocabulary), [1 / orders] * orders).item()
        assert ours == pytest.approx(expected, abs=1e-6), (said, reference)


def test_bleu_with_other_weights_is_nltks(vocabulary):
    # nltk gives an answer shorter than an order another precision there (1/2 for 1), so every text has four words.
    weights, smoothing = [0.2, 0.2, 0.3, 0.3], SmoothingFunction().method2
    for said, reference in random_texts(4):
        expected = sentence_bleu([reference.split()], said.split(), weights, smoothing)
        ours = bleu(pair(said, vocabulary), pair(reference, vocabulary), weights).item()
        assert ours == pytest.approx(expected, abs=1e-6), (said, reference)


def test_bleu_of_equal_and_of_empty_texts(vocabulary):
    a, b = pair("rex", vocabulary), pair("", vocabulary)
    assert bleu(a, a, [0.5, 0.5]).item() == pytest.approx(1)
    assert bleu(b, a, [0.5, 0.5]).item() == 0


def test_shared_and_repeated_word_groups(vocabulary):
    assert shared(pair("my dog is called", vocabulary), pair("dog is called rex", vocabulary), 3).item() == 1
    assert repetition(pair("rex rex rex rex", vocabulary)).item() == pytest.approx(2 / 3)
    assert repetition(pair("rex", vocabulary)).item() == 0


def test_agreement_is_largest_where_the_reference_is():
    value, ideal = torch.tensor([0.2, 0.1, 0.4, 0.0, 0.3]), torch.tensor([0.2, 0.2, 0.2, 0.2, 0.0])
    torch.testing.assert_close(agreement(value, ideal)[:4], torch.tensor([1.0, 0.5, 0.5, 0.0]))
    assert agreement(value, ideal)[4].isnan()


def facts(*spelt: list[str]) -> torch.Tensor:
    """One row of facts, each in several spellings of word tokens."""
    width = max(len(s.split()) for fact in spelt for s in fact)
    many = max(len(fact) for fact in spelt)
    out = torch.full((1, len(spelt), many, width), NO_TOKEN)
    for f, fact in enumerate(spelt):
        for v, spelling in enumerate(fact):
            out[0, f, v, : len(spelling.split())] = torch.tensor([IDS[w] for w in spelling.split()])
    return out


def test_recall_counts_whole_facts_in_any_spelling(vocabulary):
    two = facts(["rex"], ["lives in", "in oslo"])
    for text, expected in [
        ("your dog is called rex .", 0.5),
        ("rex lives in oslo", 1.0),
        ("rex in oslo", 1.0),
        ("lives the in", 0.0),
        ("", 0.0),
    ]:
        assert fact_recall(pair(text, vocabulary), two, vocabulary).item() == expected, text
    assert fact_recall(pair("rex", vocabulary), torch.full((1, 1, 1, 1), NO_TOKEN), vocabulary).isnan()


def test_a_name_is_not_found_inside_a_longer_one(vocabulary):
    ann = facts(["ann"])
    assert fact_recall(pair("ann", vocabulary), ann, vocabulary).item() == 1
    assert fact_recall(pair("called ann .", vocabulary), ann, vocabulary).item() == 1
    assert fact_recall(pair("ann ##a", vocabulary), ann, vocabulary).item() == 0
    assert fact_recall(pair("##a", vocabulary), facts(["##a"]), vocabulary).item() == 1
    assert fact_recall(pair("ann ##a", vocabulary), facts(["##a"]), vocabulary).item() == 0


FIRST = ("my dog is called rex .", "noted .")
CUMULATIVE = (Strategy(),)
TURNS = [("what name does my dog have", "your dog is called rex .", "rex")] * 2


def rollout_of(answers: list[list[str]], *, strategies=CUMULATIVE, thoughts: bool = False) -> Rollout:
    """Dialogues of FIRST and TURNS in which these answers were given."""
    rows, steps = len(answers), len(answers[0])
    query = [BOS, QUERY, *(IDS[w] for w in TURNS[0][0].split())]
    first = [BOS, QUERY, *(IDS[w] for w in FIRST[0].split()), *say(FIRST[1])]
    thought = [THINK, IDS["rex"]] if thoughts else []
    writes = pad_stack([[first, *([*query, *thought, *say(a)] for a in row[:-1])] for row in answers])
    said = pad_stack([[thought + say(a) for a in row] for row in answers])
    references = pad_stack([[say(TURNS[0][1])] * steps] * rows)
    queries, firsts = pad_stack([[query] * steps] * rows), pad_stack([[first]] * rows)
    batch = EpisodeBatch(
        first_ids=firsts[0][:, 0],
        first_mask=firsts[1][:, 0],
        query_ids=queries[0],
        query_mask=queries[1],
        reference_ids=references[0],
        reference_mask=references[1],
        fact_ids=facts(["rex"])[None].expand(rows, steps, -1, -1, -1),
        distance=torch.ones(rows, steps, dtype=torch.long),
        turns=torch.ones(rows, steps, dtype=torch.bool),
        start=EpisodeStart.fresh(range(rows)),
        strategy=torch.arange(rows) % len(strategies),
        strategies=strategies,
    )
    return Rollout(
        batch=batch,
        writes=writes[0],
        writes_mask=writes[1],
        answer_ids=said[0],
        answer_mask=said[1],
        sampled=said[1],
        log_probs=torch.zeros(said[0].shape),
        finished=torch.ones(rows, steps, dtype=torch.bool),
        thought=torch.full((rows, steps), len(thought)),
        cut=torch.zeros(rows, steps, dtype=torch.bool),
    )


EVERYTHING = dict.fromkeys(
    ("facts", "bleu", "bleu_saved", "cosine", "cosine_saved", "running", "length", "repetition"), 1.0
)
DEGENERATE = {
    "copy of the saved answer": "noted .",
    "copy of the saved query": "my dog is called rex .",
    "copy of the saved interaction": "my dog is called rex . noted .",
    "empty": "",
    "repeated": "rex rex rex rex rex rex rex rex rex",
    "every name there is": "rex tom ann oslo cat dog rex tom ann oslo",
    "reference twice": "your dog is called rex . your dog is called rex .",
}
ONLY_FACTS = RewardConfig(weights={"facts": 1.0})
FIRST_TURN = torch.tensor([True, False])


@pytest.mark.parametrize("weights", [EVERYTHING, RewardConfig().weights], ids=["all terms", "default"])
def test_the_reference_is_perfect_and_beats_every_degenerate_answer(weights, vocabulary):
    config = RewardConfig(weights=weights, scale=10.0)
    answers = [[TURNS[0][1]] * 2, *([text] * 2 for text in DEGENERATE.values())]
    rewards = score(config, vocabulary, rollout_of(answers)).rewards
    torch.testing.assert_close(rewards[0], torch.tensor([10.0, 10.0]))
    for name, row in zip(DEGENERATE, rewards[1:], strict=True):
        # Five of the six words of the saved query are the reference's; anything else is farther off.
        most = 9.0 if name == "copy of the saved query" else 8.5
        assert (row < most).all(), f"{name} earned {row.tolist()} of 10"
    assert (rewards[1 + list(DEGENERATE).index("empty")] == 0).all()


def test_facts_alone_are_not_to_be_had_by_copying_or_listing(vocabulary):
    answers = [
        [TURNS[0][1]],
        ["my dog is called rex . noted ."],
        ["rex tom ann oslo cat dog rex tom ann oslo"],
        ["rex"],
    ]
    rewards = score(ONLY_FACTS, vocabulary, rollout_of(answers)).rewards[:, 0]
    assert rewards[0] == 1
    assert rewards[1] < 0.75
    assert rewards[2] < 0.95
    assert rewards[3] == 1


def test_the_frame_and_thoughts_earn_nothing(vocabulary):
    plain = score(ONLY_FACTS, vocabulary, rollout_of([["noted ."]]))
    thinking = score(ONLY_FACTS, vocabulary, rollout_of([["noted ."]], thoughts=True))
    assert plain.rewards.item() == thinking.rewards.item() == 0
    assert plain.recall.item() == thinking.exact.item() == 0
    answers = [["rex", "your dog is called rex ."], ["noted .", "my dog is called rex . noted ."]]
    every = RewardConfig(weights=EVERYTHING)
    plain, thinking = (score(every, vocabulary, rollout_of(answers, thoughts=t)).rewards for t in (False, True))
    assert torch.equal(plain, thinking), "nor do those in the interactions that were written"


def test_terms_that_say_nothing_leave_their_weight_to_others(vocabulary):
    made = rollout_of([["your dog is called rex ."]])
    blank = torch.full_like(made.batch.fact_ids, NO_TOKEN)
    made = replace(made, batch=replace(made.batch, fact_ids=blank))
    result = score(RewardConfig(), vocabulary, made)
    assert result.rewards.item() == pytest.approx(1)
    assert result.recall.isnan().all()
    assert result.rewarded.all()
    silent = score(ONLY_FACTS, vocabulary, made)
    assert not silent.rewarded.any(), "a turn that nothing is known about isn't a wrong answer"
    assert silent.rewards.item() == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weights": {"fcts": 1.0}}, "fcts is no term"),
        ({"weights": {"facts": -1.0}}, "less than nothing"),
        ({"weights": {"facts": 0.0}}, "all 0"),
        ({"scale": 0.0}, "scale"),
        ({"bleu_orders": [0.5, -0.5]}, "bleu_orders"),
        ({"length_slack": 0.5}, "length_slack"),
        ({"running_decay": 2.0}, "running_decay"),
    ],
)
def test_settings_without_a_meaning_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        RewardConfig(**wrong)


STRATEGIES = (
    Strategy(kind="single"),
    Strategy(kind="cumulative", saved_offset=2, final_weight=2.0),
    Strategy(kind="long_term"),
    Strategy(kind="long_term", dense=True, topic_change_penalty=0.5),
)


def test_what_each_strategy_rewards():
    turns = torch.ones(4, 4, dtype=torch.bool)
    turns[2, 3] = False  # this dialogue ends a turn earlier
    table = strategy_table(STRATEGIES, (4, 4), torch.arange(4), turns)
    assert table.factor.tolist() == [[1, 0, 0, 0], [1, 1, 1, 2], [0, 0, 1, 0], [1, 1, 1, 1]]
    assert table.saved.tolist() == [[0, 1, 2, 3], [0, 0, 1, 2], [0, 1, 0, 3], [0, 1, 2, 0]]
    assert table.everything.nonzero().tolist() == [[1, 3]]
    assert table.penalty.tolist() == [[0] * 4, [0] * 4, [0] * 4, [0.5, 0.5, 0.5, 0]]


def test_the_last_answer_of_a_cumulative_dialogue_weighs_final_weight_times(vocabulary):
    """An answer equal to its reference is worth 1: with final_weight 4 the dialogue brings 1 and 4."""
    strategies = (Strategy(kind="cumulative"), Strategy(kind="cumulative", final_weight=4.0))
    made = rollout_of([["rex", "your dog is called rex ."]] * 2, strategies=strategies)
    said = replace(made.batch, reference_ids=made.answer_ids, reference_mask=made.answer_mask)
    rewards = score(RewardConfig(weights={"bleu": 1.0}), vocabulary, replace(made, batch=said)).rewards
    torch.testing.assert_close(rewards, torch.tensor([[1.0, 1.0], [1.0, 4.0]]))


def test_leaning_on_the_old_topic_costs_only_until_the_last_turn(vocabulary):
    dense = Strategy(kind="long_term", dense=True)
    dear = Strategy(kind="long_term", dense=True, topic_change_penalty=0.5)
    answers = [["my dog is called rex .", "your dog is called rex ."]] * 2
    made = rollout_of(answers, strategies=(dense, dear))
    said = made.batch.reference_ids
    other = torch.where(said == IDS["rex"], IDS["oslo"], said)
    made = replace(made, batch=replace(made.batch, reference_ids=other))
    rewards = score(RewardConfig(), vocabulary, made).rewards
    assert rewards[1, 0] < rewards[0, 0]
    assert rewards[1, 1] == rewards[0, 1]


def test_a_row_is_worth_the_same_alone_and_among_others(vocabulary):
    config = RewardConfig(weights=EVERYTHING)
    answers = [["rex", "your dog is called rex ."], ["noted .", "tom lives in oslo"], ["", "my dog"]]
    together = score(config, vocabulary, rollout_of(answers)).rewards
    alone = torch.cat([score(config, vocabulary, rollout_of([row])).rewards for row in answers])
    torch.testing.assert_close(together, alone)


def test_words_of_a_byte_level_tokenizer_end_where_a_blank_begins():
    # To Python `Ġ` is a letter: taken for one, every word continues the word before it and no fact is ever found.
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from mrl.rl.episode_dataset import spellings, vocabulary_of

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=True), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=["[PAD]", "[A]", "[EOS]"], initial_alphabet=alphabet)
    backend.train_from_iterator(["Ann saw San Jose and Anna at 5:15 pm on March 10th."] * 9, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", eos_token="[EOS]")
    tokenizer.add_special_tokens({"additional_special_tokens": ["[A]"]})
    words = vocabulary_of(tokenizer, torch.zeros(len(tokenizer), 4), ReactiveConfig().frame)

    def said(answer: str, fact: str) -> float:
        ways = spellings(tokenizer, {fact})[fact]
        table = torch.full((1, 1, len(ways), max(map(len, ways))), NO_TOKEN)
        for way, ids in enumerate(ways):
            table[0, 0, way, : len(ids)] = torch.tensor(ids)
        ids = torch.tensor([tokenizer(answer)["input_ids"]])
        return fact_recall(Words(ids, torch.ones_like(ids).bool()), table, words).item()

    assert said("I saw San Jose and Ann.", "San Jose") == 1
    assert said("I saw San Jose and Ann.", "Ann") == 1
    assert said("I saw San Jose and Anna.", "Ann") == 0
    assert said("at 5:15 pm on March 10th", "5:15 pm") == 1
    assert said("at 5:15 pm on March 10th", "March 1") == 0


def test_a_reward_that_has_nothing_to_say_is_known_before_anybody_answers(vocabulary):
    batch = rollout_of([["noted .", "noted ."]]).batch
    bare = replace(batch, fact_ids=torch.full_like(batch.fact_ids, NO_TOKEN))
    assert says_something(ONLY_FACTS, vocabulary, batch)
    assert not says_something(ONLY_FACTS, vocabulary, bare)
    assert says_something(RewardConfig(weights={"facts": 1.0, "bleu": 0.1}), vocabulary, bare)
    # What was saved first says `my dog is called rex`; the reference of a dialogue of one turn shares pairs with it.
    apart = replace(bare, first_ids=torch.full_like(bare.first_ids, IDS["oslo"]), turns=bare.turns & FIRST_TURN)
    saved = RewardConfig(weights={"bleu_saved": 1.0}, bleu_orders=[0.0, 1.0])
    assert says_something(saved, vocabulary, bare)
    assert not says_something(saved, vocabulary, apart)


def test_references_as_answers_are_what_a_perfect_policy_writes(vocabulary):
    reference = TURNS[0][1]
    played = rollout_of([[reference, reference]])
    made = as_answered(played.batch)
    for name in ("writes", "answer_ids"):
        mask = {"writes": "writes_mask", "answer_ids": "answer_mask"}[name]
        mine, wanted = (content(getattr(r, name), getattr(r, mask), vocabulary, whole=True) for r in (made, played))
        assert [x[m].tolist() for x, m in zip(mine.ids[0], mine.mask[0], strict=True)] == [
            x[m].tolist() for x, m in zip(wanted.ids[0], wanted.mask[0], strict=True)
        ]
