"""report.json of smollm2_memory.sh, from files as retention.py and lm_eval leave them."""

import json

import pytest

from evaluation.memory_report import main, parse_options
from pipeline.errors import InputError


def retention(recall):
    controls = {"reset_control": {"1": 0.1}, "foreign_control": {"1": 0.2}}
    return {
        "recall": {"memory_sft": recall, "full_history_baseline": {"1": 0.6, "9": 0.3}, **controls},
        "intervals": {"memory_sft": {"1": [0.7, 0.9]}}, "all": {}, "questions": {"1": 50},
        "latency": {"reactive_ms": {"1": 1.0, "64": 2.0}, "full_history_ms": {"1": 3.0, "64": 90.0}},
        "state_bytes": {"64": 1000}, "full_history_cache_bytes": {"64": 50000},
    }  # fmt: skip


def test_the_report_has_its_fixed_names(tmp_path):
    def write(name, value):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))

    options = parse_options([str(tmp_path)])
    with pytest.raises(InputError, match="retention.json is missing"):
        main(options)
    write("recall_generated/retention.json", retention({"1": 0.8, "8": 0.5, "9": 0.4}))
    write("recall_real/retention.json", retention({"2": 0.25}))
    with pytest.raises(InputError, match="no results_"):
        main(options)
    sizes = {"local_piqa": {"effective": 20}, "local_gsm8k": {"effective": 10}}
    for name, gain in (("untouched", 0.0), ("memory_sft", 0.25)):
        results = {
            "local_piqa": {"acc,none": 0.1, "acc_norm,none": 0.5 + gain},
            "local_gsm8k": {"exact_match,strict-match": 0.0, "exact_match,flexible-extract": gain},
        }
        write(f"skills/{name}/x/results_2026.json", {"results": results, "n-samples": sizes})
    main(options)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["recall"] == {"1": 0.8, "8": 0.5}
    assert report["full_history"] == {"1": 0.6}
    assert report["controls"] == {"reset_control": {"1": 0.1}, "foreign_control": {"1": 0.2}}
    assert report["forgetting"]["generated"]["recall"]["memory_sft"]["9"] == 0.4
    assert report["skills"]["piqa"] == {"before": 0.5, "after": 0.75, "n": 20}
    assert report["skills"]["gsm8k"] == {"before": 0.0, "after": 0.25, "n": 10}
    assert report["turn_64"]["first_token_ms"] == {"memory": 2.0, "full_history": 90.0}
    assert report["turn_64"]["bytes"] == {"memory": 1000, "full_history": 50000}
    assert "| generated | memory_sft | 80.0 |" in (tmp_path / "report.md").read_text()
