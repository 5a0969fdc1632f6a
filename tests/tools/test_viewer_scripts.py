"""Scripts for Fiji and QuPath: their commands are ours, and ImageJ puts ROIs on their planes."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from stub_predictor import spots

from unet_sharp_det.cli.predict import parse_args

IMAGEJ = Path("/usr/share/java/ij.jar")

# Takes the place of unet-sharp-det: it finds what is bright.
STAND_IN = """#!{python}
import sys
sys.path[:0] = {folders!r}
from stub_predictor import StubPredictor
from unet_sharp_det.batch.run import predict_files
from unet_sharp_det.cli.predict import parse_args
args = parse_args(sys.argv[2:])
predict_files(StubPredictor(), args.inputs, args.output, outputs=args.outputs)
"""

CHECK = """
words = split(getArgument(), "|");
open(words[0]);
image = getImageID();
runMacro(words[1], words[2]);
selectImage(image);
said = "" + nResults + "\\n";
for (i = 0; i < roiManager("count"); i++) {
    roiManager("select", i);
    Stack.getPosition(c, z, t);
    getStatistics(area, mean, min, max);
    said += "" + z + "," + t + "," + area + "," + min + "\\n";
}
File.saveString(said, words[3]);
run("Quit");
"""


def commands(text, opening, values):
    """The arguments of each command in a script, its variables replaced."""
    for listed in re.findall(opening + r'command, ("predict"[^\])]*)[\])]', text):
        words = re.findall(r'"([^"]*)"|([\w.]+)', listed)
        yield [word or values[variable] for word, variable in words]


def test_predict_takes_the_commands_of_the_scripts(repository):
    macro = (repository / "tools" / "fiji" / "Find_Nuclei.ijm").read_text()
    values = dict(re.findall(r'^(\w+) = "(.*)";$', macro, re.M)) | {"input": "a", "output": "b"}
    some, others = commands(macro, r"exec\(", values)
    assert parse_args(some[1:]).channels == ["0"]
    for args in map(parse_args, (some[1:], others[1:])):
        assert (args.inputs, args.output, args.outputs) == (["a"], "b", ["rois"])
        assert (args.weights, args.scale, args.score_threshold) == ("nuclei", "auto", 0.5)
    script = (repository / "tools" / "qupath" / "find_nuclei.groovy").read_text()
    [words] = commands(script, r"\[", {"images.path": "a", "results.path": "b"})
    options = re.findall(r'"([^"]*)"', re.search(r"def options = (.*)", script).group(1))
    args = parse_args(words[1:] + options)
    assert (args.inputs, args.output, args.outputs) == (["a"], "b", ["geojson"])
    assert (args.weights, args.scale) == ("nuclei", "auto")


@pytest.mark.skipif(
    not (IMAGEJ.exists() and shutil.which("java") and shutil.which("xvfb-run")),
    reason="needs ImageJ, Java and Xvfb: apt-get install imagej xvfb xauth",
)
def test_rois_are_on_their_planes_in_imagej(repository, tmp_path):
    stack = np.array([[spots(3 * t + z, count=1 + z) for z in range(3)] for t in range(2)])
    image, command, result = (tmp_path / name for name in ("a.tif", "stand-in", "said.txt"))
    tifffile.imwrite(image, stack, imagej=True, metadata={"axes": "TZYX"})
    folders = [str(repository), str(repository / "tests" / "helpers")]
    command.write_text(STAND_IN.format(python=sys.executable, folders=folders))
    command.chmod(0o755)
    (tmp_path / "check.ijm").write_text(CHECK)
    macro = repository / "tools" / "fiji" / "Find_Nuclei.ijm"
    words = "|".join(map(str, (image, macro, command, result)))
    java = ["java", f"-Djava.io.tmpdir={tmp_path}", "-cp", IMAGEJ, "ij.ImageJ", "-ijpath", tmp_path]
    done = subprocess.run(
        ["xvfb-run", "-a", *map(str, java), "-macro", str(tmp_path / "check.ijm"), words],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.exists(), done.stdout + done.stderr
    measured, *lines = result.read_text().split()
    rois = [list(map(float, line.split(","))) for line in lines]
    assert int(measured) == len(rois) == 12
    for z in range(3):
        for t in range(2):
            areas = [area for *place, area, _ in rois if place == [z + 1, t + 1]]
            assert sum(areas) == np.count_nonzero(stack[t, z] > 100)
    assert min(roi[-1] for roi in rois) > 100  # the darkest pixel below a ROI, on its plane
