"""What the documents list is what there is."""

import re

from benchmarks.search.scheme_drawing import edge_id
from unet_sharp_det.evaluation.evaluators.volumes import VOLUME_MEASURES
from unet_sharp_det.evaluation.instances.measures import INSTANCE_MEASURES
from unet_sharp_det.skip_schemes import build_table, scheme_module, scheme_names


def test_every_measure_is_in_the_list(repository):
    text = (repository / "docs" / "MEASURES.md").read_text()
    listed = set(re.findall(r"`(?:\w+/)?(\w+)`", text))
    for measure in INSTANCE_MEASURES + VOLUME_MEASURES:  # These begin with the foreground's.
        name = measure.name.removesuffix("_image_mean").removesuffix("_pooled")
        if not re.fullmatch(r"cell_AP\d\d", name):  # the table has .. for them
            assert name in listed, name


def test_every_scheme_is_drawn_as_its_table_says(repository):
    """If one is not: python -m docs.write_schemes."""
    folder = repository / "docs" / "images" / "schemes"
    names = [name for name in scheme_names() if scheme_module(name) is None]  # the package's own
    assert {path.stem for path in folder.iterdir()} == set(names)
    for name in names:
        edges = [edge_id(*each) for each in _edges(build_table(name, 4))]
        drawn = re.findall(r'id="(edge-[^"]*)"', (folder / f"{name}.svg").read_text())
        assert sorted(drawn) == sorted(edges), name


def _edges(table):
    return [(node, edge) for node, edges in table.items() for edge in edges]
