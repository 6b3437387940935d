"""What a reactive model still knows of earlier turns: exact recall by distance, with the controls that could fool it.

    uv run evaluation/retention.py --model outputs/quickstart/memory_sft --data outputs/quickstart/data/episodes/test
    uv run evaluation/retention.py --model PATH --data FILE --json

Every dialogue is written into memory turn by turn (with the answers that the data has or, with --own-answers, those
that the model gives); before each question the answer is generated from the query and the memory alone, greedily or,
with --temperature, by chance; after a thought
with --think. It counts as recalled when all facts that the row names are in it; distance is how many
turns ago the farthest of them was said. The same questions are answered with three controls: the memory reset to a
fresh state (`reset_control`), the memory of another dialogue at the same turn (`foreign_control`), and, with
--baseline, a stateless model of transformers that reads the whole history each time (`full_history_baseline`). Then
time to the first token and size of the state, turn 1 to 64. --controls N asks the controls in N dialogues only, evenly
spread.

Intervals hold 95 per cent and are drawn over dialogues. With --by COLUMN (default: kind) recall is given for each
value of a column of turns or rows. Questions about what wasn't told, to which the right answer says so, count for
`abstention` and for no recall. With --output-dir: retention.json (what evaluation/report.py reads), answers.jsonl
(every question with all answers to it), recall.png and latency.png.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.command_line import add_thinking, at_least, temperature
from evaluation.memory.questions import DISTANCES, ENOUGH, Tally, read_questions
from mrl.dialogues.facts import share_said
from mrl.recipes.data import KIND, RowSource
from mrl.recipes.model import ModelConfig
from pipeline.artifact import write_json, write_text
from pipeline.errors import InputError
from pipeline.provenance import process_seconds
from pipeline.run import exit_status, setup_logging

FIRST = "memory_sft"
"""The model whose figures go by their plain names in a report."""


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """retention.json: recall with its controls, latency, sizes, samples."""
    start = ModelConfig(path=options.model)
    start.refuse_missing()
    from evaluation.inference import Thinking
    from evaluation.memory.full_history import load_full_history, measure_full_history, measure_full_latency
    from evaluation.memory.latency import measure_latency
    from evaluation.memory.recall import Answering, measure_memory
    from mrl.training.model_io import load_reactive
    from pipeline.device import best_device

    start_s = round(process_seconds(), 2)
    model, tokenizer = load_reactive(start)
    model.to(best_device()).eval()
    if not model.config.memory_slots:
        raise InputError(f"--model: {options.model} has no memory (memory_slots 0)")
    conversations, questions = read_questions(
        [RowSource(path=p, subset=options.subset, split=options.split, limit=options.episodes, kind_column=options.by)
         for p in options.data]
    )  # fmt: skip
    if options.by != KIND and not any(question.kind for question in questions):
        raise InputError(f"--by: no row of {', '.join(options.data)} has a column {options.by}")
    thinking = Thinking(options.think, options.max_think_tokens)
    answering = Answering(
        options.max_new_tokens, options.seed, options.own_answers, options.temperature, thinking, options.controls
    )
    tallies = measure_memory(model, tokenizer, conversations, questions, answering)
    # Controls of a second model stand beside those of the first in a report.
    prefix = "" if options.name == FIRST else f"{options.name}_"
    tallies = {options.name if name == "memory" else prefix + name: tally for name, tally in tallies.items()}
    sizes = {"parameters": sum(p.numel() for p in model.parameters())}
    longest = max(conversations, key=lambda c: len(c.exchanges))
    latency = measure_latency(model, tokenizer, longest, options.repeats)
    if options.baseline:
        baseline = load_full_history(options.baseline)
        asked = [q for q in questions if answering.controlled(q.dialogue, len(conversations))]
        tallies["full_history_baseline"] = measure_full_history(*baseline, conversations, asked, options.max_new_tokens)
        sizes["baseline_parameters"] = sum(p.numel() for p in baseline[0].parameters())
        whole = measure_full_latency(*baseline, longest, min(20, options.repeats))
        latency["latency"] |= whole.pop("latency")
        latency |= whole
    abstention = tallies[options.name].abstention()
    return {
        "recall": {name: tally.figures()["recall"] for name, tally in tallies.items()},
        "token_f1": {name: tally.figures()["token_f1"] for name, tally in tallies.items()},
        "all": {name: tally.overall() for name, tally in tallies.items()},
        "intervals": {name: tally.intervals() for name, tally in tallies.items()},
        "by_kind": {name: tally.by_kind() for name, tally in tallies.items()},
        "abstention": abstention,
        # Beside those of other models in a report, which keeps the last `abstention` that it reads.
        "abstention_by_model": {options.name: abstention} if abstention else {},
        "unfinished": {name: tally.unfinished for name, tally in tallies.items()},
        "thoughts": {name: tally.thoughts() for name, tally in tallies.items()},
        "questions": tallies[options.name].sizes(),
        "answers_file": write_answers(options, tallies),
        **latency,
        **sizes,
        "retention_samples": tallies[options.name].samples,
        "retention_settings": {
            "model": options.model,
            "data": options.data,
            "episodes": len(conversations),
            "temperature": options.temperature,
            "think": options.think,
            "own_answers": options.own_answers,
        },
        "start_s": start_s,
    }


def write_answers(options: argparse.Namespace, tallies: Mapping[str, Tally]) -> str | None:
    """Every question with all answers to it, a line each, in output_dir/answers.jsonl; the path of it."""
    if options.output_dir is None:
        return None
    lines: dict[tuple[int, int], dict[str, Any]] = {}
    for name, tally in tallies.items():
        for question, answer, finished, hit, _, thought, _ in (*tally.answers, *tally.untold):
            asked = {
                "where": question.where, "turn": question.turn, "distance": question.distance, "kind": question.kind,
                "query": question.query, "wanted": question.answer, "facts": question.facts,
            }  # fmt: skip
            line = lines.setdefault((question.dialogue, question.turn), asked)
            said = round(share_said(answer, question.facts), 4)
            line[name] = {"answer": answer, "recalled": hit, "said": said, "finished": finished}
            if thought:
                line[name]["thought"] = thought
    path = options.output_dir / "answers.jsonl"
    ordered = (lines[place] for place in sorted(lines))
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in ordered))
    return str(path)


def table(recall: Mapping[str, Mapping[str, float]]) -> str:
    """Recall in per cent for a terminal."""
    lines = ["distance".ljust(24) + "".join(f"{d:>8}" for d in DISTANCES)]
    for name, by_distance in recall.items():
        cells = [f"{100 * by_distance[str(d)]:.1f}" if str(d) in by_distance else "–" for d in DISTANCES]
        lines.append(name.ljust(24) + "".join(f"{cell:>8}" for cell in cells))
    return "\n".join(lines)


def lines_of(figures: Mapping[str, Any]) -> list[str]:
    """All questions, each kind and what was cut, a line each."""
    lines = []
    for name, whole in figures["all"].items():
        low, high = whole["interval"]
        cut = f", {figures['unfinished'][name]} cut at the limit" if figures["unfinished"][name] else ""
        lines.append(
            f"{name}: all {100 * whole['recall']:.1f} [{100 * low:.1f}, {100 * high:.1f}] of {whole['n']}{cut}"
        )
        if (thoughts := figures["thoughts"][name])["share"]:
            lines.append(
                f"  thought before {100 * thoughts['share']:.1f} % of the answers, {thoughts['tokens']} tokens each, "
                f"{thoughts['unfinished']} thoughts unfinished"
            )
        kinds = figures["by_kind"][name].items()
        lines += [f"  {kind}: {100 * part['recall']:.1f} of {part['n']}" for kind, part in kinds]
    return lines


def draw(figures: Mapping[str, Any], folder: Path) -> None:
    """recall.png and latency.png."""
    from evaluation import plots

    recall, latency = plots.curves(figures["recall"]), plots.curves(figures["latency"])
    plots.by_turn(
        recall, folder / "recall.png", xlabel="turns since it was said", ylabel="exact recall", share=True,
        spans=plots.spans(figures["intervals"]),
    )  # fmt: skip
    plots.by_turn(latency, folder / "latency.png", xlabel="turn", ylabel="first token, ms", share=False)


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="output_dir of a stage, a folder with weights, or a Hub name")
    parser.add_argument(
        "--data", required=True, nargs="+",
        help="held-out episodes: files, folders or Hub names; of several, each distance is measured on the first that "
        f"has {ENOUGH} questions at it",
    )  # fmt: skip
    parser.add_argument("--subset")
    parser.add_argument("--split")
    parser.add_argument("--by", default=KIND, metavar="COLUMN", help="column of turns or rows: recall by its values")
    parser.add_argument("--episodes", type=at_least(1), help="at most so many")
    parser.add_argument(
        "--controls", type=at_least(1), metavar="DIALOGUES", help="answer with the controls in so many dialogues only"
    )
    parser.add_argument("--baseline", help="a model of transformers that reads the whole history, for comparison")
    parser.add_argument("--name", default=FIRST, help="what the model's recall is called in the report")
    parser.add_argument("--own-answers", action="store_true", help="write the model's answers, not those of the data")
    parser.add_argument("--temperature", type=temperature, default=0.0, help="sample the model's answers; 0 = greedy")
    parser.add_argument("--max-new-tokens", type=at_least(1), default=16)
    add_thinking(parser)
    parser.add_argument("--repeats", type=at_least(2), default=150, help="timed rounds")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of the initial states")
    parser.add_argument("--output-dir", type=Path)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser.parse_args(arguments)


def main(options: argparse.Namespace) -> None:
    """Measure, write, print."""
    figures = measure(options)
    if options.output_dir:
        write_json(options.output_dir / "retention.json", figures)
        draw(figures, options.output_dir)
    if options.json:
        print(json.dumps(figures))
    else:
        print("Exact recall, per cent\n" + table(figures["recall"]))
        print("\n".join(lines_of(figures)))
        print(f"first token at turn 64 / turn 1: {figures['latency_ratio_64_1']}")


if __name__ == "__main__":
    chosen = parse_options()
    setup_logging("WARNING" if chosen.json else "INFO")
    with exit_status():
        main(chosen)
    sys.exit(0)
