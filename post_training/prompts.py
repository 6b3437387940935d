"""Questions with verifiable answers: rows become prompts and references for grpo.py."""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from data.sources.messages import BadRow, MessageOptions, parse_messages
from pipeline.errors import InputError
from post_training.dataset import PLACE, Splits
from post_training.examples import Examples
from post_training.recipes.dataset import PromptsConfig
from post_training.rewards.verifiers import answer_part


def encode_prompts(splits: Splits, config: PromptsConfig, tokenizer: Any) -> tuple[Examples, dict[str, Dataset]]:
    """Training rows, and held-out rows by name, with columns `prompt` (messages) and `reference`. Raises InputError."""
    train, counts = _prompts(splits.train, config, tokenizer)
    if not len(train):
        raise InputError(
            f"dataset.name: none of {splits.source}'s {counts['rows_read']} rows can be asked; see the log"
        )
    held_out, held_counts = {}, {}
    for name, rows in splits.held_out.items():
        held_out[name], held_counts[name] = _prompts(rows, config, tokenizer)
        if not len(held_out[name]):
            raise InputError(f"dataset: none of the {len(rows)} held-out rows of {name} can be asked; see the log")
    fingerprint = train._fingerprint[:16]
    return Examples(train, {}, splits.source, splits.fingerprint, fingerprint, counts, held_counts), held_out


def _prompts(rows: Dataset, config: PromptsConfig, tokenizer: Any) -> tuple[Dataset, dict[str, int]]:
    counts = {"rows_read": len(rows), "rows": 0, "dropped_bad": 0, "dropped_too_long": 0}
    kept: list[dict[str, Any]] = []
    for row in rows:
        try:
            prompt, reference = asked(dict(row), str(row[PLACE]), config)
        except BadRow as error:
            if config.bad_rows == "refuse":
                raise InputError(f"{error}; dataset.bad_rows: drop leaves such rows out") from None
            counts["dropped_bad"] += 1
            continue
        if config.max_prompt_length is not None:
            ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
            if len(ids) > config.max_prompt_length:
                counts["dropped_too_long"] += 1
                continue
        kept.append({"prompt": prompt, "reference": reference})
    counts["rows"] = len(kept)
    return Dataset.from_list(kept), counts


def asked(row: dict[str, Any], where: str, config: PromptsConfig) -> tuple[list[dict[str, str]], str]:
    """The messages before the answer, and the right answer as a text. Raises BadRow naming what is missing."""
    column = "messages" if row.get("messages") is not None else "prompt"
    given = row.get(column)
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    messages: Sequence[Any] = parse_messages(given, where, MessageOptions(last_turn="keep"), column=column)
    last = messages[-1]["content"] if messages[-1]["role"] == "assistant" else None
    prompt = [{"role": m["role"], "content": m["content"]} for m in (messages[:-1] if last is not None else messages)]
    if not prompt:
        raise BadRow("no prompt", f"{where}: nothing is asked before the answer; give it a question or drop it")
    reference = row.get(config.answer) if config.answer is not None else answer_part(last or "")
    if reference is None or not str(reference).strip():
        key = config.answer or "the last message"
        raise BadRow("no answer", f"{where}: no answer in {key}; name its column as dataset.answer, or drop the row")
    return prompt, str(reference)
