"""How near two ways of computing one function are, on any CPU.

CPUs sum in different orders. In float32 a sum of 3,000 products is off by about sqrt(3000) roundings of 6e-8, sixty
layers one after another by sqrt(60) times that: 2.6e-5 of the largest value. That two ways are one function is shown
in float64, where the same is 5e-14.
"""

from typing import Any

ROUNDING_F32, ROUNDING_F64 = 1e-4, 1e-12


def relative_difference(found: Any, expected: Any) -> float:
    """The largest difference of two arrays or tensors of one shape and type, over the largest expected value."""
    assert found.shape == expected.shape and found.dtype == expected.dtype
    return float(abs(found - expected).max() / abs(expected).max())
