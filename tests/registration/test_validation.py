"""Numbers of a settings dataclass, converted by their annotations and checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest

from stn3d.errors import InputError
from stn3d.registration.validation import channel_weights, check_fields


@dataclass(frozen=True)
class Example:
    size: float = 1.0
    limit: float = math.inf
    count: int = 1
    tries: int = 0
    most: int | None = None
    factors: tuple[float, ...] = (4, 2)
    iterations: tuple[int, ...] = (9, 9)
    name: str = "x"
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_fields(self, "example.", zero_allowed=["tries"], skip=["weights"])


def test_numbers_take_the_annotated_types() -> None:
    made: Any = Example(2, 3, 4.0, 0.0, 5.0, [8, 1.5], 7.0, "y", "as it is")  # type: ignore[arg-type]
    assert (made.size, made.limit, made.count, made.tries, made.most) == (2.0, 3.0, 4, 0, 5)
    assert [type(v) for v in (made.size, made.count, made.tries, made.most)] == [
        float,
        int,
        int,
        int,
    ]
    assert (made.factors, made.iterations) == ((8, 1.5), (7,))
    assert (made.name, made.weights) == ("y", "as it is")  # left alone


def test_defaults_are_valid() -> None:
    assert Example() == Example(limit=math.inf, most=None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": -1}, "the setting example.size is -1; give a number, not negative."),
        ({"size": math.inf}, "the setting example.size is inf; give a number, not negative."),
        ({"size": None}, "the setting example.size is None; give a number, not negative."),
        ({"size": True}, "the setting example.size is True; give a number, not negative."),
        ({"limit": math.nan}, "the setting example.limit is nan; give a number, not negative."),
        ({"count": 0}, "the setting example.count is 0; give at least 1."),
        ({"count": 1.5}, "the setting example.count is 1.5; give a whole number, not negative."),
        ({"tries": -1}, "the setting example.tries is -1; give a whole number, not negative."),
        ({"most": 0}, "the setting example.most is 0; give at least 1."),
        (
            {"size": 10**400},
            "the setting example.size is 1000.*; give a number, not negative, up to",
        ),
        ({"size": 2e6}, r"the setting example.size is 2000000.0; give a number, .* up to 1e\+06"),
        ({"count": 2**70}, "the setting example.count is 1180591620717411303424; give a whole"),
        ({"factors": [1.0] * 101}, "the setting example.factors is .*; give a list of positive"),
        ({"name": [1]}, r"the setting example.name is \[1\]; give a text."),
        ({"factors": []}, r"the setting example.factors is \[\]; give a list of positive numbers."),
        ({"factors": [0]}, r"the setting example.factors is \[0\]; give a list of positive"),
        ({"iterations": 2.5}, "example.iterations is 2.5; give a list of positive whole numbers."),
    ],
)
def test_what_does_not_fit_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Example(**options)


def test_channel_weights() -> None:
    assert channel_weights([1, 0.0]) == (1.0, 0.0)
    assert channel_weights(2) == (2.0,)
    assert channel_weights([]) is None
    for value, message in (
        ([0, 0], "all channel weights are 0"),
        ([1, -1], "a channel weight is -1"),
        (["a"], "a channel weight is 'a'"),
        ([math.nan], "a channel weight is nan"),
    ):
        with pytest.raises(InputError, match=message):
            channel_weights(value)
