"""Conversations of any shape as a checked column `messages`."""

import numpy as np
import pyarrow as pa

from data.sources.arrow_types import is_json, is_list, to_rows
from data.sources.batches import Batch
from data.sources.json_exact import rows_to_batch
from data.sources.messages import BadRows, MessageOptions, conversation_of
from pipeline.errors import InputError

COLUMNS = ("conversations", "messages")


def to_messages(batch: Batch, options: MessageOptions, bad: BadRows) -> pa.RecordBatch:
    """The batch with the column `messages` parsed, where the conversation stood; rows that `bad` drops are left out.

    Raises InputError with `file:row`.
    """
    places = batch.places()
    rows = to_rows(batch.records.select([n for n in batch.records.schema.names if n in COLUMNS]))
    parsed = [
        bad.attempt(lambda row=row, place=place: conversation_of(row, place, options))
        for row, place in zip(rows, places, strict=True)
    ]
    kept = [i for i, messages in enumerate(parsed) if messages is not None]
    if not kept:
        return batch.records.slice(0, 0)
    made = rows_to_batch([{"messages": parsed[i]} for i in kept], [places[i] for i in kept]).column("messages")
    others = batch.take(np.array(kept)).records
    columns = {name: others.column(name) for name in others.schema.names}
    replaced = next(name for name in COLUMNS if name in columns)
    return pa.RecordBatch.from_pydict(
        {
            "messages" if name == replaced else name: made if name == replaced else column
            for name, column in columns.items()
            if name == replaced or name not in COLUMNS
        }
    )


def check_messages(batch: Batch) -> None:
    """Raises InputError where a column `messages` can't be conversations: by its type, the rows aren't looked at."""
    if "messages" not in batch.records.schema.names or not len(batch):
        return
    kind = batch.records.schema.field("messages").type
    item = kind.value_type if is_list(kind) else None
    fields = {f.name for f in item} if item is not None and pa.types.is_struct(item) else set()
    if {"role", "content"} <= fields or is_json(kind) or pa.types.is_null(kind) or (item is not None and is_json(item)):
        return
    shape = f"objects with {', '.join(sorted(fields))}" if fields else str(kind)
    sharegpt = {"from", "value"} <= fields
    remedy = "set conversations: sharegpt" if sharegpt else "convert it, or give the column another name"
    raise InputError(f"{batch.place(0)}: messages are {shape} and not of role and content; {remedy}")


__all__ = ["check_messages", "to_messages"]
