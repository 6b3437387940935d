"""What the policy is asked: encoded dialogues handed out as batches of queries, references and needed facts."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrl.dialogues.facts import Fact, case_variants
from mrl.dialogues.tokenization import HEADER, MARKER, SCORED, EncodedDialogues
from mrl.model import TurnFrame
from mrl.rl.episode_start import EpisodeStart
from mrl.rl.rewards import RewardConfig, Vocabulary, says_something
from mrl.rl.trajectory import NO_TOKEN, EpisodeBatch, Strategy
from pipeline.errors import InputError, shortened, shown

BLANKS = ("Ġ", "▁", "Ċ", "ĉ")
"""Blank, line break and tab as byte-level and SentencePiece tokenizers write them."""
FEW = 32
"""With fewer dialogues than this that end on a question, those that end on something else are taken too."""


class EpisodeDataset:
    """Dialogues of one split. A batch of n turns has the first interaction and the n that follow it. sources: of each
    dialogue, where strategies name rows."""

    def __init__(
        self, data: EncodedDialogues, tokenizer: Any, where: str, sources: Sequence[str] | None = None
    ) -> None:
        self.data, self.where = data, where
        self.sources = np.array(sources if sources is not None else [where] * len(data))
        marked = np.where(data.flags & (HEADER | MARKER | SCORED), np.arange(len(data.flags)), len(data.flags))
        self.answer_start = np.minimum.reduceat(marked, data.start[:-1])
        if bool((self.answer_start - data.start[:-1] < 2).any()):
            raise InputError(f"{where}: plain text has no questions; give rows with `query` and `interactions`")
        self.spellings = spellings(tokenizer, {fact for facts in data.facts for fact in facts})

    def named(self, rows: Sequence[str]) -> np.ndarray:
        """Which dialogues [n] bool are of the sources that `rows` names (none: all). Raises InputError where a name is
        that of no source."""
        if not rows:
            return np.ones(len(self.data), dtype=bool)
        sources = sorted(set(self.sources.tolist()))
        matching = {pattern: [source for source in sources if PurePath(source).match(pattern)] for pattern in rows}
        for pattern, found in matching.items():
            if not found:
                raise InputError(
                    f"curriculum.strategies: rows has {shown(pattern)}, but no source of {self.where} ends so; there "
                    f"are {shortened(', '.join(sources), 200)}"
                )
        return np.isin(self.sources, [source for found in matching.values() for source in found])

    def members(self, turns: int, rows: Sequence[str] = ()) -> np.ndarray:
        """Numbers of the dialogues for so many turns, of the sources that `rows` names: of all lengths that suffice the
        shortest, cut to it, if something is asked in what is left; where there are enough, only those that end on a
        question. Raises InputError."""
        lengths, asks, mine = self.data.turns, self.data.asks, self.named(rows)
        enough = mine & (lengths > turns)
        if not enough.any():
            which = f" of {', '.join(rows)}" if rows else ""
            raise InputError(
                f"{self.where}: no dialogue{which} has {turns} turns (the longest {int(lengths[mine].max()) - 1}); "
                "build a subset of that many with data/data_collection.py, or end the curriculum earlier"
            )
        chosen = np.flatnonzero(mine & (lengths == lengths[enough].min()))
        first = self.data.first[chosen]
        ending = chosen[asks[first + turns]]
        if len(ending) >= min(FEW, len(chosen)):
            return ending
        so_far = np.concatenate([[0], np.cumsum(asks)])
        asked = chosen[so_far[first + turns + 1] - so_far[first + 1] > 0]
        return asked if len(asked) else chosen

    def require_rewards(
        self, turns: int, rewards: RewardConfig, vocabulary: Vocabulary, strategies: Sequence[Strategy]
    ) -> None:
        """Refuse dialogues of so many turns where no term of the reward says anything of any answer. Raises
        InputError."""
        for number, members in enumerate([self.members(turns, strategy.rows) for strategy in strategies]):
            for start in range(0, len(members), 256):
                some = members[start : start + 256]
                batch = self.batch(some, turns, [0] * len(some), [number] * len(some), strategies)
                if says_something(rewards, vocabulary, batch):
                    return
        terms = ", ".join(name for name, weight in rewards.weights.items() if weight)
        raise InputError(
            f"{self.where}: no term of rewards.weights ({terms}) says anything of any answer in dialogues of {turns} "
            "turns: mark what answers need (`facts: [...]` beside each, or `facts: carried` at the source, which reads "
            "names and numbers off the words), or give rewards.weights another term, as bleu"
        )

    def batch(
        self,
        dialogues: np.ndarray,
        turns: int,
        seeds: Sequence[int],
        strategy: Sequence[int] | None = None,
        strategies: Sequence[Strategy] = (Strategy(),),
    ) -> EpisodeBatch:
        """The first `turns` answered turns of dialogues; seeds [B] of states and sampling, strategy [B] indices."""
        data, place = self.data, np.arange(turns)
        first = data.first[dialogues]
        present = place < (data.turns[dialogues] - 1)[:, None]
        turn = np.where(present, first[:, None] + 1 + place, first[:, None])
        query = self._cut(data.start[turn], self.answer_start[turn], present)
        reference = self._cut(self.answer_start[turn], data.start[turn + 1], present)
        beginning = self._cut(data.start[first], data.start[first + 1], np.ones(len(first), dtype=bool))
        chosen = list(strategy) if strategy is not None else [0] * len(dialogues)
        return EpisodeBatch(
            first_ids=beginning[0],
            first_mask=beginning[1],
            query_ids=query[0],
            query_mask=query[1],
            reference_ids=reference[0],
            reference_mask=reference[1],
            fact_ids=self._facts(turn, present),
            distance=torch.from_numpy(np.where(present, data.distance[turn], 0)),
            turns=torch.from_numpy(present),
            strategy=torch.tensor(chosen[: len(dialogues)], dtype=torch.long),
            start=EpisodeStart.fresh(seeds),
            strategies=tuple(strategies),
        )

    def _cut(self, begin: np.ndarray, end: np.ndarray, present: np.ndarray) -> tuple[Tensor, Tensor]:
        """Tokens begin..end of each place, right-padded; places that aren't there are empty."""
        lengths = np.where(present, end - begin, 0)
        position = np.arange(max(1, int(lengths.max())))
        mask = position < lengths[..., None]
        ids = self.data.tokens[np.where(mask, begin[..., None] + position, 0)]
        return torch.from_numpy(np.where(mask, ids, self.data.frame.pad)), torch.from_numpy(mask)

    def _facts(self, turn: np.ndarray, present: np.ndarray) -> Tensor:
        wanted = [
            [
                [self.spellings[fact] for fact in self.data.facts[t]] if here else []
                for t, here in zip(*row, strict=True)
            ]
            for row in zip(turn.tolist(), present.tolist(), strict=True)
        ]
        flat = [facts for row in wanted for facts in row]
        most = max((len(facts) for facts in flat), default=0) or 1
        ways = max((len(ways) for facts in flat for ways in facts), default=0) or 1
        longest = max((len(ids) for facts in flat for ways in facts for ids in ways), default=0) or 1
        table = np.full((*turn.shape, most, ways, longest), NO_TOKEN, dtype=np.int64)
        for b, row in enumerate(wanted):
            for k, facts in enumerate(row):
                for f, spelled in enumerate(facts):
                    for v, ids in enumerate(spelled):
                        table[b, k, f, v, : len(ids)] = ids
        return torch.from_numpy(table)


