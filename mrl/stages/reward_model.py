"""A reward model from pairs: what mrl/reward_model.py does."""

from collections.abc import Callable, Mapping
from functools import partial

from mrl.dialogues.corpus import load_corpus
from mrl.dialogues.sampler import BucketBatchSampler
from mrl.losses.output import LossOutput
from mrl.preferences.accuracy import share_interval
from mrl.preferences.pairs import PairBatch, encode_pairs
from mrl.preferences.reward_loss import reward_counts, reward_loss
from mrl.preferences.reward_model import RewardModel
from mrl.preferences.scoring import batches
from mrl.recipes.preference import RewardModelStage
from mrl.training.export import finish
from mrl.training.loop import Training, mean
from mrl.training.model_io import load_reactive
from pipeline.run import Run


def means(sums: Mapping[str, float]) -> dict[str, float]:
    """TRL's figures, a mean over pairs each."""
    return {name: mean(sums, name, "pairs_n") for name in ("accuracy", "margin", "mean_reward")}


def run_stage(stage: RewardModelStage, run: Run) -> None:
    """Train, evaluate, save."""
    start, tokenizer = load_reactive(stage.model, needs_memory=True)
    limit = start.config.max_interaction_length
    corpus = load_corpus(stage.data, tokenizer, limit, run)
    train, held_out = (
        encode_pairs(encoded, corpus.words[name], tokenizer, limit, stage.seed, f"data.{name}")
        for name, encoded in (("train", corpus.train), ("held_out", corpus.held_out))
    )
    run.report(pairs=train.pairs, held_out_pairs=held_out.pairs, context=stage.reward.context)
    lengths = train.chosen.turns * 1000 + train.chosen.longest()
    sampler = BucketBatchSampler(lengths, stage.trainer.batch_size, stage.seed)
    model = RewardModel.of(start, stage.reward.context, stage.reward.context_turns)

    def loss_of(batch: PairBatch) -> Callable[[PairBatch], LossOutput]:
        return partial(reward_loss, model, counts=reward_counts(batch), center=stage.reward.center_rewards_coefficient)

    parts = {"sampler": sampler}
    with Training(
        stage.trainer, stage.optimizer, model.scorer, tokenizer, run, parts, corpus.fingerprint
    ) as training:  # fmt: skip
        model.to(training.device)
        start.eval()

        def evaluate(dialogues: int | None) -> dict[str, float]:
            sums = training.sums((held_out.batch(index) for index in batches(held_out, dialogues)), loss_of)
            return means(sums) | {"loss": mean(sums, "reward_loss", "pairs_n")}

        for _ in training.steps():
            batch = train.batch(sampler.next())
            training.step(batch, loss_of(batch), tokens=int(batch.mask.sum() + batch.rejected_mask.sum()))
            training.log(means)
            if training.evaluation_due:
                metrics = evaluate(stage.held_out_dialogues)
                training.record_evaluation(metrics, score=-metrics["loss"])
        training.restore_best()
        metrics = evaluate(None)
        run.report(held_out_accuracy=metrics["accuracy"],
                   held_out_accuracy_interval=share_interval(metrics["accuracy"], held_out.pairs))  # fmt: skip
        finish(training, stage, metrics, save=lambda folder: model.save(folder, tokenizer))
