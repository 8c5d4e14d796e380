"""Collects the folded solutions of the chapters for the appendix."""

import re
from dataclasses import dataclass

from nbformat import NotebookNode

from book.editions import Edition
from book.languages import lines_outside_code

LABEL = re.compile(r"\((?P<label>.+)\)=$")
EXERCISE = re.compile(r"#{2,6} +(?P<title>(Exercise|练习) *(?P<number>\d+\.\d+).*)$")
SOLUTION = re.compile(
    r"<details>\s*<summary>(?:Solution|解答)</summary>(?P<text>.*?)</details>", re.DOTALL
)


@dataclass(frozen=True)
class Solution:
    number: str
    title: str
    label: str  # of the exercise's heading
    text: str

    def markdown(self, edition: Edition) -> str:
        """The solution as a section of the appendix, with the way back."""
        name = f"exercise-{self.number.replace('.', '-')}"
        return (
            f"(solutions--{name})=\n### {self.title}\n\n{self.text}\n\n"
            f"{{.to-exercise}}\n[{edition.to_exercise}](#{self.label})"
        )


def solutions(cells: list[NotebookNode]) -> list[Solution]:
    """The solutions in a chapter's labelled cells of one language, in their order."""
    found = []
    label = exercise = None
    for cell in cells:
        if cell.cell_type != "markdown":
            continue
        for _, line in lines_outside_code(cell.source):
            if match := LABEL.match(line):
                label = match["label"]
            elif match := EXERCISE.match(line):
                exercise = (match["number"], match["title"], label)
        if exercise and (match := SOLUTION.search(cell.source)):
            found.append(Solution(*exercise, match["text"].strip()))
    return found
