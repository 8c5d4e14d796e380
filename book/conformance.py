"""The page of conformance cases: its tables are made from the cases themselves, tests/conformance/*.json."""

import json

from book.contents import BOOK
from book.editions import Edition

CASES = BOOK.parent / "tests" / "conformance"
MARK = "<!-- tables of the cases -->"
KINDS = {  # in the order of the page
    "loss": {"en": "The loss of a pair", "zh": "一个偏好对的损失"},
    "kto": {"en": "Single answers", "zh": "单个回答"},
    "logps": {"en": "Log-probabilities of rows", "zh": "各行的对数概率"},
    "step": {"en": "One step", "zh": "一步"},
    "tokens": {"en": "Where the answer begins", "zh": "回答从哪里开始"},
}
COLUMNS = {
    "en": ("Case", "What it tests", "A convention of"),
    "zh": ("用例", "检查什么", "另有约定"),
}


def tables(edition: Edition) -> str:
    """A heading and a table for each kind of case, in one language."""
    return "\n\n".join(
        f"(conformance--cases-{kind})=\n### {title[edition.lang]}\n\n{table(kind, edition)}"
        for kind, title in KINDS.items()
    )


def table(kind: str, edition: Edition) -> str:
    """The cases of one kind; the last column names who has another convention."""
    content = json.loads((CASES / f"{kind}.json").read_text(encoding="utf-8"))
    lines = [COLUMNS[edition.lang], ("---",) * 3]
    for case in content["cases"]:
        others = {{"trl": "TRL"}.get(c["of"], c["of"]) for c in case.get("conventions", ())}
        name = f"`{case['id']}`"
        lines.append((name, case["title"][edition.lang], edition.comma.join(sorted(others))))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
