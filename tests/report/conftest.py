import pytest
from report_helpers import make_run

from unet_sharp_det.report.collect import collect_methods


@pytest.fixture(scope="session")
def runs(converted_sample, tmp_path_factory):
    """The folders of two runs on the same images; tests only read them."""
    root = tmp_path_factory.mktemp("runs")
    return [
        make_run(root / "first", converted_sample, seed=1, rate=0.08),
        make_run(root / "second", converted_sample, seed=2, rate=0.03),
    ]


@pytest.fixture(scope="session")
def methods(runs):
    """What is read of them."""
    return collect_methods(runs)


@pytest.fixture(scope="session")
def reports(methods):
    """The only run of each."""
    return [method.seeds[0] for method in methods]
