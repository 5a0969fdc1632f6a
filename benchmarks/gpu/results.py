"""The page of all that a folder of results has: ``results.py FOLDER`` writes RESULTS.md there."""

import datetime
import itertools
import json
import subprocess
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path

import torch
from tabulate import tabulate

from benchmarks.measure import machine
from unet_sharp_det.files import write_json, write_text
from unet_sharp_det.provenance import git_state

PACKAGES = ("torchvision", "numpy", "timm", "opencv-python-headless", "sal-detectron2")
COLUMNS = {"forward_s": "forward ms", "step_s": "training step ms", "peak_mib": "peak MiB"}


def main() -> None:
    folder = Path(sys.argv[1])
    write_json(folder / "host.json", host(), indent=1)
    parts = [describe(read(folder, "host.json")), stages(read(folder, "stages.json"))]
    parts += [checks(read(folder, "checks.json")), *speeds(read(folder, "speed.json") or [])]
    trained = folder / "train.md"
    if trained.is_file():
        parts.append(trained.read_text())
    write_text(folder / "RESULTS.md", "\n\n".join(filter(None, parts)) + "\n")


def host() -> dict:
    command = [
        "nvidia-smi",
        "--query-gpu=name,driver_version,memory.total",
        "--format=csv,noheader",
    ]
    try:
        card = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except OSError:
        card = "no GPU"
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "card": card,
        "machine": machine(),
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,
        "packages": {name: version(name) for name in PACKAGES},
        "git": git_state(),
    }


def version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def read(folder: Path, name: str):
    path = folder / name
    return json.loads(path.read_text()) if path.is_file() else None


def describe(found: dict) -> str:
    packages = ", ".join(f"{name} {number}" for name, number in found["packages"].items())
    revision = (found["git"]["revision"] or "unknown")[:10]
    changed = " with changes" if found["git"]["dirty"] else ""
    return (
        f"{found['date']}, card and driver: {found['card']}; {found['machine']}; CUDA "
        f"{found['cuda']}, cuDNN {found['cudnn']}; {packages}; commit {revision}{changed}."
    )


def stages(found: dict | None) -> str:
    told = [f"{name}: {how.get('seconds')} s, {how['exit']}" for name, how in (found or {}).items()]
    return f"Stages (0: ended by itself): {'; '.join(told)}." if told else ""


def checks(found: dict | None) -> str:
    if not found:
        return ""
    counts = Counter(check["outcome"] for check in found.values())
    lines = [f"Checks: {', '.join(f'{count} {name}' for name, count in sorted(counts.items()))}."]
    for name, check in found.items():
        if check["outcome"] == "failed":
            lines.append(f"- `{name}`: {check.get('error', '').strip().splitlines()[-1:]}")
    return "\n".join(lines)


def speeds(figures: list[dict]) -> list[str]:
    groups = itertools.groupby(figures, key=lambda figure: figure["of"])
    return [f"{title}:\n\n{speed_table(list(group))}" for title, group in groups]


def speed_table(figures: list[dict]) -> str:
    first, rows = figures[0], []
    for figure in figures:
        row = {"": figure["name"]}
        if "images_per_second" in figure:
            row |= {"images/s": f"{figure['images_per_second']:.1f}"}
            row |= {"objects an image": f"{figure['objects']:.1f}"}
        for key, column in COLUMNS.items():
            if figure.get(key):
                scale = 1000 if key.endswith("_s") else 1
                row |= {column: f"{scale * figure[key]:.2f}"}
                if first.get(key):
                    row |= {f"x {first['name']} ({column})": f"{figure[key] / first[key]:.2f}"}
        rows.append(row | ({"error": figure["error"]} if "error" in figure else {}))
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    main()