def spellings(tokenizer: Any, facts: set[Fact]) -> dict[Fact, list[list[int]]]:
    """Token ids of each fact as a text's first words and as words inside of one, in the cases that people write it in,
    where these differ: case doesn't count (`mrl.dialogues.facts`)."""
    listed = [(fact, variant) for fact in facts for variant in case_variants(fact)]
    found: dict[Fact, list[list[int]]] = {fact: [] for fact in facts}
    for blank in ("", " "):
        texts = [f"{blank}{variant}" for _, variant in listed]
        encoded = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        for (fact, _), ids in zip(listed, encoded, strict=True):
            if ids and ids not in found[fact]:
                found[fact].append(list(ids))
    # A case that the tokenizer has no word for would be said by every unknown word.
    unknown = tokenizer.unk_token_id
    return {fact: [ids for ids in ways if unknown not in ids] or ways[:1] for fact, ways in found.items()}


def _in_a_word(character: str) -> bool:
    return character.isalnum() and character not in BLANKS  # to Python, `Ġ` is a letter like any other


def vocabulary_of(tokenizer: Any, embedding: Tensor, frame: TurnFrame) -> Vocabulary:
    """What rewards know of the tokenizer; embedding [V, D] is copied. Tokens tell by their first and last character
    whether they can stand inside a word."""
    size = embedding.shape[0]
    special = torch.zeros(size, dtype=torch.bool)
    special[[i for i in tokenizer.all_special_ids if i < size]] = True
    special[len(tokenizer) :] = True
    by_blanks = any(str(token).startswith(BLANKS) for token in tokenizer.get_vocab())
    starts, ends = torch.zeros(size, dtype=torch.bool), torch.zeros(size, dtype=torch.bool)
    for token, index in tokenizer.get_vocab().items():
        if index >= size or special[index] or not token:
            continue
        word = token.removeprefix("##")
        # A tokenizer that writes no blanks splits at them: its tokens are whole words unless marked with ##.
        starts[index] = word != token or (by_blanks and _in_a_word(token[0]))
        ends[index] = _in_a_word(word[-1])
    return Vocabulary.build(special, starts, ends, embedding.cpu(), frame, decode=tokenizer.decode)
