"""Each chapter's .py and its stored .ipynb are one: the same cells, executed, small, and fit for every machine.

A rule is a function of a notebook that yields what is wrong. The sources themselves are compared by `book.notebooks`.
"""

import base64
import re

import nbformat
import pytest

import prose
import sample
import sources
from book import notebooks

MOST_BYTES = 1_500_000
MOST_LINES = 25
MOST_COLUMNS = 88


def executed(notebook):
    """Every code cell has run, in order, and without an error."""
    expected = 1
    for cell in code_cells(notebook):
        if cell.execution_count != expected:
            yield f"execution count {cell.execution_count} where {expected} is due: {notebooks.first_line(cell)}"
        expected = (cell.execution_count or expected) + 1
        if any(output.output_type == "error" for output in cell.outputs):
            yield f"a stored error: {notebooks.first_line(cell)}"


def short(notebook):
    """A cell of code fits on a screen."""
    for cell in code_cells(notebook):
        if (lines := len(cell.source.splitlines())) > MOST_LINES:
            yield f"{lines} lines, more than {MOST_LINES}: {notebooks.first_line(cell)}"


def narrow(notebook):
    """Code, and what a chapter shows of the library, fits on a page without scrolling sideways."""
    for cell in code_cells(notebook):
        lines = cell.source.splitlines()
        if "getsource(" in cell.source:
            lines += "".join(output.get("text", "") for output in cell.outputs).splitlines()
        for line in lines:
            if len(line) > MOST_COLUMNS:
                yield f"{len(line)} columns, more than {MOST_COLUMNS}: {line}"


def plain_markdown(notebook):
    """No directive or role of the site: a chapter reads well without it."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = prose.CODE.sub("\0", prose.FENCE.sub("", cell.source))
            directive = re.search(r"^\s*:::+", text, re.M) or re.search(
                r"^\s*(```+|~~~+)\{", cell.source, re.M
            )
            if found := directive or re.search(r"\{[\w:-]+\}\0", text):
                yield f"the site's own syntax, {found[0].strip()}: {notebooks.first_line(cell)}"


def described(notebook):
    """A picture has an alt text in each language and a numbered caption after it; nothing else has an alt text."""
    for cell, after in zip(notebook.cells, [*notebook.cells[1:], None], strict=True):
        alts = [cell.metadata.get(f"alt_{lang}") for lang in ("en", "zh")]
        if not shows_picture(cell):
            if any(alts):
                yield f"an alt text, but no picture: {notebooks.first_line(cell)}"
            continue
        if not all(alts):
            yield f"a picture without alt_en and alt_zh: {notebooks.first_line(cell)}"
        if after is None or not re.match(r"\*\*Figure \d+\.\d+\.\*\* ", after.source):
            yield f"a picture without a caption (**Figure 1.1.** ...) after it: {notebooks.first_line(cell)}"


def in_each_language(notebook):
    """A picture is drawn once for each language, and its code is folded where it only draws."""
    for cell in code_cells(notebook):
        drawn = [
            output.metadata.get("lang")
            for output in cell.outputs
            if any(kind.startswith("image/") for kind in output.get("data", {}))
        ]
        if drawn and drawn != ["en", "zh"]:
            yield f"pictures in {drawn}, not in en and zh: {notebooks.first_line(cell)}"
        if drawn and "figure" not in cell.metadata.get("tags", []):
            yield f"a picture whose cell is not tagged figure: {notebooks.first_line(cell)}"


def pictures_are_png(notebook):
    """Pixels differ from machine to machine; nbval compares SVG and leaves PNG alone."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if "image/svg+xml" in output.get("data", {}) or "<svg" in shown(output):
                yield f"a picture as SVG: {notebooks.first_line(cell)}"


def portable(notebook):
    """No output names a folder of the machine that made it, or an address in its memory."""
    folder = r"(?<![\w.:/])/(?:home|Users|root|tmp|private|opt|usr|var|mnt|content)/|\b[A-Z]:\\\w"
    own = rf"{folder}|\b0x[0-9a-f]{{6,}}|{re.escape(str(notebooks.ROOT))}"
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if found := re.search(own, shown(output)):
                yield f"{found[0]} in the output of: {notebooks.first_line(cell)}"


def timeless(notebook):
    """No metadata but the book's own: no times, no widget state, no version of the interpreter. Nothing from stderr."""
    if notebook.metadata != notebooks.NOTEBOOK_METADATA:
        yield "the notebook's metadata is not the book's"
    for cell in notebook.cells:
        if extra := cell.metadata.keys() - notebooks.CELL_KEYS:
            yield f"metadata {', '.join(sorted(extra))}: {notebooks.first_line(cell)}"
        if any(output.get("name") == "stderr" for output in cell.get("outputs", [])):
            yield f"stored stderr: {notebooks.first_line(cell)}"


RULES = [
    executed,
    short,
    narrow,
    plain_markdown,
    described,
    in_each_language,
    pictures_are_png,
    portable,
    timeless,
]


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shows_picture(cell):
    return any(
        kind.startswith("image/")
        for output in cell.get("outputs", [])
        for kind in output.get("data", {})
    )


