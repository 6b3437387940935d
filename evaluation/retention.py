"""What a reactive model still knows of earlier turns: exact recall by distance, with the controls that could fool it.

    uv run evaluation/retention.py --model outputs/quickstart/memory_sft --data outputs/quickstart/data/episodes/test
    uv run evaluation/retention.py --model PATH --data FILE --json

Every dialogue is written into memory turn by turn (with the answers that the data has or, with --own-answers, those
that the model gives); before each question the answer is generated from the query and the memory alone, greedily or,
with --temperature, by chance. It counts as recalled when all facts that the row names are in it; distance is how many
turns ago the farthest of them was said. The same questions are answered with three controls: the memory reset to a
fresh state (`reset_control`), the memory of another dialogue at the same turn (`foreign_control`), and, with
--baseline, a stateless model of transformers that reads the whole history each time (`full_history_baseline`). Then
time to the first token and size of the state, turn 1 to 64.

With --output-dir: retention.json (what evaluation/report.py reads), recall.png and latency.png.
"""

import argparse
import json
import logging
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from evaluation import plots
from evaluation.inference import GREEDY, answers, states_before
from evaluation.metrics import recalled, token_f1
from mrl.dialogues.dataset import Conversation, Exchange, RowSource, read_conversations
from mrl.dialogues.tokenization import TurnTokens, build_prompt, encode_dialogues
from mrl.model import Sampling
from mrl.rl.rollout import sampling_seed
from mrl.training.model_io import ModelConfig, load_reactive
from pipeline.artifact import write_json
from pipeline.device import best_device
from pipeline.errors import InputError
from pipeline.progress import progress_bar
from pipeline.run import exit_status, setup_logging

logger = logging.getLogger(__name__)
DISTANCES = (1, 2, 4, 8, 16, 32)
TURNS = 64
ENOUGH = 50
FIRST = "memory_sft"
"""The model whose figures go by their plain names in a report."""


@dataclass(frozen=True)
class Question:
    """A turn that takes memory: which dialogue, which turn, what has to be said."""

    dialogue: int
    turn: int
    query: str
    answer: str
    facts: tuple[str, ...]
    distance: int


@dataclass
class Tally:
    """Answers by distance."""

    right: dict[int, list[float]] = field(default_factory=dict)
    f1: dict[int, list[float]] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, question: Question, said: str) -> None:
        """Score one answer."""
        hit = recalled(said, question.facts)
        self.right.setdefault(question.distance, []).append(hit)
        self.f1.setdefault(question.distance, []).append(token_f1(said, question.answer))
        if len(self.samples) < 12:
            asked = {"query": question.query, "answer": said, "wanted": question.answer}
            self.samples.append({**asked, "distance": question.distance, "recalled": bool(hit)})

    @staticmethod
    def _means(values: dict[int, list[float]]) -> dict[str, float]:
        return {str(d): round(statistics.fmean(values[d]), 4) for d in DISTANCES if values.get(d)}

    def figures(self) -> dict[str, dict[str, float]]:
        """Means at the distances that are reported, and over all questions."""
        everything = [hit for hits in self.right.values() for hit in hits]
        mean = {"all": round(statistics.fmean(everything), 4)} if everything else {}
        return {"recall": self._means(self.right) | mean, "token_f1": self._means(self.f1)}

    def sizes(self) -> dict[str, int]:
        """How many questions stand behind each figure."""
        return {str(d): len(self.right[d]) for d in DISTANCES if d in self.right}


def questions_of(conversations: list[Conversation]) -> list[Question]:
    """Every turn that names facts and a distance. Raises InputError where the data has none."""
    found = [
        Question(i, k, e.query or "", e.answer, e.facts, e.distance)
        for i, c in enumerate(conversations)
        for k, e in enumerate(c.exchanges)
        if e.distance > 0 and e.facts
    ]
    if not found:
        raise InputError("--data: no turn has facts and a distance; recall can't be measured on these rows")
    return found


