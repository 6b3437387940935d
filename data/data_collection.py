"""Build one blend: sources in, a shuffled dataset folder out, and on request up to the Hub.

    uv run data/data_collection.py --config-path data/config/stage_1.yaml --output-dir data/artefacts/stage_1
    uv run data/data_collection.py --config-path data/config/stage_1.yaml --upload-to-hub

Everything that can be refused is refused before any row is read: one line, exit status 2. A build that was killed is
taken up by the same command; one that is complete is not built again. Without --config-path it builds the quickstart's
first stage, which needs no network.
"""

import argparse
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dotenv import find_dotenv, load_dotenv

from data.blending.blend import BlendConfig, build, build_key, relabel
from data.blending.build_dir import AlreadyBuiltError, check_output
from data.blending.check_sources import check_sources
from pipeline.artifact import MANIFEST, read_manifest, verify
from pipeline.config import config_hash, load_config, locate
from pipeline.errors import InputError, shown
from pipeline.hub import check_push, push_folder
from pipeline.provenance import peak_memory_mb
from pipeline.run import exit_status, setup_logging

logger = logging.getLogger("data_collection")
CONFIGS = Path(__file__).parent / "config"
DEFAULT_CONFIG = CONFIGS / "quickstart" / "stage_1.yaml"


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-path", type=Path, default=DEFAULT_CONFIG, help="the blend's YAML")
    parser.add_argument("--output-dir", type=Path, help="default: data/artefacts/<name of the configuration>")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one key, dotted")
    parser.add_argument("--upload-to-hub", action="store_true", help="push data and card to the YAML's name")
    parser.add_argument("--batch-size", type=int, default=1000, help="rows worked on at a time")
    parser.add_argument(
        "--disable-parquet-optimization", action="store_true", help="write JSON lines whatever the number of rows"
    )
    parser.add_argument("--memory-monitor", action="store_true", help="log the memory of the process every 10 seconds")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    return parser.parse_args(arguments)


def default_output(config_path: Path) -> Path:
    """`data/artefacts/` and the configuration's place below data/config (or its bare name)."""
    path = config_path.resolve().with_suffix("")
    name = path.relative_to(CONFIGS.resolve()) if path.is_relative_to(CONFIGS.resolve()) else Path(path.name)
    return Path("data") / "artefacts" / name


def main(options: argparse.Namespace) -> None:
    """Check everything, build unless it is there already, push when asked."""
    if options.batch_size < 1:
        raise InputError(f"--batch-size {options.batch_size}: give at least 1")
    config = load_config(BlendConfig, options.config_path, options.set)
    output = options.output_dir or default_output(options.config_path)
    parquet = not options.disable_parquet_optimization
    if read_manifest(output) is None:
        check_output(output)
    if options.upload_to_hub:
        check_upload(config)
    places = [(f"{locate(config, place)}: {place}", source) for place, source in config.placed_sources()]
    sources = check_sources(places, config.seed)
    try:
        report(build(config, sources, output, batch_size=options.batch_size, parquet=parquet), output)
    except AlreadyBuiltError:
        check_finished(output, config, build_key(config, sources, parquet))
    if options.upload_to_hub:
        address = push_folder(
            output,
            config.name,
            repo_type="dataset",
            private=config.private,
            message=f"Blend {config_hash(config)} of {len(sources)} sources",
            ignore_patterns=[MANIFEST, ".build/*"],
            # shards of an earlier push with another number of files would be read as well
            delete_patterns=["*.parquet", "*.jsonl"],
        )
        logger.info("pushed to %s", address)


def check_finished(output: Path, config: BlendConfig, key: str) -> None:
    """Refuse a finished output that holds something else, or not what was written; else bring its labels up to date."""
    if (read_manifest(output) or {}).get("build_key") != key:
        raise InputError(f"--output-dir: {output} was built from other data or settings; remove it or choose another")
    verify(output)
    relabel(output, config, key)
    logger.info("%s is complete, built from the same sources and settings; nothing to do", output)


def check_upload(config: BlendConfig) -> None:
    """Refuse a push that can't succeed before the work is done."""
    key = f"{locate(config, 'name')}: name"
    if "/" not in config.name:
        raise InputError(f"{key}: {shown(config.name)} has no owner; write owner/name to push it to the Hub")
    check_push(config.name, repo_type="dataset", key=key)


def report(metadata: dict[str, Any], output: Path) -> None:
    """What was made, for the person at the terminal."""
    logger.info("%s: %d rows in %s", metadata["name"], metadata["total_entries"], output)
    for source in metadata["dataset_sources"]:
        logger.info(
            "  %-60s %8d rows %6.2f%%", source["label"], source["actual_entries"], source["percentage_of_total"]
        )
    if metadata["left_out"]:
        logger.info("left out: %s", ", ".join(f"{count} {reason}" for reason, count in metadata["left_out"].items()))
    for warning in metadata["warnings"]:
        logger.warning("fewer rows than asked for: %s", warning)


def monitor_memory(every_s: float = 10.0) -> None:
    """Log the memory of this process from a thread until it ends."""
    import psutil

    process = psutil.Process()

    def watch() -> None:
        while True:
            logger.info("memory: %.0f MB now, %.0f MB at most", process.memory_info().rss / 1e6, peak_memory_mb())
            time.sleep(every_s)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    chosen = parse_options()
    load_dotenv(find_dotenv(usecwd=True))
    setup_logging(chosen.log_level)
    if chosen.memory_monitor:
        monitor_memory()
    with exit_status():
        main(chosen)
    if chosen.memory_monitor:
        logger.info("memory: %.0f MB at most", peak_memory_mb())
