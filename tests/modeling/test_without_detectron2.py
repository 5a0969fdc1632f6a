"""What imports without detectron2."""

import subprocess
import sys


def test_schemes_and_u_nets_need_neither_detectron2_nor_fvcore(tmp_path):
    code = """
import sys
sys.modules.update(detectron2=None, fvcore=None)
import torch
from unet_sharp_det import Edge, GridOptions, SegNetr, SkipGrid, SkipUNet
from unet_sharp_det import build_table, register_scheme

@register_scheme("two")
def two(depth):
    return {(0, 1): [Edge(0, 0), Edge(1, 0)]}

for scheme, dim in (("two", 2), ("unet3p", 2), ("unetsharp", 3)):
    net = SkipUNet(scheme, dim=dim, channels=(4, 8, 8)[: 2 if scheme == "two" else 3])
    images = torch.zeros(1, 3 if dim == 2 else 1, *[16] * dim)
    losses = net(images, torch.zeros(1, *[16] * dim, dtype=torch.long))
    sum(losses.values()).backward()
    print(tuple(net.eval()(images).shape))
print(tuple(SegNetr(channels=16).eval()(torch.zeros(1, 3, 16, 16)).shape))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        *["(1, 1, 16, 16)"] * 2,
        "(1, 1, 16, 16, 16)",
        "(1, 1, 16, 16)",
    ]
