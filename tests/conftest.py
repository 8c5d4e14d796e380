"""What all tests share: the CPU, one thread, no progress bars, no network, gradients on.

The environment is set before torch is imported, and the commands that tests start inherit it.
"""

import os

import pytest

from book.notebooks import ENVIRONMENT

os.environ.update(ENVIRONMENT, HF_HUB_OFFLINE="1")

import torch

from dpo_core import threads

pytest_plugins = ["site_pages"]
LONGEST = ("test_site", "test_process", "test_proofs", "test_cli", "test_attack")


def pytest_collection_modifyitems(config, items):
    """The longest files first: a worker that begins one when the other has nothing left keeps it waiting."""
    if hasattr(config, "workerinput"):  # alone, files run in the order that they were named in
        place = {name: number for number, name in enumerate(LONGEST)}
        items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


@pytest.fixture(autouse=True)
def as_if_it_were_the_first(monkeypatch):
    """Guards against what one test leaves to those that follow: gradients switched off by a chapter's cell, a number
    of threads that a command was asked for.
    """
    before = torch.get_num_threads()
    monkeypatch.setattr(threads, "asked", 0)
    with torch.set_grad_enabled(True):
        yield
    torch.set_num_threads(before)
