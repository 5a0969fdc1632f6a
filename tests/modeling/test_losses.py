"""The hybrid loss: against loops in float64, and brute force over sets and orders."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from unet_sharp_det.modeling.losses import (
    HybridLoss,
    class_loss,
    dice_loss,
    focal_loss,
    lovasz_hinge,
    one_vs_rest,
)

TERMS = {"focal": focal_loss, "dice": dice_loss, "lovasz": lovasz_hinge}


def problem(*shape, seed=0, spread=2.0, dtype=torch.float64):
    """Random logits, targets and valid pixels; about a fifth of the pixels is ignored."""
    torch.manual_seed(seed)
    logits = spread * torch.randn(shape, dtype=dtype)
    targets = torch.rand(shape) < 0.4
    valid = torch.rand(shape[0], 1, *shape[2:]) < 0.8
    return logits, targets, valid


def flat(logits, targets):
    """One image of one channel, all valid, from lists of logits and of truths."""
    z = torch.as_tensor(logits, dtype=torch.float64).view(1, 1, 1, -1)
    y = torch.as_tensor(targets, dtype=torch.bool).view(1, 1, 1, -1)
    return z, y, torch.ones_like(y)


def pixels(logits, targets, valid):
    """For every image and channel, the (z, y) of its valid pixels as numbers."""
    for z, y, v in zip(logits, targets, valid, strict=True):
        for channel in range(len(z)):
            yield list(zip(z[channel][v[0]].tolist(), y[channel][v[0]].tolist(), strict=True))


def naive_focal(logits, targets, valid):
    losses = []
    for channel in pixels(logits, targets, valid):
        for z, y in channel:
            p = 1 / (1 + math.exp(-z))
            p_t, a_t = (p, 0.25) if y else (1 - p, 0.75)
            losses.append(-a_t * (1 - p_t) ** 2 * math.log(p_t))
    return sum(losses) / len(losses)


def naive_dice(logits, targets, valid):
    losses = []
    for channel in pixels(logits, targets, valid):
        p = [1 / (1 + math.exp(-z)) for z, _ in channel]
        overlap = sum(a for a, (_, y) in zip(p, channel, strict=True) if y)
        truth = sum(y for _, y in channel)
        losses.append(1 - (2 * overlap + 1) / (sum(p) + truth + 1))
    return sum(losses) / len(losses)


def jaccard_loss(targets, mispredicted):
    """Of an image in which exactly the pixels of a set went wrong; an empty union costs nothing."""
    truth = {i for i, y in enumerate(targets) if y}
    union = truth | set(mispredicted)
    return 1 - len(truth - set(mispredicted)) / len(union) if union else 0.0


def naive_lovasz(logits, targets, valid):
    losses = []
    for channel in pixels(logits, targets, valid):
        truth = [y for _, y in channel]
        errors = [max(0.0, 1 - z if y else 1 + z) for z, y in channel]
        order = sorted(range(len(errors)), key=lambda i: -errors[i])
        losses.append(extension(errors, truth, order))
    return sum(losses) / len(losses)


def extension(errors, targets, order):
    """``sum_i m_pi(i) * (J({pi_1..pi_i}) - J({pi_1..pi_(i-1)}))`` for any order pi."""
    steps = [jaccard_loss(targets, order[:i]) for i in range(len(order) + 1)]
    gains = [after - before for before, after in itertools.pairwise(steps)]
    return sum(errors[i] * gain for i, gain in zip(order, gains, strict=True))


NAIVE = {"focal": naive_focal, "dice": naive_dice, "lovasz": naive_lovasz}


@pytest.mark.parametrize("shape", [(3, 2, 5, 7), (2, 3, 3, 4, 5)], ids=["2d", "3d"])
@pytest.mark.parametrize("term", TERMS)
def test_equals_the_loop(term, shape):
    logits, targets, valid = problem(*shape)
    found = TERMS[term](logits, targets, valid)
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(NAIVE[term](logits, targets, valid), rel=1e-12)


@pytest.mark.parametrize("term", TERMS)
def test_gradient(term):
    logits, targets, valid = problem(2, 2, 3, 4)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: TERMS[term](z, targets, valid), logits)


class TestLovaszHinge:
    @pytest.mark.parametrize("foreground", [0, 1, 3, 5, 6])
    def test_is_the_jaccard_loss_where_every_error_is_0_or_1(self, foreground):
        """z = 0 has the error 1, z = s the error 0."""
        targets = [i < foreground for i in range(6)]
        signs = [1 if y else -1 for y in targets]
        for wrong in itertools.product([False, True], repeat=6):
            logits = [0 if bad else sign for bad, sign in zip(wrong, signs, strict=True)]
            expected = jaccard_loss(targets, [i for i, bad in enumerate(wrong) if bad])
            found = lovasz_hinge(*flat(logits, targets)).item()
            assert found == pytest.approx(expected, abs=1e-12)

    def test_keeps_precision_on_large_volumes(self):
        """Increments near 1e-6, in float32, against differences of J in float64."""
        logits, targets, _ = problem(1, 1, 16, 256, 512, dtype=torch.float32)
        logits.requires_grad_()
        valid = torch.ones_like(targets)
        found = lovasz_hinge(logits, targets, valid)
        found.backward()
        z, y = logits.detach().flatten(), targets.flatten()
        errors, order = torch.where(y, 1 - z, 1 + z).relu().sort(descending=True)
        union = y.sum() + (~y[order]).double().cumsum(0)
        jaccard = 1 - (y.sum() - y[order].double().cumsum(0)) / union
        gains = torch.diff(jaccard, prepend=jaccard.new_zeros(1))
        assert found.item() == pytest.approx((errors * gains).sum().item(), rel=1e-5)
        slopes = logits.grad.flatten()[order].abs().double()
        off = (slopes - gains).abs() > 1e-4 * gains
        assert off[errors > 0].double().mean() < 0.01  # among equal errors any order is right


class TestIgnoredPixels:
    @pytest.mark.parametrize("term", TERMS)
    def test_change_nothing(self, term):
        logits, targets, valid = problem(3, 2, 6, 5)
        expected = TERMS[term](logits, targets, valid)
        ignored = ~valid.expand_as(logits)
        logits = logits.masked_fill(ignored, 50.0).requires_grad_()
        found = TERMS[term](logits, targets ^ ignored, valid)
        assert found.item() == pytest.approx(expected.item(), rel=1e-12)
        found.backward()
        assert (logits.grad[ignored] == 0).all()
        assert (logits.grad[~ignored] != 0).any()


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("case", ["background", "foreground", "ignored", "one image ignored"])
def test_extreme_images_give_finite_losses_and_gradients(case, exclusive):
    logits, targets, valid = problem(2, 2, 8, 8, spread=60.0, dtype=torch.float32)
    targets[:, 0] = case == "foreground"
    targets[:, 1] = ~targets[:, 0]
    valid[:] = case in ("background", "foreground")
    if case == "one image ignored":
        valid[1] = True
    logits.requires_grad_()
    loss = HybridLoss(exclusive=exclusive)(logits, targets, valid)
    sum(loss.values()).backward()
    assert all(value.isfinite() for value in loss.values())
    assert logits.grad.isfinite().all()
    assert (sum(loss.values()).item() == 0) == (case == "ignored")
    for image, one in zip(logits.grad, valid, strict=True):
        assert (image != 0).any() == one.any()


class TestOneVsRest:
    @pytest.mark.parametrize("channels", [2, 3, 7])
    def test_is_stable_for_large_logits(self, channels):
        """Every channel at +-80, against a sum over the rest channel by channel in float64."""
        torch.manual_seed(channels)
        z = 160 * torch.rand(4, channels, 8, 8) - 80
        z[0, 0] = 80.0
        z[0, 1:] = -80.0
        z[1] = 80.0  # ties
        z.requires_grad_()
        exact = z.detach().double().requires_grad_()
        expected = []
        for c in range(channels):
            others = [k for k in range(channels) if k != c]
            expected.append(exact[:, c] - exact[:, others].logsumexp(dim=1))
        expected = torch.stack(expected, dim=1)
        found = one_vs_rest(z)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-5)
        slope = torch.randn_like(z)
        found.backward(slope)
        expected.backward(slope.double())
        torch.testing.assert_close(z.grad.double(), exact.grad, rtol=1e-4, atol=1e-4)


class TestHybridLoss:
    def test_weights(self):
        images = problem(2, 2, 6, 6)
        loss = HybridLoss()(*images)
        assert list(loss) == ["focal", "dice", "lovasz"]
        assert all(value.shape == () for value in loss.values())
        focal, dice, lovasz = (TERMS[term](*images) for term in loss)
        assert sum(loss.values()).item() == pytest.approx(
            (0.5 * focal + dice + 0.5 * lovasz).item(), rel=1e-12
        )

    @pytest.mark.parametrize("term", TERMS)
    def test_a_weight_of_0_leaves_the_term_out(self, term):
        images = problem(2, 2, 6, 6)
        every = HybridLoss()(*images)
        loss = HybridLoss(**{f"{term}_weight": 0.0})(*images)
        del every[term]
        assert loss == every

    def test_exclusive_channels_have_the_loss_of_their_softmax(self):
        """The binary terms at p = softmax(z), from the logits log p - log(1 - p)."""
        logits, _, valid = problem(2, 3, 6, 6)
        truth = torch.randint(3, (2, 6, 6))
        targets = F.one_hot(truth, 3).movedim(-1, 1).bool()
        p = logits.softmax(dim=1)
        expected = HybridLoss()(p.log() - (1 - p).log(), targets, valid)
        found = HybridLoss(exclusive=True)(logits, targets, valid)
        for term, value in expected.items():
            assert found[term].item() == pytest.approx(value.item(), rel=1e-10)

    @pytest.mark.parametrize("exclusive", [False, True])
    def test_autocast_computes_in_float32(self, exclusive):
        logits, targets, valid = problem(2, 3, 16, 16, dtype=torch.bfloat16)
        criterion = HybridLoss(exclusive=exclusive)
        expected = criterion(logits.float(), targets, valid)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            for z in (logits, logits.float()):
                found = criterion(z, targets, valid)
                assert {value.dtype for value in found.values()} == {torch.float32}
                assert found == expected


def test_class_loss_is_the_cross_entropy_of_object_pixels():
    torch.manual_seed(0)
    logits, classes = torch.randn(2, 3, 4, 5), torch.randint(-1, 2, (2, 4, 5))
    targets = torch.stack([classes == c for c in range(3)], dim=1)  # None is of the class 2.
    shares = [1 / (classes == c).sum() for c in range(2)]
    expected = F.cross_entropy(logits, classes, torch.tensor([*shares, 0.0]), ignore_index=-1)
    torch.testing.assert_close(class_loss(logits, targets), expected)
    pixel, both = logits[:1, :, :1, :1], torch.tensor([True, True, False]).view(1, 3, 1, 1)
    expected = F.cross_entropy(pixel, torch.tensor([0.5, 0.5, 0]).view(1, 3, 1, 1))
    torch.testing.assert_close(class_loss(pixel, both), expected)
    assert class_loss(logits, torch.zeros_like(targets)) == 0
