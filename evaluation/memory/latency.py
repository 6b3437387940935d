"""Time to the first token and size of the memory, turn 1 to 64: neither may grow with the conversation."""

import random
import statistics
import time
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from evaluation.inference import GREEDY
from mrl.dialogues.dataset import Conversation
from mrl.dialogues.tokenization import build_prompts
from mrl.model import ReactiveForCausalLM

REPORTED_TURNS = (1, 2, 4, 8, 16, 32, 64)
UNCOUNTED_ROUNDS = 2


def wait_for_device(device: torch.device) -> None:
    """Until what an accelerator was told to do is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()


@torch.no_grad()
def measure_latency(
    model: ReactiveForCausalLM, tokenizer: PreTrainedTokenizerBase, conversation: Conversation, repeats: int
) -> dict[str, Any]:
    """Milliseconds to the first token and bytes of the state before turns 1, 2, 4 … 64 of one long conversation.

    The lower quartile of the rounds stands for a turn: what other processes of a busy machine take isn't the model's.
    """
    frame = model.config.frame
    exchange = conversation.exchanges[-1]
    limit = model.config.max_interaction_length
    (prompt,) = build_prompts(tokenizer, frame, [exchange.query or "?"], limit, [exchange.answer])
    ids = torch.tensor([prompt], device=model.device)
    answer = tokenizer(exchange.answer, add_special_tokens=False)["input_ids"]
    interaction = torch.tensor([[*prompt, *frame.answer, *answer, *frame.end]], device=model.device)
    states = [model.initial_state(seeds=[0], device=model.device)]
    for _ in range(REPORTED_TURNS[-1] - 1):
        states.append(model.write(states[-1], interaction))
    times: dict[int, list[float]] = {turn: [] for turn in REPORTED_TURNS}
    rng = random.Random(0)
    for round_number in range(repeats + UNCOUNTED_ROUNDS):
        # In an order of their own each round: in a fixed one the scheduler's time slices fall on the same turns.
        for turn in rng.sample(REPORTED_TURNS, len(REPORTED_TURNS)):
            started = time.perf_counter()
            model.generate_answers(ids, None, states[turn - 1], max_new_tokens=2, sampling=GREEDY)
            wait_for_device(model.device)
            if round_number >= UNCOUNTED_ROUNDS:
                times[turn].append(1e3 * (time.perf_counter() - started))
    quartile = {str(t): statistics.quantiles(taken, n=4, method="inclusive")[0] for t, taken in times.items()}
    size = states[0].slots.nbytes
    return {
        "latency": {"reactive_ms": {turn: round(value, 3) for turn, value in quartile.items()}},
        "state_bytes": {str(turn): size for turn in REPORTED_TURNS},
        "latency_ratio_64_1": round(quartile["64"] / quartile["1"], 4),
    }
