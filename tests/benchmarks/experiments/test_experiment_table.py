"""The table, its file, and what the YAML of an experiment may say."""

import json
import statistics
from pathlib import Path

import pytest

from benchmarks.experiments import Experiment, Scheduler, format_tables, write_zoo
from benchmarks.experiments.cost import NetworkCost
from benchmarks.experiments.results import keep_results, read_result, read_results, run_folder_of
from benchmarks.experiments.table import mean_and_deviation
from unet_sharp_det.errors import ConfigError, UserError

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
        **{"environment": {"machine": "M"}, "config": {}, "metrics": {METRIC: value}, "cost": cost},
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
    """``sessions`` of run.json -> what counts."""

    STATE = {"revision": "a" * 40, "dirty": False}
    TRAINED = {"git": STATE, "end": "stopped", "cpu_s": 5.0, "wall_s": 5.0, "peak_memory_mib": 9.0}

    @pytest.fixture
    def cost(self, experiment, stand_in, tmp_path):
        """A function (*earlier sessions) that returns the costs of a run which had them too."""

        def read(*earlier):
            Scheduler(experiment, tmp_path, stand_in, runs=["unet"], seeds=[0]).run()
            folder = run_folder_of(tmp_path, experiment.runs[0], 0)
            last = {**self.TRAINED, "end": "finished", "peak_memory_mib": 3.0}
            folder.write_record({**folder.record, "sessions": [*earlier, last]})
            return read_result(experiment.runs[0], folder)["cost"]

        return read

    def test_those_of_all_sessions(self, cost):
        found = cost(self.TRAINED)
        assert (found["cpu_s"], found["wall_s"], found["peak_memory_mib"]) == (10.0, 10.0, 9.0)

    def test_none_of_a_killed_one(self, cost):
        killed = {"git": self.STATE, "end": "killed"}
        assert not {"cpu_s", "wall_s", "peak_memory_mib"} & set(cost(killed))

    @pytest.mark.parametrize(
        "change", [{"end": "failed", "startup_s": 1.0}, {"exit_status": -9}, {"exit_status": -15}]
    )
    def test_no_time_of_iterations_that_were_repeated(self, cost, change):
        assert "cpu_s" not in cost({**self.TRAINED, **change})

    def test_what_failed_before_it_began_costs_nothing(self, cost):
        assert cost({**self.TRAINED, "end": "failed"})["cpu_s"] == 5.0

    def test_no_time_of_an_evaluation_that_was_repeated(self, cost):
        found = cost({**self.TRAINED, "evaluation_s": 2.0})
        assert "cpu_s" not in found
        assert found["peak_memory_mib"] == 9.0


def test_the_code_of_all_sessions_is_named(experiment, stand_in, tmp_path):
    Scheduler(experiment, tmp_path, stand_in, runs=["unet"], seeds=[0]).run()
    folder = run_folder_of(tmp_path, experiment.runs[0], 0)
    (session,) = folder.record["sessions"]
    other = {**session, "git": {"revision": "b" * 40, "dirty": True}}
    folder.write_record({**folder.record, "sessions": [other, session, other]})
    result = read_result(experiment.runs[0], folder)
    assert result["git"] == [other["git"], session["git"]]
    text = format_tables(experiment, {("unet", 0): result}, COSTS, "")
    assert "commit bbbbbbbbbb with changes" in text


def test_zoo_replaces_only_its_own_part(tmp_path):
    path = tmp_path / "MODEL_ZOO.md"
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
        ({"metrics": ["sem_seg/IoU_image_men"]}, "Did you mean 'sem_seg/IoU_image_mean'"),
        ({"metrics": "sem_seg/IoU_image_mean"}, r"write a list, as \[sem_seg/"),
        ({"metrics": 5}, "write a list"),
        ({"opts": {"MODEL.META_ARCHITECTURE": "SemanticSegmenter"}}, "cannot be built.*Segmenter"),
        ({"opts": {"MODEL.UNET.NORM": "GM"}}, "runs: unet: .*GM"),
        ({"opts": {"DATASETS.TRAIN": ["dsb2018_trian"]}}, "Did you mean 'dsb2018_train'"),
        ({"runs": {"a": {"config": "nowhere.yaml"}}}, "config 'nowhere.yaml' is neither in"),
        ({"runs": {"a": {"confg": UNET}}}, "Did you mean 'config'"),
        ({"runs": {"../a": {"config": UNET}}}, "names a folder"),
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


def test_a_run_that_stands_twice(write_experiment):
    path = write_experiment()
    path.write_text(path.read_text() + f"  unet: {{config: {UNET}}}\n")
    with pytest.raises(ConfigError, match="'unet' stands twice"):
        Experiment.load(path)
