"""Registers with detectron2, on import, what configs name: necks, heads, backbones, data sets; and
addresses of fsspec, which its ``PathManager`` then opens."""

from detectron2.utils.file_io import PathHandler, PathManager
from fsspec.registry import available_protocols

from .addresses import local_path
from .data import catalog, folders  # noqa: F401
from .modeling import (  # noqa: F401
    external_networks,
    sem_seg_head,
    skip_fpn,
    timm_backbone,
    volume_segmentor,
    watershed_segmentor,
)


class FsspecHandler(PathHandler):
    """Files at addresses such as ``s3://bucket/a.yaml``, to be read."""

    def _get_supported_prefixes(self) -> list[str]:
        own = {"file", "http", "https", "local"}  # which PathManager knows
        return [f"{protocol}://" for protocol in available_protocols() if protocol not in own]

    def _get_local_path(self, path: str, force: bool = False, **_) -> str:
        return str(local_path(path))

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **_):
        return open(local_path(path), mode, buffering)

    def _isfile(self, path: str, **_) -> bool:
        return local_path(path).is_file()

    _exists = _isfile


PathManager.register_handler(FsspecHandler())
folders.register_folders()
