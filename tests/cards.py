"""Exercises, as tests/test_exercises.py needs them: found in a chapter, held against their form, executed.

The form is in CONTRIBUTING.md: a card and its twin, the cell for the reader's answer, the folded solution and its twin.

A solution is executed in a namespace that holds the chapter's first code cell (its imports), the cells before the
exercise that are tagged `setup`, and the exercise's own cell as shipped. What a solution needs belongs in one of these.
"""

import re
from dataclasses import dataclass
from functools import cache

import prose

TITLE = {"en": r"### Exercise (\d+\.\d+) · \S", "zh": r"### 练习 (\d+\.\d+) · \S"}
EFFORT = {"en": r"(★☆☆|★★☆|★★★) · (\d+) minutes?$", "zh": r"(★☆☆|★★☆|★★★) · (\d+) 分钟$"}
HINT = {"en": "<details><summary>Hint</summary>", "zh": "<details><summary>提示</summary>"}
SOLUTION = {"en": "<details><summary>Solution</summary>", "zh": "<details><summary>解答</summary>"}


@dataclass(frozen=True)
class Exercise:
    """One exercise: its name ("1.1"), where it stands, and the code around it."""

    name: str
    where: str
    setup: tuple
    shipped: str
    variable: str
    solution: str

    def answer(self, code=""):
        """The value of the exercise's variable after its cell as shipped, then `code`."""
        namespace = dict(_executed(self.setup))
        for source in (self.shipped, code):
            exec(compile(_plain(source), f"<exercise {self.name}>", "exec"), namespace)
        return namespace[self.variable]


@cache
def _executed(sources):
    """The namespace after `sources`. Imports and loaded models are shared by the exercises that need the same ones."""
    namespace = {"__name__": "__main__"}
    for source in sources:
        exec(compile(_plain(source), "<setup>", "exec"), namespace)
    return namespace


def _plain(source):
    """`source` without the lines that only a notebook understands."""
    return re.sub(r"^\s*[%!].*$", "", source, flags=re.MULTILINE)


def find(cells):
    """The exercises of a chapter and, as lines, every way in which its cells miss the form."""
    exercises, faults, used = [], [], set()
    for at, cell in enumerate(cells):
        if (
            cell.kind == "markdown"
            and cell.lang == "en"
            and re.match(r"#+ Exercise\b", cell.source)
        ):
            group = cells[at : at + 5]
            missing = list(_faults(group))
            faults += [f"{cell.where}: {fault}" for fault in missing]
            used.update(part.number for part in group)
            if not missing:
                exercises.append(_exercise(group, cells[:at]))
    for cell in cells:
        if cell.number not in used and _looks_like_a_part(cell):
            faults.append(
                f"{cell.where}: a part of an exercise without its card: {cell.source.splitlines()[0]}"
            )
    return exercises, faults


def _looks_like_a_part(cell):
    if cell.kind == "code":
        return "exercise" in cell.metadata.get("tags", []) or bool(
            re.search(r"^check\(", cell.source, re.MULTILINE)
        )
    return any(
        mark in cell.source
        for mark in (*HINT.values(), *SOLUTION.values(), "### Exercise", "### 练习")
    )


def _faults(group):
    """What is missing in the five cells of an exercise."""
    kinds = [part.lang if part.kind == "markdown" else part.kind for part in group]
    if kinds != ["en", "zh", "code", "en", "zh"]:
        yield f"an exercise is card, 练习, code, Solution, 解答; here: {', '.join(map(str, kinds))}"
        return
    names, efforts = [], []
    for card, lang in zip(group[:2], ("en", "zh"), strict=True):
        title = re.match(TITLE[lang], card.source)
        names.append(title and title[1])
        second = [*card.source.splitlines(), ""][1]
        effort = re.match(EFFORT[lang], second)
        efforts.append(effort and effort.groups())
        if not title:
            yield f"the title should read like {'### Exercise 1.1 · Title' if lang == 'en' else '### 练习 1.1 · 标题'}"
        if not effort:
            example = "★☆☆ · 5 minutes" if lang == "en" else "★☆☆ · 5 分钟"
            yield f"the second line should read like {example}, not {second}"
        if HINT[lang] not in card.source:
            yield f"no hint: {HINT[lang]}"
    if names[0] != names[1] or efforts[0] != efforts[1]:
        yield f"the twins disagree: {names}, {efforts}"
    if names[0] is None:
        return
    if int(names[0].split(".")[0]) != int(group[0].file[:2]):
        yield f"exercise {names[0]} stands in {group[0].file}"
    yield from _code_faults(names[0], group)


def _code_faults(name, group):
    code, variable = group[2], _variable(name, group[2])
    if "exercise" not in code.metadata.get("tags", []):
        yield 'the exercise\'s cell has no tags=["exercise"]'
    if variable is None:
        yield f'the cell does not call check("{name}", ...) on a variable'
    if "..." not in code.source:
        yield "the cell does not ship with `...`"
    codes = []
    for part, lang in zip(group[3:], ("en", "zh"), strict=True):
        if SOLUTION[lang] not in part.source:
            yield f"no folded solution: {SOLUTION[lang]}"
        codes.append(_code(part))
    if codes[0] != codes[1]:
        yield "the solution's code differs between the languages"
    if variable and not re.search(rf"^(?:def )?{variable}\b", codes[0], re.MULTILINE):
        yield f"the solution's ```python block does not define {variable}"


def _variable(name, code):
    """What the reader assigns or defines: answer_1_1, or a function under its own name."""
    call = re.search(rf"^check\(\"{re.escape(name)}\", ([A-Za-z_]\w*)\)", code.source, re.MULTILINE)
    return call and call[1]


def _code(part):
    return "\n".join(body for language, body in prose.fenced(part.source) if language == "python")


def _exercise(group, before):
    card, _, cell, solution, _ = group
    code = [part for part in before if part.kind == "code"]
    setup = code[:1] + [part for part in code[1:] if "setup" in part.metadata.get("tags", [])]
    name = re.match(TITLE["en"], card.source)[1]
    sources = tuple(part.source for part in setup)
    return Exercise(name, card.where, sources, cell.source, _variable(name, cell), _code(solution))
