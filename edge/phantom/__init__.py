"""Phantom cases: images from a seed that look a little like their modality, with boxes and truth, of any size."""

from edge.phantom.make import make_phantom
from edge.phantom.suites import SUITES, make_suite

__all__ = ["SUITES", "make_phantom", "make_suite"]