def measure_memory(
    model: Any,
    tokenizer: Any,
    conversations: list[Conversation],
    questions: list[Question],
    seed: int,
    tokens: int,
    own_answers: bool = False,
    temperature: float = 0.0,
) -> dict[str, Tally]:
    """Recall from memory and with both memory controls. A temperature samples all answers, by the seed."""
    sampling = Sampling(temperature=temperature)
    limit = model.config.max_interaction_length
    encoded = encode_dialogues(conversations, tokenizer, max_length=limit, too_long="truncate", where="--data")
    tallies = {"memory": Tally(), "reset_control": Tally(), "foreign_control": Tally()}
    # Dialogues of like length together: another dialogue of the batch has a memory at the same turn.
    order = sorted(range(len(conversations)), key=lambda i: len(conversations[i].exchanges))
    asked: dict[int, list[Question]] = {}
    for question in questions:
        asked.setdefault(question.dialogue, []).append(question)
    size = 32
    for start in progress_bar(range(0, len(order), size), desc="recall", unit="batch"):
        dialogues = order[start : start + size]
        if len(dialogues) == 1:
            dialogues = [*dialogues, order[0]]  # a foreign memory needs a second dialogue
        writer = tokenizer if own_answers else None
        states = states_before(model, encoded, dialogues, seed, writer, tokens, temperature)
        fresh = states[0]
        batch = [(row, q) for row, d in enumerate(dialogues) for q in asked.pop(d, [])]
        for at in range(0, len(batch), 64):
            part = batch[at : at + 64]
            queries = [q.query for _, q in part]
            rows = [row for row, _ in part]
            others = [_foreign(row, q.turn, dialogues, conversations) for row, q in part]
            memories = {
                "memory": torch.stack([states[q.turn][:, row] for row, q in part], dim=1),
                "reset_control": fresh[:, rows],
                "foreign_control": torch.stack([states[turn][:, row] for (row, turn) in others], dim=1),
            }
            seeds = [sampling_seed(seed, q.dialogue, q.turn) for _, q in part] if temperature else None
            for name, memory in memories.items():
                made = answers(model, tokenizer, queries, memory, tokens, sampling, seeds)
                for (_, question), said in zip(part, made, strict=True):
                    tallies[name].add(question, said)
    return tallies


def _foreign(row: int, turn: int, dialogues: list[int], conversations: list[Conversation]) -> tuple[int, int]:
    """The next row with a dialogue of its own, at the same turn or at its last one."""
    other = next(
        (row + step) % len(dialogues)
        for step in range(1, len(dialogues) + 1)
        if dialogues[(row + step) % len(dialogues)] != dialogues[row] or step == len(dialogues)
    )
    return other, min(turn, len(conversations[dialogues[other]].exchanges) - 1)


def load_full_history(path: str) -> tuple[Any, Any]:
    """A stateless model of transformers and its tokenizer, which pads on the left."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from post_training.policy import resolve_model

    source = resolve_model(path)
    tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left")
    return AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).to(best_device()).eval(), tokenizer


def whole_chat(tokenizer: Any, earlier: Iterable[Exchange], query: str) -> str:
    """A question after all that was said before it, as the model's chat template writes it."""
    messages: list[dict[str, str]] = []
    for e in earlier:
        messages += [{"role": "user", "content": e.query or ""}, {"role": "assistant", "content": e.answer}]
    messages.append({"role": "user", "content": query})
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


