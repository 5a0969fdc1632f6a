"""Write a trained model as one file for other programs; see docs/EXPORT.md.

unet-sharp-det export output/model_best.pth --format onnx
    writes output/model_best.onnx, after comparing it with the model

unet-sharp-det export output/model_best.pth --format safetensors --precision fp16
    weights and config in one file of half the size, which unet-sharp-det predict takes alone
"""

import argparse
from pathlib import Path

from .. import export
from . import add_trust_argument, command_parser


def parse_args(argv=None) -> argparse.Namespace:
    parser = command_parser("export", __doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--config-file", type=Path, help="default: in or beside the checkpoint")
    parser.add_argument("--format", required=True, help=", ".join(export.FORMATS))
    parser.add_argument("--level", type=int, help="cut a semantic network to L_k, from 1")
    parser.add_argument("--mode", default="fast", help="with --level: fast (default) or accurate")
    parser.add_argument("--precision", default="fp32", help="fp32 (default), bf16 or fp16")
    parser.add_argument("--output", type=Path, help="default: beside the checkpoint")
    add_trust_argument(parser)
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = vars(parse_args(argv))
    request = export.ExportRequest(file_format=args.pop("format"), **args)
    for check in export.export_model(request):
        print(check)
    print(f"{request.path}: {request.path.stat().st_size / 2**20:.1f} MiB")
    return 0
