"""A backbone run by something else than torch's eager mode, for each size of its input."""

import io
from collections.abc import Callable

import torch
from detectron2.modeling import Backbone
from torch import Tensor, nn


class ReplacedBackbone(nn.Module):
    """Takes a backbone's place: what :meth:`make` returns runs for inputs of one shape."""

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.original = backbone
        self.size_divisibility = backbone.size_divisibility
        self.padding_constraints = backbone.padding_constraints
        self.output_shape = backbone.output_shape
        self._by_shape: dict[torch.Size, Callable] = {}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return what the backbone returns of ``x`` (N, C, H, W)."""
        if x.shape not in self._by_shape:
            with torch.inference_mode(False), torch.no_grad():
                self._by_shape[x.shape] = self.make(_AsTuple(self.original).eval(), x.clone())
        return dict(zip(self.output_shape(), self._by_shape[x.shape](x), strict=True))

    def make(self, network: nn.Module, x: Tensor) -> Callable:
        """Return a function like ``network``, from images like ``x`` to a sequence of maps."""
        raise NotImplementedError


class TracedParts(ReplacedBackbone):
    """TorchScript, frozen, with oneDNN's fusions."""

    def make(self, network: nn.Module, x: Tensor) -> Callable:
        traced = torch.jit.trace(network, x, check_trace=False)
        return torch.jit.optimize_for_inference(torch.jit.freeze(traced))


class CompiledParts(ReplacedBackbone):
    """torch.compile with constants folded (needs a C++ compiler)."""

    def make(self, network: nn.Module, x: Tensor) -> Callable:
        return torch.compile(network, dynamic=False, options={"freezing": True})


class OnnxRuntimeParts(ReplacedBackbone):
    """ONNX Runtime on the CPU, with as many threads as torch."""

    def make(self, network: nn.Module, x: Tensor) -> Callable:
        import onnxruntime

        file = io.BytesIO()
        torch.onnx.export(network, (x,), dynamo=True, verbose=False).save(file)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        providers = ["CPUExecutionProvider"]
        session = onnxruntime.InferenceSession(file.getvalue(), options, providers=providers)
        name = session.get_inputs()[0].name

        def run(images: Tensor) -> list[Tensor]:
            found = session.run(None, {name: images.contiguous().cpu().numpy()})
            return [torch.from_numpy(value).to(images.device) for value in found]

        return run


class _AsTuple(nn.Module):
    """A backbone whose maps are a tuple, which exporters take."""

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone(x).values())
