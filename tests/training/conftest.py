import pytest
from sample_parts import registered_parts


@pytest.fixture
def register_part(converted_sample, tmp_path):
    """A function (name, choose) that registers some training images of the sample."""
    with registered_parts(converted_sample, tmp_path) as register:
        yield register