@torch.no_grad()
def measure_full_history(
    model: Any, tokenizer: Any, conversations: list[Conversation], questions: list[Question], tokens: int
) -> Tally:
    """Recall of a stateless model that gets all earlier turns."""
    tally = Tally()
    by_length = sorted(questions, key=lambda q: q.turn)
    for start in progress_bar(range(0, len(by_length), 64), desc="full history", unit="batch"):
        part = by_length[start : start + 64]
        texts = [whole_chat(tokenizer, conversations[q.dialogue].exchanges[: q.turn], q.query) for q in part]
        batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(model.device)
        made = model.generate(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=tokens,
            do_sample=False, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        for q, said in zip(part, made[:, batch["input_ids"].shape[1] :], strict=True):
            tally.add(q, tokenizer.decode(said, skip_special_tokens=True))
    return tally


@torch.no_grad()
def measure_latency(model: Any, tokenizer: Any, conversation: Conversation, repeats: int) -> dict[str, Any]:
    """Milliseconds to the first token and bytes of the state before turns 1, 2, 4 … 64 of one long conversation.

    The lower quartile of the rounds stands for a turn: what other processes of a busy machine take isn't the model's.
    """
    names = TurnTokens.of(tokenizer, "--model")
    exchange = conversation.exchanges[-1]
    prompt = build_prompt(tokenizer, names, exchange.query or "?", model.config.max_interaction_length)
    ids = torch.tensor([prompt], device=model.device)
    said = tokenizer(exchange.answer, add_special_tokens=False)["input_ids"]
    whole = torch.tensor([[*prompt, names.answer, *said, names.eos]], device=model.device)
    states = [model.initial_state(seeds=[0], device=model.device)]
    for _ in range(TURNS - 1):
        states.append(model.write(states[-1], whole))
    turns = [1 << i for i in range(7)]
    taken: dict[int, list[float]] = {turn: [] for turn in turns}
    order = random.Random(0)
    for round_number in range(repeats + 2):  # two uncounted rounds
        # In an order of their own each round: in a fixed one the scheduler's time slices fall on the same turns.
        for turn in order.sample(turns, len(turns)):
            started = time.perf_counter()
            model.generate_answers(ids, None, states[turn - 1], max_new_tokens=2, sampling=GREEDY)
            if model.device.type == "cuda":
                torch.cuda.synchronize()
            if round_number > 1:
                taken[turn].append(1e3 * (time.perf_counter() - started))
    quick = {str(t): statistics.quantiles(times, n=4, method="inclusive")[0] for t, times in taken.items()}
    size = states[0].numel() * states[0].element_size()
    return {
        "latency": {"reactive_ms": {turn: round(value, 3) for turn, value in quick.items()}},
        "state_bytes": {str(turn): size for turn in turns},
        "latency_ratio_64_1": round(quick["64"] / quick["1"], 4),
    }


def table(figures: dict[str, dict[str, float]]) -> str:
    """Recall in per cent for a terminal."""
    lines = ["distance".ljust(24) + "".join(f"{d:>8}" for d in DISTANCES)]
    for name, by_distance in figures.items():
        cells = [f"{100 * by_distance[str(d)]:.1f}" if str(d) in by_distance else "–" for d in DISTANCES]
        lines.append(name.ljust(24) + "".join(f"{cell:>8}" for cell in cells))
    return "\n".join(lines)


def draw(found: dict[str, Any], folder: Path) -> None:
    """recall.png and latency.png."""
    lines = {name: [(float(d), v) for d, v in by.items() if d.isdigit()] for name, by in found["recall"].items()}
    plots.by_turn(lines, folder / "recall.png", xlabel="turns since it was said", ylabel="exact recall", share=True)
    latency = {name: [(float(t), v) for t, v in by.items()] for name, by in found["latency"].items()}
    plots.by_turn(latency, folder / "latency.png", xlabel="turn", ylabel="first token, ms", share=False)


def read_questions(options: argparse.Namespace) -> tuple[list[Conversation], list[Question]]:
    """The questions that count, and the conversations they are asked in: all questions of the first file; of each
    other one those at reported distances that no file before it had enough of (what shorter dialogues can't have)."""
    conversations: list[Conversation] = []
    chosen: list[Question] = []
    settled: set[int] = set()
    for number, path in enumerate(options.data):
        source = RowSource(path=path, subset=options.subset, split=options.split, limit=options.episodes)
        read = read_conversations(source)
        wanted = set(DISTANCES) - settled
        found = [q for q in questions_of(read) if not number or q.distance in wanted]
        settled |= {distance for distance, n in Counter(q.distance for q in found).items() if n >= ENOUGH}
        # A conversation in which nothing counts isn't played.
        place = {d: len(conversations) + i for i, d in enumerate(dict.fromkeys(q.dialogue for q in found))}
        chosen += [replace(q, dialogue=place[q.dialogue]) for q in found]
        conversations += [read[d] for d in place]
    return conversations, chosen


@torch.no_grad()
def measure_full_latency(model: Any, tokenizer: Any, conversation: Conversation, repeats: int) -> dict[str, Any]:
    """Milliseconds to the first token of a model that reads the whole history, and bytes of its cache, before turns 1,
    2, 4 … 64 (the conversation's turns over and over)."""
    quick, size = {}, {}
    exchanges = conversation.exchanges
    for turn in (1 << i for i in range(7)):
        earlier = (exchanges[k % len(exchanges)] for k in range(turn - 1))
        text = whole_chat(tokenizer, earlier, exchanges[-1].query or "?")
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"].to(model.device)
        times: list[float] = []
        # One uncounted round first; a second's worth of rounds is enough where one takes long.
        while len(times) <= 3 or (len(times) <= repeats and sum(times) < 1e3):
            started = time.perf_counter()
            cache = model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
            if model.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(1e3 * (time.perf_counter() - started))
        quick[str(turn)] = round(statistics.quantiles(times[1:], n=4, method="inclusive")[0], 3)
        kept = [x for layer in cache.layers for x in (layer.keys, layer.values)]
        size[str(turn)] = sum(x.numel() * x.element_size() for x in kept)
    return {"latency": {"full_history_ms": quick}, "full_history_cache_bytes": size}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, as one table of figures."""
    if options.temperature < 0:
        raise InputError(f"--temperature is {options.temperature}; give 0 (greedy) or more")
    model, tokenizer = load_reactive(ModelConfig(path=options.model))
    model.to(best_device()).eval()
    if not model.config.memory_slots:
        raise InputError(f"--model: {options.model} has no memory (memory_slots 0)")
    conversations, questions = read_questions(options)
    tallies = measure_memory(
        model, tokenizer, conversations, questions, options.seed, options.max_new_tokens, options.own_answers,
        options.temperature,
    )  # fmt: skip
    # Controls of a second model stand beside those of the first in a report.
    prefix = "" if options.name == FIRST else f"{options.name}_"
    tallies = {options.name if name == "memory" else prefix + name: tally for name, tally in tallies.items()}
    facts: dict[str, Any] = {"parameters": sum(p.numel() for p in model.parameters())}
    if options.baseline:
        baseline = load_full_history(options.baseline)
        tallies["full_history_baseline"] = measure_full_history(
            *baseline, conversations, questions, options.max_new_tokens
        )
        facts["baseline_parameters"] = sum(p.numel() for p in baseline[0].parameters())
    longest = max(conversations, key=lambda c: len(c.exchanges))
    times = measure_latency(model, tokenizer, longest, max(2, options.repeats))
    if options.baseline:
        own = measure_full_latency(*baseline, longest, max(2, min(20, options.repeats)))
        times["latency"] |= own.pop("latency")
        times |= own
    return {
        "recall": {name: tally.figures()["recall"] for name, tally in tallies.items()},
        "token_f1": {name: tally.figures()["token_f1"] for name, tally in tallies.items()},
        "questions": tallies[options.name].sizes(),
        **times,
        **facts,
        "retention_samples": tallies[options.name].samples,
        "retention_settings": {
            "model": options.model,
            "data": options.data,
            "episodes": len(conversations),
            "temperature": options.temperature,
        },
    }


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
    parser.add_argument("--episodes", type=int, help="at most so many")
    parser.add_argument("--baseline", help="a model of transformers that reads the whole history, for comparison")
    parser.add_argument("--name", default=FIRST, help="what the model's recall is called in the report")
    parser.add_argument("--own-answers", action="store_true", help="write the model's answers, not those of the data")
    parser.add_argument("--temperature", type=float, default=0.0, help="sample the model's answers; 0 = greedy")
    parser.add_argument("--max-new-tokens", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=150, help="timed rounds")
    parser.add_argument("--seed", type=int, default=0, help="of the initial states")
    parser.add_argument("--output-dir", type=Path)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser.parse_args(arguments)


def main(options: argparse.Namespace) -> None:
    """Measure, write, print."""
    found = measure(options)
    if options.output_dir:
        write_json(options.output_dir / "retention.json", found)
        draw(found, options.output_dir)
    if options.json:
        print(json.dumps(found))
    else:
        print("Exact recall, per cent\n" + table(found["recall"]))
        print(f"first token at turn 64 / turn 1: {found['latency_ratio_64_1']}")


if __name__ == "__main__":
    chosen = parse_options()
    setup_logging("WARNING" if chosen.json else "INFO")
    with exit_status():
        main(chosen)
    sys.exit(0)
