"""Scripts of the repository as modules.

By their paths: detectron2's wheel installs another package ``tools``.
"""

import importlib.util


def load_script(path):
    """Return a script, which is run as a module is."""
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
