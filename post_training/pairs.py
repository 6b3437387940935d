"""Examples of preference tuning: a prompt and two answers, of which only the assistant's tokens are scored."""

from collections.abc import Mapping
from typing import Any

import torch
from trl import DPOConfig
from trl.trainer.dpo_trainer import DataCollatorForPreference

from data.sources.pairs.rows import pair_row
from pipeline.errors import InputError
from post_training.chat import IGNORED, ChatEncoder, EncodedPair
from post_training.dataset import PLACE, Splits
from post_training.examples import KEPT, Example, Examples, Limit, build_examples, parse_rows
from post_training.recipes.dataset import PairsConfig

COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids", "chosen_scored", "rejected_scored")


def encode_pairs(
    splits: Splits, encoder: ChatEncoder, config: PairsConfig, args: DPOConfig, max_prompt_length: int | None
) -> Examples:
    """Examples with the columns of COLUMNS and `length`. Raises InputError."""
    missing = [name for name in ("chosen", "rejected") if name not in splits.train.column_names]
    if missing:
        there = ", ".join(name for name in splits.train.column_names if name != PLACE)
        raise InputError(
            f"dataset.name: {splits.source} has no column {', '.join(missing)} (it has {there}); rename it with "
            "rename_columns in the blend"
        )

    options = config.message_options()

    def parse(row: dict[str, Any], place: str) -> EncodedPair:
        return encoder.encode_pair(pair_row(row, place, options), place)

    def make(batch: Mapping[str, list[Any]], limit: Limit) -> list[Example]:
        pairs = parse_rows(batch, parse, config)
        return [
            Example("dropped_bad") if pair is None else example(pair, limit, max_prompt_length, place)
            for pair, place in zip(pairs, batch[PLACE], strict=True)
        ]

    limit = Limit(args.max_length, config.over_length)
    return build_examples(
        splits,
        make,
        columns=["chosen", "rejected", "prompt", "system", "tools", "chat_template_kwargs"],
        tokenizer=encoder.tokenizer,
        limit=limit,
        held_out_limit=limit,
        options=[vars(config), max_prompt_length],
        workers=args.dataset_num_proc,
    )


def example(pair: EncodedPair, limit: Limit, max_prompt_length: int | None, where: str) -> Example:
    """The outcome of one pair: both answers cut, then asked whether they still differ and what is left to score."""
    if max_prompt_length is not None and len(pair.prompt) > max_prompt_length:
        return Example("dropped_too_long")
    if pair.chosen == pair.rejected:
        return Example("identical")
    length = len(pair.prompt) + max(len(pair.chosen), len(pair.rejected))
    if not limit.admits(length, where):
        return Example("dropped_too_long")
    room = None if limit.end is None else max(limit.end - len(pair.prompt), 0)
    answers = [pair.chosen[:room], pair.rejected[:room]]
    scored = [pair.chosen_scored[:room], pair.rejected_scored[:room]]
    if not all(map(any, scored)):
        return Example("dropped_nothing_to_train")
    if answers[0] == answers[1]:
        return Example("identical_after_cut")
    return Example(
        KEPT,
        dict(zip(COLUMNS, (pair.prompt, *answers, *scored), strict=True)),
        length=len(pair.prompt) + max(map(len, answers)),
        cut=limit.tokens is not None and length > limit.tokens,
        answer_tokens=sum(map(sum, scored)),
    )


class ScoredPairCollator(DataCollatorForPreference):
    """TRL's batches of pairs, with the mask of each answer as the examples give it."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        masks = [
            [0] * len(pair["prompt_ids"]) + [int(on) for on in pair[column]]
            for column in ("chosen_scored", "rejected_scored")
            for pair in examples
        ]
        for row, mask in enumerate(masks):  # padding stands behind, where the mask is 0 already
            batch["completion_mask"][row, : len(mask)] = torch.tensor(mask)
        return batch


def labels_of(pair: Mapping[str, Any], answer: str) -> tuple[list[int], list[int]]:
    """Ids and labels of the prompt with one answer ("chosen" or "rejected")."""
    ids = pair[f"{answer}_ids"]
    scored = [token if on else IGNORED for token, on in zip(ids, pair[f"{answer}_scored"], strict=True)]
    return [*pair["prompt_ids"], *ids], [IGNORED] * len(pair["prompt_ids"]) + scored


__all__ = ["COLUMNS", "ScoredPairCollator", "encode_pairs", "labels_of"]
