import re

from unet_sharp_det.outputs import OUTPUTS
from unet_sharp_det.outputs.object_table import object_columns


def test_the_document_lists_every_output_and_every_column(repository, instances, context):
    text = (repository / "docs" / "OUTPUTS.md").read_text(encoding="utf-8")
    for name, output in OUTPUTS.items():
        assert f"| `{name}` | `a{output.ending}` |" in text
    table = text[text.index("## Object table") : text.index("## ROIs")]
    listed = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.M))))
    columns = {re.sub(r"_c\d$", "_cN", name) for name in object_columns(instances, context)}
    assert listed == columns
