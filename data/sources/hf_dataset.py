"""Local rows as a `datasets.Dataset`: read by our reader, kept on disk under a hash of what was read.

`datasets.load_dataset` guesses types from the first megabytes, takes long integers for floats and knows its cache by
paths and times. Here the types are those of all rows, and a changed file is another cache entry.
"""

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.table import MemoryMappedTable

from data.sources.arrow_types import is_json, is_list
from data.sources.reading import Selection, read_table
from pipeline.errors import InputError


@dataclass(repr=False)
class ExactJson(datasets.Json):
    """`Json` that gives numbers back to the last digit (the library's own decoder rounds floats)."""

    def decode_example(self, example_data: str | None, token_per_repo_id: Any = None) -> Any:
        """The value that the text stands for."""
        return None if example_data is None else json.loads(example_data)


def load_local(selection: Selection, place_column: str | None = None) -> datasets.Dataset:
    """The selected rows, memory-mapped. Its fingerprint is of the bytes that were read.

    place_column: name of a column to add that holds `file:row`. Raises InputError.
    """
    key = hashlib.sha256(f"{selection.fingerprint()}{place_column}{_reader_code()}".encode()).hexdigest()[:32]
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "trlm"
    path = folder / f"{key}.arrow"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write(read_table(selection, place_column), path)
    table = MemoryMappedTable.from_file(str(path))
    try:
        features = datasets.Features({f.name: _feature(f.type) for f in table.schema})
    except ValueError as error:
        raise InputError(f"{selection.query.at()}: {selection.query.path}: {error}; drop the column") from None
    return datasets.Dataset(table, info=datasets.DatasetInfo(features=features), fingerprint=key)


def _feature(kind: pa.DataType) -> Any:
    if is_json(kind):
        return ExactJson()
    if is_list(kind):
        return datasets.List(_feature(kind.value_type))
    if pa.types.is_struct(kind):
        return {f.name: _feature(f.type) for f in kind}
    return datasets.features.features.generate_from_arrow_type(kind)


def _write(table: pa.Table, path: Path) -> None:
    """So that another process sees the whole file or none."""
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    os.close(handle)
    try:
        with pa.OSFile(name, "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=1000)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _reader_code() -> str:
    """Changes with the modules that read, so that their older results aren't used."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


__all__ = ["ExactJson", "load_local"]
