"""From a file of dialogues to a model that remembers them: checked, split, and through all stages.

    uv run mrl/remember.py --data chats.jsonl --output-dir outputs/own
    uv run mrl/remember.py --data chats.jsonl --held-out other.jsonl --output-dir outputs/own
    uv run mrl/remember.py --data chats.jsonl --model outputs/converted --output-dir outputs/own

docs/own_dialogues.md says what rows look like and what the numbers mean. Sizes are chosen from the data and said in the
log; the recipes stand in OUTPUT_DIR/recipes. Run again, finished stages are skipped and an unfinished one goes on from
its last checkpoint. An edited recipe is used as it is edited: remove the folder of its stage and of those after it.
"""

import argparse
import json
import logging
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from mrl.dialogues.check import check_dialogues, lines_of
from mrl.dialogues.dataset import Conversation, fingerprint, read_conversations
from mrl.dialogues.tokenization import encode_dialogues, load_tokenizer
from mrl.own_dialogues.derived import Derived, derive, untold_to_measure
from mrl.own_dialogues.plan import choose_sizes, explain, vocabulary_size
from mrl.own_dialogues.recipes import TOKENIZER, Rows, Stage, as_yaml, tokenizer_stage, training_stages
from mrl.own_dialogues.rows import Split, asks_back, split_dialogues, write_rows
from mrl.own_dialogues.start import read_start
from mrl.own_dialogues.untold import UNTOLD
from mrl.recipes.data import RowSource
from mrl.recipes.prerequisites import Prerequisite, build_missing
from pipeline.artifact import write_json, write_text
from pipeline.errors import InputError
from pipeline.run import exit_status, setup_logging

logger = logging.getLogger("remember")
RECIPES, PLAN, SOURCE, HELD_OUT, DERIVED = "recipes", "plan.json", "made_from.json", "held_out", "derived.json"
TRAIN = "train.jsonl"
type BadRowsRule = Literal["refuse", "drop"]
UNLIMITED = 1 << 16
"""Turns are measured before there is a limit."""


def read(paths: list[str], bad_rows: BadRowsRule) -> list[Conversation]:
    """All dialogues of the files, checked; what is wrong is said. Raises InputError."""
    found: list[Conversation] = []
    counts: Counter[str] = Counter()
    for path in paths:
        found += read_conversations(RowSource(path=path, bad_rows=bad_rows), counts)
    counts.update(check_dialogues(found))
    logger.info("%s: %s", ", ".join(paths), ", ".join(lines_of(counts)))
    if not any(map(asks_back, found)):
        raise InputError(f"{paths[0]}: no turn asks for anything said before; mark `facts` (docs/own_dialogues.md)")
    return found


def refuse_own_output(options: argparse.Namespace) -> None:
    """Raise InputError where a file that is read would be written over."""
    written = (options.output_dir / "data").resolve()
    for path in [*options.data, *options.held_out]:
        if Path(path).exists() and Path(path).resolve().is_relative_to(written):
            raise InputError(f"--output-dir: {path} would be written over; choose another folder for what is made")


def keep_to_one_data_set(folder: Path, source: dict[str, Any]) -> None:
    """Remember what a folder is made from. Raises InputError where it is something else than now: stages that are
    finished would be taken for stages of these dialogues."""
    path = folder / SOURCE
    before = json.loads(path.read_text("utf-8")) if path.exists() else source
    if differing := [key for key, value in source.items() if before.get(key) != value]:
        raise InputError(
            f"--output-dir: {folder} was made from another --{differing[0]} ({before.get(differing[0])}, now "
            f"{source[differing[0]]}); choose another folder, or remove this one"
        )
    write_json(path, source)


def prepare_rows(options: argparse.Namespace, folder: Path) -> tuple[Split, Derived]:
    """Read, check, split and copy; what training reads stands in folder/data. Returns the dialogues as they were given,
    and what is made of those that are learnt from."""
    given = read(options.data, options.bad_rows)
    apart = {Path(path).stem: read([path], options.bad_rows) for path in options.held_out}
    keep_to_one_data_set(
        folder,
        {
            "data": fingerprint(given),
            "held-out": fingerprint([c for part in apart.values() for c in part]),
            **{name: getattr(options, name) for name in ("seed", "copies", "untold", "model")},
        },
    )
    split = split_dialogues(given, [c for part in apart.values() for c in part], options.seed)
    derived = derive(split.train, options.copies, options.untold, options.seed)
    write_rows(folder / "data" / TRAIN, split.train)
    write_rows(folder / "data" / "validation.jsonl", split.validation)
    measured = apart or {HELD_OUT: split.held_out}
    if derived.untold:
        copies = {
            f"{name}_untold": untold_to_measure(part, split.train, derived.admission, options.seed)
            for name, part in measured.items()
        }
        measured = {name: part for name, part in copies.items() if part} | measured
    for name, part in measured.items():
        write_rows(folder / "data" / HELD_OUT / f"{name}.jsonl", part)
    for name, made in derived.files.items():
        write_rows(folder / "data" / name, made)
    logger.info(
        "%d dialogues to learn from, %d to watch training by, %d to measure on",
        len(split.train), len(split.validation), len(split.held_out),
    )  # fmt: skip
    logger.info("made of those to learn from: %s", ", ".join(lines_of(derived.counts)) or "nothing")
    if derived.untold:
        logger.info("asked for what was never told, copies answer %s", derived.untold)
    if made := [f"{len(copied)} in {name}" for name, copied in measured.items() if name not in (*apart, HELD_OUT)]:
        logger.info("no held-out dialogue asks for that: copies that do are measured on too, %s", ", ".join(made))
    write_json(folder / DERIVED, {"dialogues": len(split.train), **derived.as_dict()})
    return split, derived


