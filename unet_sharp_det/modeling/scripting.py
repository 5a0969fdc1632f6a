"""Modules that run a table, made ready for TorchScript, which runs no table."""

import copy

import torch
from torch import fx, nn


class _CallTracer(fx.Tracer):
    """Trace a module's own lines; the modules that it calls stay calls."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def written_out(module: nn.Module) -> nn.Module:
    """A copy of ``module`` whose ``forward`` is the straight line of calls that it comes to.

    To be a class's ``__prepare_scriptable__``, which ``torch.jit.script`` asks for what to compile.
    The copy has the same parameters under the same names.
    """
    with torch.no_grad():  # recomputing in the backward pass cannot be scripted
        graph = _CallTracer().trace(module)
    forward = type(fx.GraphModule(module, graph)).forward
    copied = copy.copy(module)
    copied._modules = dict(module._modules)
    copied.__class__ = type(type(module).__name__, (type(module),), {"forward": forward})
    return copied
