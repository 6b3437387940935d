"""Memory Reinforcement Learning: curriculum PPO that trains a memory by what is still known many turns later.

    uv run mrl/train.py                                  # the quickstart's: builds what is missing, then trains
    uv run mrl/train.py --config-path mrl/config/quickstart/mrl.yaml --set seed=7

The method, a round at a time; `train` in mrl/stages/train.py is this list:

    1. collect     dialogues are played: every interaction is written into memory, every query answered from it, and
                   the policy's own answers are what is written
    2. score       each answer is rewarded for the facts it recalls, as its dialogue's strategy says
    3. value       a critic says what it had expected, from how sure the actor is before the first word of its answer
    4. advantages  rewards against what was expected, chained over turns or compared inside groups
    5. update      minibatches are played again with the gradient through the memory writes, down to the first
    6. validate    held-out dialogues, greedy; dialogues grow and parts unfreeze as the curriculum says

Where it departs from the published method (A. Filipek, Reactive AI: "Memory Reinforcement Learning & RLHF for Reactive
Models"), and why:

    1. A dialogue's first memory follows from its seed, so that a replay starts where the rollout did: before the first
       step every probability ratio is exactly 1.
    2. The gradient flows through `update.bptt_steps` writes (default: all), not through the newest alone: a write is
       credited for what is known many turns later.
    3. The reward is what was recalled (facts as whole words, whatever else is said around them); BLEU and cosine are
       terms beside it. Copying the stored interaction earns nothing, and no answer earns more than the reference.
    4. A turn that no reward speaks of isn't a turn of reward 0: it trains neither policy nor critic.
    5. A fresh critic learns the first round before the policy moves; it would else spend a short run doing so.
    6. Only the dialogues with the largest advantages are learnt from (`ppo.keep_fraction`).
    7. Reference answers can be learnt from the same states beside the rewards (`update.sft_coef`).

Start from a model of mrl/memory_sft.py. The result lies in output_dir/model; samples.jsonl holds dialogues to look at
after each epoch.
"""

from mrl.recipes.reinforcement import MRLStage
from mrl.recipes.stage import default_config
from mrl.stages.start import main
from pipeline.run import stage_main

if __name__ == "__main__":
    stage_main(MRLStage, main, default_config=default_config("mrl"), description=__doc__)
