"""Start trainings one after the other, as a command line would, and print how each ended.

Arguments: a JSON list of lists of arguments of ``unet-sharp-det train``. Prints a JSON list of
(exit status, output). One process saves the imports that a process for each would need.
"""

import contextlib
import io
import json
import sys

from unet_sharp_det.cli.train import main
from unet_sharp_det.errors import run_cli


def outcome(arguments):
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            run_cli(lambda: main(arguments))
        except SystemExit as end:
            return end.code, output.getvalue()


if __name__ == "__main__":
    print(json.dumps([outcome(arguments) for arguments in json.loads(sys.argv[1])]))
