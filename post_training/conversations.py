"""Examples of supervised fine-tuning: conversations, prompts with completions, plain texts."""

from collections.abc import Mapping
from typing import Any, Literal

from trl import SFTConfig

from data.sources.messages import BadRow
from pipeline.errors import InputError
from post_training.chat import IGNORED, ChatEncoder, Encoded
from post_training.curriculum import ROW_DIFFICULTY, row_difficulty, with_difficulty, with_row_difficulty
from post_training.dataset import PLACE, Splits
from post_training.examples import KEPT, Example, Examples, Limit, build_examples, parse_rows
from post_training.recipes.dataset import ConversationsConfig
from post_training.rows import Conversation, conversation_row

_BESIDE = ("system", "tools", "chat_template_kwargs")
Shape = Literal["messages", "completion", "text"]


def encode_conversations(
    splits: Splits, encoder: ChatEncoder, config: ConversationsConfig, args: SFTConfig
) -> Examples:
    """Examples with columns `input_ids`, `labels`, `length`. Raises InputError for options that don't fit the rows.

    With a curriculum training examples have a column `difficulty` as well.
    Prompts of prompt/completion rows are context only, unless trainer.completion_only_loss is false.
    """
    shape = shape_of(splits, config, args.dataset_text_field)
    _require_fitting(shape, config, args, splits.source)
    if args.assistant_only_loss:
        encoder.require_markers()
    splits = with_row_difficulty(splits, config.curriculum)

    def parse(row: Mapping[str, Any], place: str) -> tuple[Any, float | None]:
        return _parse(row, place, shape, config, args), row_difficulty(row, place)

    def make(batch: Mapping[str, list[Any]], limit: Limit) -> list[Example]:
        rows = parse_rows(batch, parse, config)
        good = [row[0] for row in rows if row is not None]
        of_text = shape == "text"
        encoded = iter(encoder.encode_text(good) if of_text else encoder.encode(good, args.assistant_only_loss))
        return [
            Example("dropped_bad")
            if row is None
            else with_difficulty(example(next(encoded), limit, place), config.curriculum, row[1])
            for row, place in zip(rows, batch[PLACE], strict=True)
        ]

    columns = {
        "messages": ["messages", "conversations"],
        "completion": ["prompt", "completion"],
        "text": [args.dataset_text_field],
    }
    return build_examples(
        splits,
        make,
        columns=[*columns[shape], *(_BESIDE if shape != "text" else ()), ROW_DIFFICULTY],
        tokenizer=encoder.tokenizer,
        limit=_limit(config, args, packed=args.packing),
        held_out_limit=_limit(config, args, packed=args.packing if args.eval_packing is None else args.eval_packing),
        options=[shape, vars(config), args.assistant_only_loss, args.completion_only_loss],
        workers=args.dataset_num_proc,
    )


def shape_of(splits: Splits, config: ConversationsConfig, text_column: str) -> Shape:
    """Which kind of rows there are. Raises InputError where there is none of the known columns."""
    names = splits.train.column_names
    if text_column != "text" and text_column in names:  # somebody has named it, so it isn't passed over for messages
        return "text"
    if "messages" in names or ("conversations" in names and config.conversations == "sharegpt"):
        return "messages"
    if {"prompt", "completion"} <= set(names):
        return "completion"
    if text_column in names:
        return "text"
    sharegpt = "; is it ShareGPT? set dataset.conversations: sharegpt" if "conversations" in names else ""
    raise InputError(
        f"dataset.name: {splits.source} has no column messages, no prompt and completion, and no {text_column} (it has "
        f"{', '.join(name for name in names if name != PLACE)}); rename it with rename_columns in the blend{sharegpt}"
    )


def _require_fitting(shape: Shape, config: ConversationsConfig, args: SFTConfig, source: str) -> None:
    if args.completion_only_loss and shape != "completion":
        raise InputError(
            f"trainer.completion_only_loss: {source} has no columns prompt and completion; for messages write "
            "trainer.assistant_only_loss: true, or dataset.trained_turns: last"
        )
    if shape != "text":
        return
    for key, given in (
        ("trainer.assistant_only_loss", args.assistant_only_loss),
        ("dataset.trained_turns", config.trained_turns == "last"),
    ):
        if given:
            raise InputError(f"{key}: {source} is plain text, which has no turns; take it out")


def _parse(row: Mapping[str, Any], place: str, shape: Shape, config: ConversationsConfig, args: SFTConfig) -> Any:
    """A Conversation, or the text of a row of plain text."""
    if shape == "text":
        text = row[args.dataset_text_field]
        if not isinstance(text, str) or not text.strip():
            raise BadRow(
                "text", f"{place}: {args.dataset_text_field} is {'empty' if isinstance(text, str) else 'no text'}"
            )
        return text
    parsed: Conversation = conversation_row(
        row,
        place,
        config.message_options(),
        last_turn=config.trained_turns == "last",
        drop_old_thoughts=config.history_thoughts == "drop",
    )
    if shape == "completion" and args.completion_only_loss is False and config.trained_turns == "all":
        return Conversation(parsed.messages, 0, parsed.tools, parsed.template_kwargs)
    return parsed


def example(encoded: Encoded, limit: Limit, where: str) -> Example:
    """The outcome of one encoded row: cut, then asked whether a token is left to train."""
    length = len(encoded.ids)
    if not limit.admits(length, where):
        return Example("dropped_too_long")
    ids, labels = encoded.ids[: limit.end], encoded.labels[: limit.end]
    trained = [n for n in range(1, len(labels)) if labels[n] != IGNORED]  # the first token is predicted from nothing
    if not trained:
        return Example("dropped_nothing_to_train")
    answers = sum(encoded.answer[n] for n in trained) if encoded.answer is not None else -1
    return Example(
        KEPT,
        {"input_ids": ids, "labels": labels},
        length=len(ids),
        cut=limit.tokens is not None and length > limit.tokens,
        prompt_tokens=len(trained) - max(answers, 0),
        answer_tokens=answers,
    )


def _limit(config: ConversationsConfig, args: SFTConfig, *, packed: bool) -> Limit:
    return Limit(args.max_length, config.over_length, packed and args.packing_strategy in ("bfd_split", "wrapped"))


__all__ = ["encode_conversations", "example"]
