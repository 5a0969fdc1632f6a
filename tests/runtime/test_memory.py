"""Maps of a network get memory that is there already."""

import subprocess
import sys

SCRIPT = """
import ctypes, resource, sys, torch
from unet_sharp_det.runtime.memory import keep_freed_memory
# glibc begins so, and changes it by what the process frees.
ctypes.CDLL(None).mallopt(-3, 128 * 1024)
if sys.argv[1] == "kept":
    keep_freed_memory()
def touch():
    _ = [torch.empty(size * 2**20).fill_(1) for size in (5, 5, 5, 5)]
for _ in range(4):
    touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_the_system_gives_no_new_pages():
    faults = {}
    for name in ("kept", "returned"):
        command = [sys.executable, "-c", SCRIPT, name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        faults[name] = int(done.stdout)
    assert faults["kept"] < faults["returned"] / 100
