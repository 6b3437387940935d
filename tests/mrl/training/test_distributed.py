"""Where a run of mrl/ is tracked: the same rule as everywhere."""

import pytest

from mrl.recipes.stage import TrainerConfig
from mrl.training.distributed import join_processes
from pipeline.run import Run


@pytest.mark.parametrize(
    ("logged_in", "report_to", "wanted"),
    [
        (True, "auto", ["wandb", "mine"]),
        (False, "auto", ["tensorboard", "tensorboard"]),
        (True, "tensorboard", ["tensorboard", "tensorboard"]),
        (True, "none", []),
    ],
)
def test_a_run_is_tracked_where_its_login_and_its_recipe_say(logged_in, report_to, wanted, tmp_path, monkeypatch):
    seen = []

    def init(self, project_name, config, init_kwargs):
        seen.extend([*(str(kind) for kind in self.log_with), project_name])

    monkeypatch.setattr("accelerate.Accelerator.init_trackers", init)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40 if logged_in else "")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = Run(TrainerConfig(max_steps=1), stage="memory_sft", output_dir=tmp_path / "run", seed=0)
    join_processes(run, report_to, None)
    assert seen == wanted
