"""The thread that finds objects while napari goes on."""

from napari.qt.threading import GeneratorWorkerSignals, WorkerBase

from .. import prediction
from ..prediction.options import PredictionOptions
from .find import find_objects
from .layers import LayerImage


class _Cancelled(Exception):
    """The user ended the search."""


class FindWorker(WorkerBase):
    """Finds the objects of a layer; ``returned`` carries a :class:`.Found`, ``yielded`` the share
    that is done. After ``quit()`` it ends with the next block of tiles and returns nothing.

    Args:
        weights: a model's name or file.
        options: of the prediction.
        image, channel: as :func:`.find_objects` takes them.
    """

    def __init__(
        self, weights: str, options: PredictionOptions, image: LayerImage, channel: int | None
    ):
        super().__init__(SignalsClass=GeneratorWorkerSignals)
        self._weights, self._options = weights, options
        self._image, self._channel = image, channel

    def work(self):
        try:
            # The network is imported here, too: it takes seconds, in which napari would stand.
            predictor = prediction.Predictor.from_checkpoint(self._weights, options=self._options)
            return find_objects(predictor, self._image, self._channel, progress=self._report)
        except _Cancelled:
            return None

    def _report(self, fraction: float) -> None:
        if self.abort_requested:
            raise _Cancelled
        self.yielded.emit(fraction)
