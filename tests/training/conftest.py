import pytest
from sample_parts import part_register


@pytest.fixture
def register_part(converted_sample, tmp_path):
    """A function (name, choose) that registers some training images of the sample."""
    return part_register(converted_sample, tmp_path)
