import json
import uuid

import pytest
from detectron2.data import MetadataCatalog


@pytest.fixture
def register(tmp_path):
    """Register a COCO dict; returns the data set's name."""
    names = []

    def register_dataset(dataset):
        name = f"test_{uuid.uuid4().hex}"
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(dataset))
        mapping = {category["id"]: i for i, category in enumerate(dataset["categories"])}
        MetadataCatalog.get(name).set(
            json_file=str(path),
            thing_classes=[category["name"] for category in dataset["categories"]],
            thing_dataset_id_to_contiguous_id=mapping,
        )
        names.append(name)
        return name

    yield register_dataset
    for name in names:
        MetadataCatalog.pop(name)
