"""Phantom cases: images from a seed that look a little like their modality, with boxes and truth, of any size."""

from edge.data.phantom.make import make_phantom
from edge.data.phantom.suites import SUITES, make_suite

__all__ = ["SUITES", "make_phantom", "make_suite"]
