"""Recall of a reactive model by distance, from its own memory and from two memories that can't know."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from evaluation.inference import AT_ONCE, Thinking, generate_answers, states_before
from evaluation.memory.questions import Question, Tally
from mrl.dialogues.dataset import Conversation
from mrl.dialogues.seeding import Purpose, derive_seed
from mrl.dialogues.tokenization import encode_dialogues
from mrl.model import MemoryHistory, MemoryState, ReactiveForCausalLM, Sampling
from pipeline.errors import InputError
from pipeline.progress import progress_bar

DIALOGUES_AT_ONCE = 32
QUESTIONS_AT_ONCE = 64


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
    sampling = Sampling(temperature=answering.temperature)
    for dialogues in _batches(conversations):
        history = states_before(
            model, encoded, dialogues, answering.seed, tokenizer if answering.own_answers else None,
            answering.max_new_tokens, answering.temperature, answering.thinking,
        )  # fmt: skip
        batch = [(row, question) for row, d in enumerate(dialogues) for question in by_dialogue.pop(d, [])]
        for at in range(0, len(batch), QUESTIONS_AT_ONCE):
            part = batch[at : at + QUESTIONS_AT_ONCE]
            queries = [q.query for _, q in part]
            drawn = answering.temperature > 0
            seeds = (
                [derive_seed(answering.seed, Purpose.ANSWERS, q.dialogue, q.turn) for _, q in part] if drawn else None
            )
            for name, memory in _memories(history, part, dialogues, conversations).items():
                answers = generate_answers(
                    model, tokenizer, queries, memory, answering.max_new_tokens, sampling, seeds,
                    [q.answer for _, q in part], answering.thinking,
                )  # fmt: skip
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


def _memories(
    history: MemoryHistory,
    questions: Sequence[tuple[int, Question]],
    dialogues: Sequence[int],
    conversations: Sequence[Conversation],
) -> dict[str, MemoryState]:
    """The memory that each question (row of the batch, question) is read against: its own and the controls'."""
    rows, turns = (torch.tensor(x) for x in zip(*((row, q.turn) for row, q in questions), strict=True))
    foreign = [_foreign(row, question.turn, dialogues, conversations) for row, question in questions]
    other_rows, other_turns = (torch.tensor(x) for x in zip(*foreign, strict=True))
    return {
        "memory": history.after(turns, rows),
        "reset_control": history[0].rows(rows),
        "foreign_control": history.after(other_turns, other_rows),
    }


def _foreign(row: int, turn: int, dialogues: Sequence[int], conversations: Sequence[Conversation]) -> tuple[int, int]:
    """The next row with a dialogue of its own, at the same turn or at its last one."""
    rows = [(row + step) % len(dialogues) for step in range(1, len(dialogues) + 1)]
    other = next((candidate for candidate in rows if dialogues[candidate] != dialogues[row]), row)
    return other, min(turn, len(conversations[dialogues[other]].exchanges) - 1)