def shown(output):
    """The text of an output, of whatever kind."""
    kinds = output.get("data", {})
    return "\n".join(
        [output.get("text", ""), *(kinds[kind] for kind in kinds if kind.startswith("text/"))]
    )


# ---------------------------------------------------------------- the book's notebooks

STORED = sorted(sources.CHAPTERS.glob("*.ipynb"))
NOTEBOOKS = pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)


@pytest.mark.parametrize("path", sources.chapters(), ids=lambda path: path.stem)
def test_notebook_holds_its_source(path):
    faults = notebooks.check(path)
    assert not faults, "\n".join([f"{path.name}: run `make chapters`", *faults])


@NOTEBOOKS
def test_notebook_has_a_source(path):
    assert path.with_suffix(".py") in sources.chapters()


@NOTEBOOKS
def test_notebook_is_small(path):
    assert path.stat().st_size < MOST_BYTES


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@NOTEBOOKS
def test_notebook_is(path, rule):
    faults = list(rule(nbformat.read(path, as_version=4)))
    assert not faults, "\n".join([path.name, *faults])


# ---------------------------------------------------------------- the rules' own tests


@pytest.fixture
def notebook(tmp_path):
    """The sample chapter as if executed."""
    path = tmp_path / "99_sample.py"
    path.write_text(sample.CHAPTER, encoding="utf-8")
    notebook = notebooks.read_source(path)
    for count, cell in enumerate(code_cells(notebook), 1):
        cell.execution_count = count
    picture = {
        "image/png": base64.b64encode(b"png").decode(),
        "text/plain": "<Figure size 640x480 with 1 Axes>",
    }
    code_cells(notebook)[1].outputs = [
        nbformat.v4.new_output("display_data", data=picture, metadata={"lang": lang})
        for lang in ("en", "zh")
    ]
    return notebook


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_sample_is_sound(notebook, rule):
    assert list(rule(notebook)) == []


def damage(cell, **changes):
    for name, value in changes.items():
        setattr(cell, name, value)


def prints(text, name="stdout"):
    return [nbformat.v4.new_output("stream", name=name, text=text)]


@pytest.mark.parametrize(
    ("rule", "harm"),
    [
        (executed, lambda code, text: damage(code[0], execution_count=None)),
        (executed, lambda code, text: damage(code[2], execution_count=7)),
        (
            executed,
            lambda code, text: damage(
                code[0], outputs=[nbformat.v4.new_output("error", ename="E")]
            ),
        ),
        (short, lambda code, text: damage(code[0], source="x = 1\n" * 26)),
        (
            narrow,
            lambda code, text: damage(
                code[0], source="print(getsource(f))", outputs=prints("x" * 89)
            ),
        ),
        (narrow, lambda code, text: damage(code[0], source="x = " + "1" * 85)),
        (in_each_language, lambda code, text: code[1].outputs.pop()),
        (in_each_language, lambda code, text: code[1].outputs[0].metadata.clear()),
        (in_each_language, lambda code, text: code[1].metadata.pop("tags")),
        (plain_markdown, lambda code, text: damage(text[0], source="A\n:::{note}\nB\n:::")),
        (plain_markdown, lambda code, text: damage(text[0], source="See {ref}`there`.")),
        (plain_markdown, lambda code, text: damage(text[0], source="```{note}\nA\n```")),
        (described, lambda code, text: code[1].metadata.pop("alt_zh")),
        (described, lambda code, text: damage(text[4], source="No caption.")),
        (described, lambda code, text: damage(code[1], outputs=[])),
        (
            pictures_are_png,
            lambda code, text: code[1].outputs[0].data.update({"image/svg+xml": "<svg/>"}),
        ),
        (
            pictures_are_png,
            lambda code, text: code[1].outputs[0].data.update({"text/html": "<svg></svg>"}),
        ),
        (portable, lambda code, text: damage(code[0], outputs=prints("/home/ann/gen.model"))),
        (portable, lambda code, text: damage(code[0], outputs=prints(r"C:\Users\ann"))),
        (portable, lambda code, text: damage(code[0], outputs=prints(f"in {notebooks.ROOT}/x"))),
        (
            portable,
            lambda code, text: damage(code[0], outputs=prints("<object object at 0x7f8e2c0d3a10>")),
        ),
        (
            timeless,
            lambda code, text: code[0].metadata.update(execution={"iopub.execute_input": "12:00"}),
        ),
        (timeless, lambda code, text: damage(code[0], outputs=prints("warning", name="stderr"))),
    ],
)
def test_rule_notices(notebook, rule, harm):
    harm(code_cells(notebook), [cell for cell in notebook.cells if cell.cell_type == "markdown"])
    assert list(rule(notebook))


@pytest.mark.parametrize(
    "source", ["In code, `{n}` and `:::`.", "```\n:::\n```", r"$\mathrm{ref}$ and `x`"]
)
def test_plain_markdown_is_content(notebook, source):
    notebook.cells[0].source = source
    assert list(plain_markdown(notebook)) == []


def test_timeless_notices_the_notebooks_own_metadata(notebook):
    notebook.metadata = nbformat.from_dict({**notebooks.NOTEBOOK_METADATA, "widgets": {}})
    assert list(timeless(notebook))
