"""What the numbers say, in a sentence or two."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from ..errors import counted
from ..evaluation.instances.results import interval
from .breakdown import Breakdown, Group
from .comparison import Comparison
from .estimates import Estimate, Estimates, number
from .names import words_of

_FEW_IMAGES = 30
_MOST_SENTENCES = 4
_FOUND = "recall"  # What groups of objects are compared by.


@dataclass(frozen=True)
class Verdict:
    """What a report says first.

    Attributes:
        sentences: HTML.
        caution: why not to rely on them; "" if nothing is known against it.
        best: the number of the method of the highest score.
    """

    sentences: list[Markup]
    caution: str
    best: int


def judge(
    comparison: Comparison,
    breakdowns: Sequence[Breakdown],
    score: str,
    unit: str = "image",
) -> Verdict:
    """Say which method is better than the first, or how good a single one is.

    Args:
        breakdowns: groups of objects. Those that gain and lose most are named.
        score: the measure that decides; the largest value is the best.
        unit: what was judged.
    """
    words = words_of(score, long=False)
    values = np.nan_to_num([each.value for each in comparison.rows[score].estimates], nan=-1)
    order = 1 + np.argsort(-values[1:], kind="stable")[:_MOST_SENTENCES]
    sentences = [_compare(comparison, breakdowns, score, words, other) for other in order]
    images = len(comparison.methods[0].images)
    few = f"Only {counted(images, unit)} {'was' if images == 1 else 'were'}"
    return Verdict(
        sentences or _describe(comparison, breakdowns, score, words),
        f"{few} judged: too few to rely on." if images < _FEW_IMAGES else "",
        int(np.argmax(values)),
    )


def _compare(
    comparison: Comparison, breakdowns: Sequence[Breakdown], score: str, words: str, other: int
) -> Markup:
    row, labels = comparison.rows[score], [each.label for each in comparison.methods]
    pair, sign, difference = (labels[other], labels[0]), 1, row.differences[other - 1]
    verdict = row.verdict(other - 1)
    if not verdict:
        text = "No difference can be seen between <b>{}</b> and <b>{}</b>: {} {}."
        if not difference.interval():
            text = "<b>{}</b> and <b>{}</b> cannot be told apart by one image: {} {}."
        return Markup(text).format(*pair, words, _in_words(difference, sign=True))
    if verdict == "worse":
        pair, sign = pair[::-1], -1
        difference = Estimate(-difference.value, -difference.high, -difference.low)

    def gain(values: Callable[[Estimates], np.ndarray], group: Group) -> np.ndarray:
        return sign * (values(group.estimates[other]) - values(group.estimates[0]))

    text, most = "<b>{}</b> is better than <b>{}</b>: {} {}{}.", ""
    if found := _standout(breakdowns, gain, at_least=0):
        most = Markup(", most in {} ({:.1f} points more are found)").format(*found)
    if lost := _standout(breakdowns, lambda *group: -gain(*group), at_least=0):
        most += Markup(", but worse in {} ({:.1f} points fewer)").format(*lost)
    return Markup(text).format(*pair, words, _in_words(difference, sign=True), most)


def _describe(
    comparison: Comparison, breakdowns: Sequence[Breakdown], score: str, words: str
) -> list[Markup]:
    rows, (method,) = comparison.rows, comparison.methods
    text = Markup("<b>{}</b> has a {} of {}.")
    sentences = [text.format(method.label, words, _in_words(rows[score].estimates[0]))]
    if breakdowns:
        pooled = (rows[f"{each}_50_pooled"] for each in ("recall", "precision"))
        recall, precision = (f"{row.estimates[0].value:.0f} %" for row in pooled)
        text = Markup("It finds {} of the true objects, and {} of what it finds is true{}.")
        weakest = ""
        if found := _standout(breakdowns, lambda values, group: -values(group.estimates[0])):
            weakest = f"; it is weakest in {found[0]}"
        sentences.append(text.format(recall, precision, weakest))
    return sentences


def _standout(
    breakdowns: Sequence[Breakdown], gain: Callable, at_least: float = -np.inf
) -> tuple[str, float] | None:
    """Return the name and the gain of the group that gains most, more than all objects do.

    Both that and that it gains more than ``at_least`` must hold at the bound of an interval, which
    few images do not give.
    """

    def drawn(group: Group) -> np.ndarray:
        return gain(lambda estimates: estimates.drawn[_FOUND], group)

    found = {}
    for breakdown in breakdowns:
        for group in breakdown.groups:
            of_group = drawn(group)
            if group.images >= _FEW_IMAGES and interval(of_group)[0] > at_least:
                if interval(of_group - drawn(breakdown.whole))[0] > 0:
                    found[group.name] = gain(lambda estimates: estimates.values[_FOUND], group)
    return max(found.items(), key=lambda item: item[1], default=None)


def _in_words(it: Estimate, sign: bool = False) -> Markup:
    text = Markup("<b>{}</b>").format(number(it.value, 1, sign))
    return text + (f" ({it.interval(1)})" if it.interval() else "")
