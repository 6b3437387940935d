"""The keys of study.json that stand for one claim each, worked out by hand."""

import json

import pytest

from evaluation.study.config import Job, StudyConfig, Variant
from evaluation.study.results import collect
from tests.evaluation.study.small_study import finish, write_answers


def test_each_claim_has_its_key(tmp_path):
    weak = {"start": "weak/sft"}
    study = StudyConfig(
        output_dir=tmp_path, start="start", config="mrl.yaml", data_folder="episodes", data="test",
        parts={
            "weak": {"sft": Variant()},
            "rewards_alone": {"ppo": Variant(seeds=[1, 2], **weak)},
            "delayed": {"last": Variant(**weak)},
            "critic": {"mrl": Variant(**weak), "same": Variant(same_as="rewards_alone/ppo")},
            "beyond_supervision": {
                "few_mrl": Variant(same_as="rewards_alone/ppo"), "few_sft": Variant(**weak), "open_mrl": Variant(),
            },
        },
    )  # fmt: skip
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "retention.json").write_text(json.dumps({"recall": {"recall": {"2": 0.5, "all": 0.5}}}))
    assert not collect(study).keys() & {"critic", "delayed", "rewards_alone", "beyond_supervision"}
    jobs = [Job("weak", "sft", 42), Job("rewards_alone", "ppo", 1), Job("rewards_alone", "ppo", 2),
            Job("delayed", "last", 42), Job("critic", "mrl", 42), Job("beyond_supervision", "few_sft", 42)]  # fmt: skip
    right = [[False, False], [True, True], [True, False], [False, True], [True, True], [False, True]]
    for job, shares, hits in zip(jobs, (0.2, 0.8, 0.6, 0.5, 0.9, 0.4), right, strict=True):
        finish(study, job, shares, seconds=30.0)
        write_answers(job.folder(study), hits)
    line = json.dumps({"rollout_explained_variance": 0.25}) + "\n"
    for seed in (1, 2):
        (Job("rewards_alone", "ppo", seed).folder(study) / "metrics.jsonl").write_text(line)
    results = collect(study)
    assert results["critic"] == {"mrl": {"explained_variance": 0.65}, "same": {"explained_variance": 0.25}}
    assert results["rewards_alone"] == {"start": 0.2, "end": 0.7, "seconds": 30.0, "seeds": 2}
    assert results["delayed"] == {"start": 0.2, "end": 0.5, "seconds": 30.0, "seeds": 1}
    # The first question is recalled by both seeds and not by supervision, the second by one of them and by it.
    (case,) = results["beyond_supervision"]
    assert case == {
        "case": "few", "mrl": 0.7, "sft": 0.4, "difference": 0.25, "low": -0.5, "high": 1.0, "seeds": 1,
    }, "an open case isn't there yet"  # fmt: skip
    assert results["gains"]["rewards_alone"]["ppo"]["all"]["gain"] == pytest.approx(0.75)
