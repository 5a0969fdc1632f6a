"""The paper's Table 1: its numbers, and ours beside them."""

from types import SimpleNamespace

import pytest

from benchmarks import paper_tables
from benchmarks.paper_tables import METRIC, PAPER_2D, PAPER_3D, RUNS_2D, RUNS_3D, table1

# The text's gains of UNet# over UNet2+ and UNet3+ without deep supervision (Sec. 3.4.1).
GAINS = {"dsb2018": (0.51, 0.57), "brats19": (1.64, 1.0), "lits17": (3.2, 3.58)}
GAINS["lidc"] = (0.95, 0.46)


@pytest.mark.parametrize("data", PAPER_2D)
def test_numbers_agree_with_the_paper_s_text(data):
    iou = dict(zip(RUNS_2D, PAPER_2D[data], strict=True))
    gains = (iou["unetsharp"] - iou["unetpp"], iou["unetsharp"] - iou["unet3p_raw"])
    assert gains == pytest.approx(GAINS[data])


def test_3d_numbers_agree_with_the_paper_s_text():
    iou = dict(zip(RUNS_3D, PAPER_3D["luna16"], strict=True))
    assert (iou["vnetsharp"], iou["vnetsharp_ds"]) == (77.69, 79.45)


def test_ours_stand_beside_the_paper_s(tmp_path, monkeypatch):
    def read(experiment, folder, kept):
        assert folder == tmp_path / experiment.name
        if experiment.name != "table1_lits17":
            return {}
        return {("wunet", seed): {"metrics": {METRIC: 88.0 + seed}} for seed in (0, 1)}

    monkeypatch.setattr(paper_tables, "read_results", read)
    load = staticmethod(lambda file: SimpleNamespace(name=file.stem))
    monkeypatch.setattr(paper_tables.Experiment, "load", load)
    rows = [[cell.strip() for cell in row.split("|")] for row in table1(tmp_path).splitlines()]
    wide = next(row for row in rows if row[1:2] == ["wunet"])
    assert wide[2:6] == [
        "90.27 / not run",
        "90.06 / not run",
        "91.52 / 88.50 ± 0.71",
        "72.93 / not run",
    ]
    assert sum(len(row) > 3 for row in rows) == 2 * 10
