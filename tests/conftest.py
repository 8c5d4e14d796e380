"""What all tests share: the CPU, one thread, no progress bars, no network, gradients on.

The environment is set before torch is imported, and the commands that tests start inherit it.
"""

import os

import pytest

from book.notebooks import ENVIRONMENT

os.environ.update(ENVIRONMENT, HF_HUB_OFFLINE="1")

import torch


@pytest.fixture(autouse=True)
def gradients_are_on():
    """Guards against a chapter's cell that switches gradients off, run by one test, for all tests that follow."""
    with torch.set_grad_enabled(True):
        yield
