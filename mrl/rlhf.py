"""RLHF with a memory: answers learn to be what a reward model, or a rule, prefers; and to recall beside it.

    uv run mrl/rlhf.py --config-path mrl/config/quickstart/rlhf.yaml
    uv run mrl/rlhf.py --config-path mrl/config/quickstart/combined.yaml     # memory and quality in one run

The loop is that of mrl/train.py (mrl/stages/train.py), the recipe another: quality is a term of the reward.

    rewards:
      models: {quality: outputs/quickstart/tour/preferences/reward_model}    # or a sequence classifier of transformers
      weights: {facts: 1.0, quality: 1.0}        # a reward for memory, one for how it is said
      match_scales: true                         # both count in deviations from their running means
      ramps: {quality: [0.1, 0.3]}               # memory first, quality later
      watched: [polite, brief, abstention]       # second scorers, which teach nothing

Other terms of quality: polite, brief, format, thought, abstention (mrl/rl/rewards/verifiers.py), and functions of one's
own (`custom`). What tells an over-optimised policy: `reference_kl` (nats a token from the start, paid for with
`ppo.kl_coef`), `answer_length`, and the watched terms.
"""

from mrl.recipes.reinforcement import MRLStage
from mrl.recipes.stage import default_config
from mrl.stages.start import main
from pipeline.run import stage_main

if __name__ == "__main__":
    stage_main(MRLStage, main, default_config=default_config("rlhf"), description=__doc__)
