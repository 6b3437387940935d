"""Files as bytes, unpacked where they are packed; what a decompressor chokes on becomes one line."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from data.sources.files import check_regular
from pipeline.errors import InputError


@contextmanager
def open_bytes(file: Path) -> Iterator[BinaryIO]:
    """The content of a file, unpacked by its ending (.gz, .zst).

    Raises InputError where it can't be read, is cut or damaged, also for errors inside the block.
    """
    check_regular(file, str(file))
    try:
        if file.suffix == ".zst":
            with pa.input_stream(str(file), compression="zstd") as stream:
                yield cast(BinaryIO, stream)
        else:
            with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
                yield cast(BinaryIO, stream)
    except (EOFError, OSError, zlib.error, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"{file}: can't be read ({error.strerror}); correct its rights") from None
        raise InputError(f"{file}: is cut or damaged ({' '.join(str(error).split())[:120]}); get it again") from None


def check_text(data: bytes, file: Path, line: int) -> None:
    """Raises InputError naming the line that isn't UTF-8. `line`: the number of the first line in `data`."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = line + data.count(b"\n", 0, error.start)
        raise InputError(f"{file}:{bad}: isn't UTF-8 (byte 0x{data[error.start]:02x}); convert the file") from None


__all__ = ["check_text", "open_bytes"]
