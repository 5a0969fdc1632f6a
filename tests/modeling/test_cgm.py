"""The classification-guided module: structure, batches of one, loss, gate, and that it learns."""

import math

import pytest
import torch
from torch import nn

from unet_sharp_det.modeling.cgm import (
    ClassificationGuidedModule,
    SingleRowBatchNorm1d,
    classification_loss,
    gate,
)


def parameter_count(module):
    return sum(p.numel() for p in module.parameters())


class TestStructure:
    def test_small(self):
        cgm = ClassificationGuidedModule(32)
        layers = [SingleRowBatchNorm1d, nn.Dropout, nn.Linear]
        assert [type(layer) for layer in cgm.classifier] == layers
        assert cgm.classifier[1].p == 0.5
        assert parameter_count(cgm) == (2 * 64) + (64 * 2 + 2)

    @pytest.mark.parametrize("channels", [256, 512])
    def test_large(self, channels):
        cgm = ClassificationGuidedModule(channels, hidden=channels, dropout=0.2)
        once = [SingleRowBatchNorm1d, nn.Dropout, nn.Linear]
        assert [type(layer) for layer in cgm.classifier] == [*once, nn.ReLU, *once]
        assert [m.p for m in cgm.modules() if isinstance(m, nn.Dropout)] == [0.2, 0.2]
        width = 2 * channels
        first = 2 * width + width * channels + channels
        assert parameter_count(cgm) == first + 2 * channels + (channels * 2 + 2)

    @pytest.mark.parametrize("size", [(6, 7), (4, 5, 6)], ids=["2d", "3d"])
    def test_classifies_the_mean_and_the_maximum(self, size):
        torch.manual_seed(0)
        cgm = ClassificationGuidedModule(3).eval()
        with torch.no_grad():
            cgm.classifier[0].running_mean.normal_()
            cgm.classifier[0].weight.normal_()
        x = torch.randn(2, 3, *size)
        pooled = torch.cat([x.flatten(2).mean(dim=2), x.flatten(2).amax(dim=2)], dim=1)
        assert torch.allclose(cgm(x), cgm.classifier(pooled), atol=1e-6)
        assert cgm(x).shape == (2, 2)


class TestSingleRowBatchNorm1d:
    @staticmethod
    def norms():
        """One of each class, with the same parameters and statistics, none of them trivial."""
        torch.manual_seed(0)
        ours, theirs = SingleRowBatchNorm1d(5, eps=0.1), nn.BatchNorm1d(5, eps=0.1)
        with torch.no_grad():
            for value in (ours.weight, ours.bias, ours.running_mean, ours.running_var):
                value.uniform_(0.5, 2)
        theirs.load_state_dict(ours.state_dict())
        return ours, theirs

    @pytest.mark.parametrize("rows", [2, 3, 8])
    def test_is_batch_norm_from_two_rows_on(self, rows):
        ours, theirs = self.norms()
        x = torch.randn(rows, 5)
        assert torch.equal(ours(x), theirs(x))
        for name, value in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], value)
        assert ours.num_batches_tracked == 1

    @pytest.mark.parametrize("training", [False, True])
    def test_one_row_takes_the_running_statistics_and_keeps_them(self, training):
        ours, theirs = self.norms()
        ours.train(training)
        before = {name: value.clone() for name, value in ours.state_dict().items()}
        x = torch.randn(1, 5)
        assert torch.equal(ours(x), theirs.eval()(x))
        assert all(torch.equal(ours.state_dict()[name], v) for name, v in before.items())

    @pytest.mark.parametrize("hidden", [None, 3])
    def test_a_batch_of_one_image_trains(self, hidden):
        cgm = ClassificationGuidedModule(4, hidden=hidden, dropout=0.0).train()
        before = {name: value.clone() for name, value in cgm.named_buffers()}
        logits = cgm(torch.rand(1, 4, 6, 6))
        assert logits.isfinite().all()
        targets = torch.ones(1, 1, 6, 6, dtype=torch.bool)
        classification_loss(logits, targets, targets).backward()
        assert all(p.grad.isfinite().all() for p in cgm.parameters())
        assert (cgm.classifier[-1].weight.grad != 0).any()
        assert all(torch.equal(value, before[name]) for name, value in cgm.named_buffers())


class TestClassificationLoss:
    @pytest.mark.parametrize("size", [(5, 6), (3, 4, 5)], ids=["2d", "3d"])
    def test_equals_the_loop(self, size):
        """Four images: empty, one pixel in the first or in the second channel, full."""
        torch.manual_seed(0)
        logits = 3 * torch.randn(4, 2, dtype=torch.float64)
        targets = torch.zeros(4, 2, *size, dtype=torch.bool)
        targets[1, 0].view(-1)[7] = True
        targets[2, 1].view(-1)[11] = True
        targets[3] = True
        valid = torch.ones(4, 1, *size, dtype=torch.bool)
        expected = 0.0
        for (empty, full), label in zip(logits.tolist(), [0, 1, 1, 1], strict=True):
            of_label = math.exp(full if label else empty) / (math.exp(empty) + math.exp(full))
            expected -= math.log(of_label) / 4
        found = classification_loss(logits, targets, valid)
        assert found.dtype == torch.float64
        assert found.item() == pytest.approx(expected, rel=1e-12)

    def test_ignored_foreground_does_not_count(self):
        logits = torch.tensor([[1.0, -2.0]])
        targets = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
        valid = torch.ones_like(targets)
        empty = classification_loss(logits, targets, valid)
        targets[..., 2, 2] = True
        assert classification_loss(logits, targets, valid) > 2 * empty
        valid[..., 2, 2] = False
        assert classification_loss(logits, targets, valid) == empty

    def test_an_image_without_valid_pixels_adds_nothing(self):
        torch.manual_seed(0)
        logits = torch.randn(3, 2, requires_grad=True)
        targets = torch.rand(3, 1, 4, 4) < 0.5
        valid = torch.ones_like(targets)
        valid[1] = False
        loss = classification_loss(logits, targets, valid)
        others = classification_loss(logits[::2], targets[::2], valid[::2])
        assert loss.item() == pytest.approx(others.item() * 2 / 3)
        loss.backward()
        assert (logits.grad[1] == 0).all()
        assert (logits.grad[::2] != 0).all()
        assert classification_loss(logits, targets, torch.zeros_like(valid)) == 0


class TestGate:
    @pytest.mark.parametrize("size", [(4, 5), (3, 4, 5)], ids=["2d", "3d"])
    def test_zeroes_exactly_the_images_classified_empty(self, size):
        probabilities = torch.rand(4, 3, *size) + 0.1
        logits = torch.tensor([[2.0, 1.0], [-3.0, -2.0], [0.0, 5.0], [-1.0, -4.0]])
        gated = gate(probabilities, logits)
        assert (gated[[0, 3]] == 0).all()
        assert torch.equal(gated[[1, 2]], probabilities[[1, 2]])
