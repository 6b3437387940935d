"""Recall of a reactive model by distance, from its own memory and from two memories that can't know."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from evaluation.inference import AT_ONCE, GeneratedAnswer, Thinking, generate_answers, states_before
from evaluation.memory.questions import Question, Tally
from mrl.dialogues.dataset import Conversation
from mrl.dialogues.seeding import Purpose, derive_seed
from mrl.dialogues.tokenization import encode_dialogues
from mrl.model import MemoryHistory, MemoryState, ReactiveForCausalLM, Sampling
from pipeline.errors import InputError
from pipeline.progress import progress_bar

DIALOGUES_AT_ONCE = 32
QUESTIONS_AT_ONCE = 256


@dataclass(frozen=True)
class Answering:
    """How questions are answered, and whose answers are written into memory."""

    max_new_tokens: int = 16
    seed: int = 0
    """Of the initial states and of drawn answers."""
    own_answers: bool = False
    """Written into memory are the model's answers, not those of the data."""
    temperature: float = 0.0
    """0: greedy; above: all answers are drawn."""
    thinking: Thinking = AT_ONCE
    controls: int | None = None
    """Dialogues, evenly spread, whose questions are answered with the controls as well; None: all of them."""

    def controlled(self, dialogue: int, dialogues: int) -> bool:
        """Whether the controls answer the questions of a dialogue too, one of so many."""
        return self.controls is None or dialogue % max(1, math.ceil(dialogues / self.controls)) == 0


@torch.no_grad()
def measure_memory(
    model: ReactiveForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Conversation],
    questions: Sequence[Question],
    answering: Answering,
) -> dict[str, Tally]:
    """Answers from `memory`, from the state before the first turn (`reset_control`) and from the memory of another
    dialogue at the same turn (`foreign_control`). Raises InputError where there is one dialogue alone."""
    if len(conversations) < 2:
        raise InputError(
            "--data: questions of one dialogue alone can't be asked from another one's memory; give two or more"
        )
    limit = model.config.max_interaction_length
    encoded = encode_dialogues(conversations, tokenizer, max_length=limit, too_long="truncate", where="--data")
    tallies = {"memory": Tally(), "reset_control": Tally(), "foreign_control": Tally()}
    by_dialogue: dict[int, list[Question]] = {}
    for question in questions:
        by_dialogue.setdefault(question.dialogue, []).append(question)
    for dialogues in _batches(conversations):
        history = states_before(
            model, encoded, dialogues, answering.seed, tokenizer if answering.own_answers else None,
            answering.max_new_tokens, answering.temperature, answering.thinking,
        )  # fmt: skip
        batch = [(row, question) for row, d in enumerate(dialogues) for question in by_dialogue.pop(d, [])]
        controlled = [(row, q) for row, q in batch if answering.controlled(q.dialogue, len(conversations))]
        for name, asked in {"memory": batch, "reset_control": controlled, "foreign_control": controlled}.items():
            for at in range(0, len(asked), QUESTIONS_AT_ONCE):
                part = asked[at : at + QUESTIONS_AT_ONCE]
                memory = _memory(name, history, part, dialogues, conversations)
                answers = _answers(model, tokenizer, [q for _, q in part], memory, answering)
                for (_, question), answer in zip(part, answers, strict=True):
                    tallies[name].add(question, *answer)
    return tallies


def _batches(conversations: Sequence[Conversation]) -> Iterator[list[int]]:
    """Dialogues of like length together, so that another one of the batch has a memory at the same turn."""
    order = sorted(range(len(conversations)), key=lambda i: len(conversations[i].exchanges))
    for start in progress_bar(range(0, len(order), DIALOGUES_AT_ONCE), desc="recall", unit="batch"):
        dialogues = order[start : start + DIALOGUES_AT_ONCE]
        # A foreign memory takes a second dialogue.
        yield dialogues if len(dialogues) > 1 else [*dialogues, order[0]]


def _answers(
    model: ReactiveForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    memory: MemoryState,
    answering: Answering,
) -> list[GeneratedAnswer]:
    """An answer to each question from its row of the memory."""
    seeds = None
    if answering.temperature > 0:
        seeds = [derive_seed(answering.seed, Purpose.ANSWERS, q.dialogue, q.turn) for q in questions]
    return generate_answers(
        model, tokenizer, [q.query for q in questions], memory, answering.max_new_tokens,
        Sampling(temperature=answering.temperature), seeds, [q.answer for q in questions], answering.thinking,
    )  # fmt: skip


def _memory(
    name: str,
    history: MemoryHistory,
    questions: Sequence[tuple[int, Question]],
    dialogues: Sequence[int],
    conversations: Sequence[Conversation],
) -> MemoryState:
    """The memory that each question (row of the batch, question) is read against: its own or a control's."""
    places = [(row, question.turn) for row, question in questions]
    if name == "foreign_control":
        places = [_foreign(row, turn, dialogues, conversations) for row, turn in places]
    rows, turns = (torch.tensor(x) for x in zip(*places, strict=True))
    return history[0].rows(rows) if name == "reset_control" else history.after(turns, rows)


def _foreign(row: int, turn: int, dialogues: Sequence[int], conversations: Sequence[Conversation]) -> tuple[int, int]:
    """The next row with a dialogue of its own, at the same turn or at its last one."""
    rows = [(row + step) % len(dialogues) for step in range(1, len(dialogues) + 1)]
    other = next((candidate for candidate in rows if dialogues[candidate] != dialogues[row]), row)
    return other, min(turn, len(conversations[dialogues[other]].exchanges) - 1)
