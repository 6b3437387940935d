"""Rows/s and peak memory of `data/data_collection.py` on a blend of six local parquet sources. One JSON line.

    uv run evaluation/speed/blending.py --rows 60000

The sources (about 2.2 kB of conversation a row, 150 MB for 60,000 rows) are made first, in a process of their own and
not timed. The script is run as a user runs it; `total_s` is the whole process, `startup_s` the same process with
`--help` (the imports), `seconds` the difference: reading, shuffling, writing, fsync. `peak_mb` is the whole process.
The floor: reading the text once and writing it twice (collected sources, then shards).
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from evaluation.command_line import at_least

ROOT = Path(__file__).resolve().parents[2]
SOURCES = 6
WORDS = 30_000


def make_source(path: Path, rows: int, seed: int) -> None:
    """A parquet file of conversations of random length, mean about 2.2 kB."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(WORDS)]
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
            ("score", pa.float64()),
        ]
    )
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, 1000):
            batch = []
            for i in range(start, min(start + 1000, rows)):
                asked, told = (" ".join(rng.choices(words, k=rng.randint(*span))) for span in ((20, 80), (100, 570)))
                messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]
                batch.append({"id": f"{seed}-{i}", "messages": messages, "score": rng.random()})
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))


def prepare(folder: Path, rows: int) -> int:
    """Write the sources and the blend's YAML; returns the bytes of the sources."""
    lines = ["name: benchmark", "seed: 42", "datasets:"]
    for i in range(SOURCES):
        path = folder / f"source_{i}.parquet"
        make_source(path, rows // SOURCES + (i < rows % SOURCES), i)
        lines += [f"  - name: {path}", "    drop_columns: [score]"]
    (folder / "blend.yaml").write_text("\n".join(lines) + "\n")
    return sum(path.stat().st_size for path in folder.glob("*.parquet"))


def measure(folder: Path, rows: int, source_bytes: int) -> dict[str, float | int]:
    """Run the script once."""
    command = [
        sys.executable, str(ROOT / "data" / "data_collection.py"), "--config-path", str(folder / "blend.yaml"),
        "--output-dir", str(folder / "out"),
    ]  # fmt: skip
    started = time.monotonic()
    subprocess.run([*command[:2], "--help"], check=True, capture_output=True)
    startup = time.monotonic() - started
    started = time.monotonic()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    total = time.monotonic() - started
    if status:
        sys.exit((folder / "log").read_text()[-2000:])
    metadata = json.loads((folder / "out" / "dataset_metadata.json").read_text())
    if metadata["total_entries"] != rows:
        sys.exit(f"{metadata['total_entries']} rows came out of {rows}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    seconds = total - startup
    return {
        "rows": rows,
        "seconds": round(seconds, 3),
        "rows_per_s": round(rows / seconds, 1),
        "peak_mb": round(peak, 1),
        "startup_s": round(startup, 3),
        "total_s": round(total, 3),
        "source_mb": round(source_bytes / 1e6, 1),
        "mb_per_s": round(source_bytes / 1e6 / seconds, 1),
    }


def main() -> None:
    """Prepare in a child, so that its memory isn't ours, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=at_least(SOURCES), default=60_000)
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare:
        print(prepare(options.prepare, options.rows))
        return
    with tempfile.TemporaryDirectory() as folder:
        child = [sys.executable, __file__, "--rows", str(options.rows), "--prepare", folder]
        size = int(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
        print(json.dumps(measure(Path(folder), options.rows, size)))


if __name__ == "__main__":
    main()