def run_stage(stage: Stage, folder: Path) -> None:
    """Run a stage by its recipe, which is written where there is none yet; a finished one is skipped."""
    path = folder / RECIPES / f"{stage.name}.yaml"
    written = as_yaml(stage)
    if not path.exists():
        write_text(path, written)
    elif path.read_text("utf-8") != written:
        logger.info("%s differs from what would be chosen now: it is used as it stands", path)
    made = folder / stage.name
    build_missing([Prerequisite(folder=str(made), script=stage.script, config=str(path))])


def measure(folder: Path, sizes: dict[str, Any]) -> None:
    """Recall on each held-out file after supervision and after reinforcement, and the report."""
    for path in sorted((folder / "data" / HELD_OUT).glob("*.jsonl")):
        for stage in ("memory_sft", "mrl"):
            name = stage if path.stem == HELD_OUT else f"{stage}_{path.stem}"
            out = folder / "retention" / name
            command = [
                sys.executable, "evaluation/retention.py", "--model", str(folder / stage), "--name", name,
                "--data", str(path), "--max-new-tokens", str(sizes["answer_limit"]), "--repeats", "20",
                "--output-dir", str(out),
            ]  # fmt: skip
            if not (out / "retention.json").exists() and subprocess.run(command, check=False).returncode:
                raise InputError(f"retention of {name} failed; its message is above")
    if subprocess.run([sys.executable, "evaluation/report.py", str(folder)], check=False).returncode:
        raise InputError("the report failed; its message is above")


def main(options: argparse.Namespace) -> None:
    """The whole way."""
    folder = options.output_dir
    if options.copies < 1 or not 0 < options.effort < math.inf or not 0 <= options.untold <= 1:
        raise InputError("--copies is a number from 1 on, --effort one above 0, --untold one from 0 to 1")
    start = None if options.model is None else read_start(options.model)
    refuse_own_output(options)
    split, derived = prepare_rows(options, folder)
    if start is None:
        run_stage(tokenizer_stage(folder, [TRAIN, *derived.files], vocabulary_size(split.train), options.seed), folder)
    tokenizer = load_tokenizer(folder / TOKENIZER / "tokenizer" if start is None else start.source)
    data = encode_dialogues([*split.train, *derived.conversations], tokenizer, max_length=UNLIMITED, where="--data")
    sizes = choose_sizes(data, split.validation, start)
    for line in explain(sizes, data, len(tokenizer), start):
        logger.info("%s", line)
    write_json(folder / PLAN, sizes.as_dict())
    rows = Rows([TRAIN, *derived.files], derived.untold)
    for stage in training_stages(folder, rows, sizes, start, options.effort, options.seed):
        run_stage(stage, folder)
    measure(folder, sizes.as_dict())


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, nargs="+", help="dialogues: files or folders")
    parser.add_argument(
        "--held-out", nargs="+", default=[], help="files to measure on, each for itself; default: a tenth of the others"
    )
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument(
        "--model", help="a model with memory to start from, what mrl/convert.py makes for one; default: random weights"
    )
    parser.add_argument("--bad-rows", choices=["refuse", "drop"], default="refuse")
    parser.add_argument("--copies", type=int, default=3, help="copies of each dialogue with other names")
    parser.add_argument(
        "--untold", type=float, default=UNTOLD, metavar="SHARE",
        help="for so many of the dialogues and their copies another one in which a question asks for what was never "
        f"told, and is answered so, 0 to 1 (default: {UNTOLD})",
    )  # fmt: skip
    parser.add_argument("--effort", type=float, default=1.0, help="factor on all training steps")
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    chosen = parse_options()
    setup_logging("INFO")
    with exit_status():
        main(chosen)
    sys.exit(0)
