"""What a data set was imported from, so that no other import writes to its folder."""

from pathlib import Path

from ..errors import DatasetError
from ..files import read_json

RECORD_FILE = "import.json"
REMEDY = "Give another --name."


def read_record(output: Path, origin: dict) -> dict:
    """Return what ``import.json`` holds of an earlier import; {} where none has stored a case.

    Args:
        origin: what the record of the same import holds. A ``source`` that was moved is the same.

    Raises:
        DatasetError: the folder holds something else.
    """
    if not output.exists() or not any(output.iterdir()):
        return {}
    if not (output / RECORD_FILE).is_file():
        raise DatasetError(f"{output}: holds files of another origin. {REMEDY}")
    record = read_json(output / RECORD_FILE, dict, REMEDY)
    if record.get("cases") == {}:
        return {}
    found = {key: record.get(key) for key in origin}
    if not Path(str(found["source"])).exists():
        found["source"] = origin["source"]
    if found != origin:
        raise DatasetError(f"{output}: was imported as {found}. {REMEDY}")
    return record
