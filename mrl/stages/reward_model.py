"""A reward model from pairs: what mrl/reward_model.py does."""

from collections.abc import Callable, Mapping
from functools import partial

from mrl.losses.output import LossOutput
from mrl.preferences.accuracy import share_interval
from mrl.preferences.pairs import PairBatch
from mrl.preferences.reward_loss import reward_counts, reward_loss
from mrl.preferences.reward_model import RewardModel
from mrl.preferences.scoring import batches
from mrl.recipes.preference import RewardModelStage
from mrl.stages.pairs import learn_from_pairs, read_pairs
from mrl.training.export import finish
from mrl.training.loop import Training, mean
from mrl.training.model_io import load_reactive
from pipeline.run import Run


def means(sums: Mapping[str, float]) -> dict[str, float]:
    """TRL's figures, a mean over pairs each."""
    return {name: mean(sums, name, "pairs_n") for name in ("accuracy", "margin", "mean_reward")}


def run_stage(stage: RewardModelStage, run: Run) -> None:
    """Train, evaluate, save."""
    start, tokenizer = load_reactive(stage.model, needs_memory=True, needs_encoder=True)
    corpus = read_pairs(stage, tokenizer, start.config.max_interaction_length, run)
    run.report(context=stage.reward.context)
    model = RewardModel.of(start, stage.reward.context, stage.reward.context_turns)

    def loss_of(batch: PairBatch) -> Callable[[PairBatch], LossOutput]:
        return partial(reward_loss, model, counts=reward_counts(batch), center=stage.reward.center_rewards_coefficient)

    parts = {"sampler": corpus.sampler}
    with Training(
        stage.trainer, stage.optimizer, model.scorer, tokenizer, run, parts, corpus.fingerprint
    ) as training:  # fmt: skip
        model.to(training.device)
        start.eval()

        def evaluate(dialogues: int | None) -> dict[str, float]:
            held_out = corpus.held_out
            sums = training.sums((held_out.batch(index) for index in batches(held_out, dialogues)), loss_of)
            return means(sums) | {"loss": mean(sums, "reward_loss", "pairs_n")}

        metrics = learn_from_pairs(training, corpus, loss_of, means, evaluate, stage.held_out_dialogues)
        run.report(held_out_accuracy=metrics["accuracy"],
                   held_out_accuracy_interval=share_interval(metrics["accuracy"], corpus.held_out.pairs))  # fmt: skip
        finish(training, stage, metrics, save=lambda folder: model.save(folder, tokenizer))
