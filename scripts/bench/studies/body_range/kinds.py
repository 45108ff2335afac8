"""The kinds of pairs, and what the summary shows of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from scripts.bench.studies.body_range import pairs
from scripts.bench.studies.body_range.pairs import NamedPair


@dataclass(frozen=True)
class Kind:
    """A kind of pairs.

    Args:
        about: what the pairs are and how they are measured.
        pairs: makes them.
        metrics: keys of the results that the summary shows.
        related: whether both images show the same; if not, a status of "good" is wrong.
    """

    about: str
    pairs: Callable[[], Iterator[NamedPair]]
    metrics: tuple[str, ...]
    related: bool = True


KINDS = {
    "mouse brains": Kind(
        "T2 at 0.15 mm, four of the twelve pairs; 37 regions.", pairs.mice, ("dice",)
    ),
    "fetal brains of neighbouring weeks": Kind(
        "average brains of weeks 25 and 27, 29 and 31; 8 tissues and 7 landmarks.",
        lambda: pairs.fetuses(pairs.WEEKS),
        ("dice", "tre_mm"),
    ),
    "fetal brains of distant weeks": Kind(
        "weeks 21 and 33, 33 and 23: 52 to 324 ml.",
        lambda: pairs.fetuses(pairs.DISTANT_WEEKS),
        ("dice", "tre_mm"),
    ),
    "spinal cord": Kind(
        "T1, T2, magnetisation transfer (5 slices of 17 mm) and T2* (9 of 7.5 mm) of one "
        "person; the cord.",
        pairs.cords,
        ("dice",),
    ),
    "histology": Kind(
        "neighbouring sections of a lung in colour, 2D, three stains, all pairs; 80 landmarks, in "
        "pixels.",
        pairs.sections,
        ("tre_mm",),
    ),
    "hands": Kind("radiographs, 2D, 128 pixels; 7 landmarks, in pixels.", pairs.hands, ("tre_mm",)),
    "parts of a body": Kind(
        "the lower and the upper part of a CT, which share 120 mm; the moving one is rotated by up "
        "to 14 degrees about each axis and shifted by up to 30 mm along it; error to the truth "
        "over the fixed part.",
        pairs.halves,
        ("true_error_mm",),
    ),
    "abdomen and chest": Kind(
        "CT of two people that show different parts of the body: no transform is right.",
        pairs.strangers,
        (),
        related=False,
    ),
    "PET and SPECT to MR": Kind(
        "templates in one space, the moving one displaced likewise; the templates differ by a "
        "millimetre or two; error over the brain.",
        pairs.templates,
        ("true_error_mm",),
    ),
    "abdomens": Kind("CT and MR of two people, organs.", pairs.abdomens, ("dice",)),
    "lungs": Kind(
        "MR of three people, three of the six pairs; five lobes.", pairs.lungs, ("dice",)
    ),
    "livers": Kind(
        "MR of two volunteers who breathe; 52 to 56 landmarks, inside the liver and outside. The "
        "header of dataset18 cyc_1_10 has slices of 5 mm, all other files and the landmarks 4 mm; "
        "4 mm are used.",
        pairs.livers,
        ("tre_mm", "tre_inside_mm", "tre_outside_mm"),
    ),
    "sliding lungs": Kind(
        "known slides of 15 and 25 mm, see the study sliding; 300 points.",
        pairs.sliding_lungs,
        ("tre_mm",),
    ),
    "sliding bodies": Kind(
        "CT, known slides of 20 and 35 mm, see the study sliding_body, at 4 x 4 x 3 mm; 300 "
        "points.",
        pairs.sliding_bodies,
        ("tre_mm",),
    ),
}
