"""Planted errors: for every assertion of the derivation, a wrong version of the mathematics that must fail it.

chNN.py lists those of a chapter, PLANTED = [(what is wrong, the text as it stands, the wrong text), ...]:

    PLANTED = [
        ("the partition function dropped", "- log_partition(problem, beta)", ""),
        ("beta multiplies", "problem.reward / beta", "problem.reward * beta"),
    ]

The text as it stands occurs once in the chapter's cells tagged `proof`. tests/test_proofs.py replaces it, runs the
cell, and demands that an assertion fails; and that every assertion of every proof cell is failed by some entry.
"""

import importlib


def planted(chapter):
    """The entries of a chapter, by its number; none if the chapter has no file here."""
    try:
        return importlib.import_module(f"{__name__}.ch{chapter:02d}").PLANTED
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.ch{chapter:02d}":
            raise
    return []
