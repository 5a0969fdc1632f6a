"""The table, its file, and what the YAML of an experiment may say."""

import json
import statistics
from pathlib import Path

import pytest

from benchmarks.experiments import Experiment, Scheduler, format_tables, write_zoo
from benchmarks.experiments.cost import NetworkCost, network_cost
from benchmarks.experiments.results import keep_results, read_result, read_results
from benchmarks.experiments.run_folder import RunFolder
from benchmarks.experiments.table import mean_and_deviation
from unet_sharp_det.errors import ConfigError, UserError
from unet_sharp_det.provenance import git_state

UNET = "DSB2018-SemanticSegmentation/compact/unet.yaml"
METRIC = "sem_seg/IoU_image_mean"
COSTS = dict.fromkeys(("unet", "unetpp"), NetworkCost(1_234_000, 1.5, 2.5))


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    path = tmp_path_factory.mktemp("experiment") / "small.yaml"
    unetpp = UNET.replace("unet.", "unetpp.")
    path.write_text(
        "seeds: [0, 1, 2]\nopts: {SOLVER.MAX_ITER: 10}\n"
        f"runs:\n  unet: {{config: {UNET}}}\n  unetpp: {{config: {unetpp}}}\n"
    )
    return Experiment.load(path)


def result(run, seed, value, **cost):
    return {
        **{"run": run, "seed": seed, "git": [{"revision": "a" * 40, "dirty": seed == 1}]},
        **{"environment": {"machine": "M"}, "config": {}, "cost": cost},
        "metrics": {METRIC: value, "sem_seg/Dice_image_mean": None},
    }


