"""Supervised memory-aware training: every answer of a dialogue is decoded from the memory that the turns before left.

    uv run mrl/memory_sft.py --config-path mrl/config/quickstart/memory_sft.yaml

The gradient of an answer flows back through `objective.bptt_steps` memory writes (null, the default: the whole episode;
1: only the write just before, as others train). Dialogues start short and grow with what is recalled (`curriculum`);
parts can be unfrozen one after another (`optimizer.unfreeze`). The result lies in output_dir/model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from mrl.dialogues.corpus import load_corpus, preview, require_questions
from mrl.losses.answer_lm import MemoryAwareConfig, memory_aware_counts, memory_aware_loss
from mrl.training.export import check_upload, finish
from mrl.training.length_curriculum import LengthCurriculum, LengthCurriculumConfig
from mrl.training.loop import Training, mean
from mrl.training.model_io import load_reactive
from mrl.training.recall import Recall, measure_recall
from mrl.training.stage_config import ReactiveStageConfig, default_config
from pipeline.ranges import PositiveInt, Share
from pipeline.run import Run, stage_main


@dataclass(kw_only=True, frozen=True)
class MemorySFTStage(ReactiveStageConfig):
    """A recipe for supervised memory-aware training."""

    objective: MemoryAwareConfig = field(default_factory=MemoryAwareConfig)
    curriculum: LengthCurriculumConfig = field(default_factory=LengthCurriculumConfig)
    held_out_dialogues: PositiveInt = 256
    """Dialogues that an evaluation looks at (the final one takes all)."""
    stop_at: Share | None = None
    """Training ends when held-out recall of the longest dialogues has reached this."""


def means(sums: Mapping[str, float]) -> dict[str, float]:
    """Loss and accuracy per scored token, recall per question that takes memory."""
    return {
        "answer_loss": mean(sums, "answer_loss", "answer_n"),
        "answer_accuracy": mean(sums, "answer_right", "answer_n"),
        "recall": mean(sums, "recalled", "asked_n"),
    }


def main(stage: MemorySFTStage, run: Run) -> None:
    """Train, evaluate, save."""
    check_upload(stage)
    model, tokenizer = load_reactive(stage.model, needs_memory=True)
    corpus = load_corpus(stage.data, tokenizer, model.config.max_interaction_length, run)
    require_questions(corpus.train, "data.train")
    run.preview(preview(tokenizer, corpus.train))
    curriculum = LengthCurriculum(corpus.train, stage.curriculum, stage.trainer.batch_size, stage.seed)
    run.report(dialogues_in_no_lesson=curriculum.left_out)

    def evaluate(training: Training, dialogues: int | None) -> Recall:
        with training.evaluating():
            return measure_recall(model, corpus.held_out, training, dialogues, stage.seed)

    parts = {"curriculum": curriculum}
    with Training(stage.trainer, stage.optimizer, model, tokenizer, run, parts, corpus.fingerprint) as training:
        for step in training.steps():
            batch, present = curriculum.batch(step)
            counts = memory_aware_counts(batch, stage.objective)
            loss = partial(memory_aware_loss, model, counts=counts, config=stage.objective)
            sums = training.step(batch, loss, tokens=int(batch.mask.sum()))
            if present and curriculum.observe(sums["recalled"], sums["asked_n"]):
                training.record({"lesson_steps": curriculum.now})
            training.log(means, lesson_steps=curriculum.now)
            if training.evaluation_due:
                recall = evaluate(training, stage.held_out_dialogues)
                training.record_evaluation(recall.metrics(), score=recall.recall - 1e-3 * recall.answer_loss)
                if stage.stop_at is not None and curriculum.final and recall.recall >= stage.stop_at:
                    training.stop()
        training.restore_best()
        recall = evaluate(training, None)
        run.report(lesson_steps=curriculum.now, recall_by_distance=recall.by_distance())
        finish(training, stage, recall.metrics())


if __name__ == "__main__":
    stage_main(MemorySFTStage, main, default_config=default_config("memory_sft"), description=__doc__)