def cells(text, first):
    """Of all rows that begin with ``first``, from the table's top on."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows if row[0].strip() == first]


def test_statistics_over_seeds_and_paired_differences(experiment):
    unet, unetpp = {0: 70.0, 1: 72.0, 2: 77.0}, {0: 71.0, 1: 72.5, 2: 79.0}
    results = {("unet", s): result("unet", s, v, cpu_s=10.0 * s) for s, v in unet.items()}
    results |= {("unetpp", s): result("unetpp", s, v) for s, v in unetpp.items()}
    text = format_tables(experiment, results, COSTS, "COMMAND")
    deviation = statistics.stdev(unet.values())
    assert cells(text, "unet")[0][1:3] == ["0, 1, 2", f"73.00 ± {deviation:.2f}"]
    difference = f"+1.17 ± {statistics.stdev([1.0, 0.5, 2.0]):.2f}"
    assert cells(text, "unetpp")[1][1:3] == ["0, 1, 2", difference]
    assert cells(text, "unet")[1] == ["unet", "1.234", "1.500", "2.500", "10"]
    assert "commit aaaaaaaaaa; commit aaaaaaaaaa with changes" in text
    assert "`COMMAND`" in text


def test_single_seeds_are_marked_and_differences_are_of_common_seeds(experiment):
    results = {("unet", 0): result("unet", 0, 70.0), ("unetpp", 1): result("unetpp", 1, 75.0)}
    text = format_tables(experiment, results, COSTS, "")
    assert cells(text, "unet")[0][1:4] == ["0", "70.00 (1 seed)", "-"]
    assert "Difference" not in text
    results["unetpp", 0] = result("unetpp", 0, 69.5)
    text = format_tables(experiment, results, COSTS, "")
    assert cells(text, "unetpp")[1][1:3] == ["0", "-0.50 (1 seed)"]


def test_mean_and_deviation():
    assert mean_and_deviation([]) == "-"
    assert mean_and_deviation([1.0, 3.0], signed=True) == "+2.00 ± 1.41"


def test_no_finished_run(experiment):
    with pytest.raises(UserError, match="no run is finished"):
        format_tables(experiment, {}, COSTS, "")


def test_the_table_can_be_made_again_from_what_is_kept(experiment, stand_in, tmp_path):
    runs, kept = tmp_path / "runs", tmp_path / "kept"
    Scheduler(experiment, runs, stand_in, seeds=[0], jobs=2).run()
    results = read_results(experiment, runs, kept)
    keep_results(results, experiment, kept)
    again = read_results(experiment, tmp_path / "nothing", kept)
    assert format_tables(experiment, again, COSTS, "") == format_tables(
        experiment, results, COSTS, ""
    )
    assert again["unet", 0]["cost"]["inference_images_per_second"] == 8.0
    assert again["unet", 0]["cost"]["train_images_per_second"] == pytest.approx(8 / 0.02)
    assert all(path.stat().st_size < 10_000 for path in kept.rglob("*.json"))
    assert json.loads((kept / "unet" / "seed0.json").read_text())["metrics"][METRIC] == sum(
        range(10)
    )


def test_what_was_made_with_another_config_does_not_count(
    load_experiment, stand_in, tmp_path, caplog
):
    experiment, runs, kept = load_experiment(), tmp_path / "runs", tmp_path / "kept"
    Scheduler(experiment, runs, stand_in, seeds=[0], jobs=2).run()
    keep_results(read_results(experiment, runs, kept), experiment, kept)
    config = json.loads((kept / "unet" / "seed0.json").read_text())["config"]
    assert config["SOLVER.MAX_ITER"] == "10"
    changed = load_experiment(
        {
            "unet": {"config": UNET, "opts": {"SOLVER.BASE_LR": 0.5}},
            "unetpp": {"config": UNET.replace("unet.", "unetpp.")},
        }
    )
    caplog.clear()
    assert list(read_results(changed, runs, kept)) == [("unetpp", 0)]
    left_out = [message for message in caplog.messages if "is left out" in message]
    assert [runs / "unet" / "seed0", kept / "unet" / "seed0.json"] == [
        Path(message.split()[0]) for message in left_out
    ]
    assert all("SOLVER.BASE_LR: was 0.01, now 0.5" in message for message in left_out)


class TestCostsOfResumedRuns:
    """``run.json`` of an earlier process -> what counts."""

    STOPPED = {"status": "stopped", "cost": {"cpu_s": 500.0, "peak_memory_mib": 9e5}}

    @pytest.fixture
    def cost(self, experiment, stand_in, tmp_path):
        """A function (record, checkpoint=4) that returns the costs of a run which had it before."""

        def read(record, checkpoint=4):
            folder = RunFolder(tmp_path, "unet", 0)
            folder.write_record({"git": [], **record})
            if checkpoint is not None:
                name = f"model_{checkpoint:07d}.pth"
                (folder.path / "last_checkpoint").write_text(name)
                (folder.path / name).write_text('{"iteration": 4, "sum": 10}')
            Scheduler(experiment, tmp_path, stand_in, runs=["unet"], seeds=[0]).run()
            return read_result(experiment.runs[0], folder)["cost"]

        return read

    def test_those_of_all_processes(self, cost):
        found = cost(self.STOPPED)
        assert 500 < found["cpu_s"] < 600
        assert found["peak_memory_mib"] == 9e5

    @pytest.mark.parametrize("status", ["running", "failed", "finished"])
    def test_none_where_something_was_done_twice(self, cost, status):
        assert not {"cpu_s", "peak_memory_mib"} & set(cost({**self.STOPPED, "status": status}))

    def test_what_came_to_no_checkpoint_costs_nothing(self, cost):
        assert cost({**self.STOPPED, "status": "failed"}, checkpoint=None)["cpu_s"] < 100


def test_the_code_of_all_processes_is_named(experiment, stand_in, tmp_path):
    Scheduler(experiment, tmp_path, stand_in, runs=["unet"], seeds=[0]).run()
    folder = RunFolder(tmp_path, "unet", 0)
    other = {"revision": "b" * 40, "dirty": True}
    folder.write_record({**folder.record, "status": "failed", "git": [other]})
    Scheduler(experiment, tmp_path, stand_in, runs=["unet"], seeds=[0]).run()
    result = read_result(experiment.runs[0], folder)
    assert result["git"] == [other, git_state()]
    text = format_tables(experiment, {("unet", 0): result}, COSTS, "")
    assert "commit bbbbbbbbbb with changes" in text


def test_kept_results_of_the_repository_give_their_tables(repository):
    """Whatever changed in the code since."""
    path = repository / "configs" / "experiments" / "compact_cpu.yaml"
    experiment = Experiment.load(path)
    results = read_results(experiment, "none", path.parent / "results" / experiment.name)
    assert len(results) == 12
    costs = {run.name: network_cost(run.evaluated_cfg) for run in experiment.runs}
    tables = format_tables(experiment, results, costs, "").split("\n\nTrainings of")[0]
    assert tables in (repository / "docs" / "EXPERIMENTS.md").read_text()


def test_zoo_replaces_only_its_own_part(tmp_path):
    path = tmp_path / "EXPERIMENTS.md"
    write_zoo(path, "a", "one")
    path.write_text("Before.\n\n" + path.read_text() + "\nAfter.\n")
    write_zoo(path, "b", "two")
    write_zoo(path, "a", "three")
    block = "<!-- begin {0} -->\n{1}\n<!-- end {0} -->\n"
    assert (
        path.read_text()
        == f"Before.\n\n{block.format('a', 'three')}\nAfter.\n\n{block.format('b', 'two')}"
    )
    path.write_text("<!-- begin a -->")
    with pytest.raises(UserError, match="must each stand there once"):
        write_zoo(path, "a", "four")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"seed": [0]}, "Did you mean 'seeds'"),
        ({"seeds": [0, 0]}, "different whole numbers"),
        ({"opts": {"SOLVER.MAX_ITR": 3}}, "Did you mean 'SOLVER.MAX_ITER'"),
        ({"opts": {"OUTPUT_DIR": "x"}}, "set by the runner"),
        ({"metrics": "sem_seg/IoU_image_mean"}, "write a list"),
        ({"metrics": 5}, "write a list"),
        ({"metrics": [["sem_seg/IoU_image_mean"]]}, "write a list"),
        ({"runs": {1: {"config": UNET}, "1": {"config": UNET}}}, "name a folder for each"),
        ({"runs": {"../../a": {"config": UNET}}}, "name a folder for each"),
        ({"opts": {"MODEL.META_ARCHITECTURE": "SemanticSegmenter"}}, "cannot be built.*Segmenter"),
        ({"opts": {"MODEL.UNET.NORM": "GM"}}, "runs: unet: .*GM"),
        ({"opts": {"DATASETS.TRAIN": ["dsb2018_trian"]}}, "Did you mean 'dsb2018_train'"),
        (
            {"runs": {"a": {"config": "nowhere.yaml"}}},
            "a: 'nowhere.yaml': there is no config",
        ),
        ({"runs": {"a": {"confg": UNET}}}, "Did you mean 'config'"),
        ({"runs": {"a": {"config": UNET, "evaluates": "b"}}}, "evaluates: 'b' is not known"),
        (
            {"runs": {"a": {"config": UNET, "opts": {"MODEL.SEM_SEG_HEAD.SKIP_SCHEME": "unetp"}}}},
            "Did you mean 'unetpp'",
        ),
    ],
)
def test_mistakes_in_the_file(load_experiment, content, message):
    with pytest.raises(ConfigError, match=message):
        load_experiment(**content)


def test_a_metric_that_no_run_has(load_experiment):
    experiment = load_experiment(metrics=["sem_seg/IoU_image_men"])
    with pytest.raises(ConfigError, match="Did you mean 'sem_seg/IoU_image_mean'"):
        format_tables(experiment, {("unet", 0): result("unet", 0, 1.0)}, COSTS, "")


def test_a_run_that_stands_twice(write_experiment):
    path = write_experiment()
    path.write_text(path.read_text() + f"  unet: {{config: {UNET}}}\n")
    with pytest.raises(ConfigError, match="'unet' stands twice"):
        Experiment.load(path)
