"""The checker: what is an expression, what is it worth, and when is an answer right."""

import ast
import operator
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_core.task import (
    MAX_EXPRESSION,
    BookTask,
    ClassicTask,
    evaluate_expression,
    judge,
    make_prompt,
    make_task,
    read_prompt,
)

ACCEPTED = {
    "0": (1, 0),
    "27+27": (2, 54),
    "-3": (1, -3),
    "-0": (1, 0),
    "5--3": (2, 8),  # a minus, then a sign
    "5+-3": (2, 2),
    "5*-3": (2, -15),
    "-5--3": (2, -2),
    "2+3*4": (3, 14),
    "2*3+4": (3, 10),
    "8-4-2": (3, 2),  # left to right
    "8/4/2": (3, 1),
    "8/4*2": (3, 4),
    "1/3": (2, Fraction(1, 3)),
    "0.5": (1, Fraction(1, 2)),
    "-3.5*2-1": (3, -8),
    "10.00": (1, 10),
    "1-2+3-4": (4, -2),
    "-2*-3": (2, 6),
}
REFUSED = [
    "", " ", "+3", "--3", "5---3", "5++3", "5+", "*5", "5*", "5**3", "2//1", "5*/3", "007", "00", "01.5", "1.", ".5",
    "1.2.3", "1..2", "-", "-.5", "1,5", "1_000", "1 + 2", " 1", "1 ", "1\n", "1\t", "٣", "２", "²", "1e5", "1E5",
    "0x10", "0b1", "1j", "(1)", "(1+2)*3", "1=1", "27+27E", "S1", "1P", "nan", "inf", "x", "__import__",
    "__import__('os')", "1;2", "1:2", "1−2", "1\x00", "1" * (MAX_EXPRESSION + 1), "1+" * 5000 + "1", "9" * 5000,
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ACCEPTED.items(), ids=repr)
def test_grammar_accepts(text, expected):
    """Precedence, left associativity and signs, each on a string that tells the wrong rule apart."""
    assert evaluate_expression(text) == expected


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: repr(text[:20]))
def test_grammar_refuses(text):
    """`int()` and `\\d` accept Unicode digits and underscores; `$` accepts a newline; `eval` accepts everything."""
    with pytest.raises(ValueError):
        evaluate_expression(text)
    assert not judge("S1=", text + "E").well_formed


def test_longest_expression_is_accepted():
    """The limit counts characters: the last one inside it must still be read."""
    assert evaluate_expression("1" * MAX_EXPRESSION) == (1, int("1" * MAX_EXPRESSION))


numbers = st.tuples(
    st.sampled_from(["", "-"]),
    st.integers(0, 120).map(str),
    st.sampled_from(["", ".0", ".5", ".25", ".00", ".125"]),
).map("".join)
expressions = st.lists(st.tuples(st.sampled_from("+-*/"), numbers), min_size=1, max_size=7).map(
    lambda pairs: "".join(op + number for op, number in pairs)[1:]
)
OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def by_python(text: str) -> Fraction:
    """Python's own parser on the text, exact fractions at the leaves."""

    def value(node):
        if isinstance(node, ast.BinOp):
            return OPERATORS[type(node.op)](value(node.left), value(node.right))
        if isinstance(node, ast.UnaryOp):
            return -value(node.operand)
        return Fraction(ast.get_source_segment(text, node))

    return value(ast.parse(text, mode="eval").body)


@settings(deadline=None, max_examples=300)
@given(expressions)
def test_value_equals_that_of_pythons_parser(text):
    """An independent oracle for precedence, signs, decimals and division by zero."""
    try:
        expected = by_python(text)
    except ZeroDivisionError:
        expected = None
    count, found = evaluate_expression(text)
    assert found == expected
    assert count == sum(
        isinstance(node, ast.Constant) for node in ast.walk(ast.parse(text, mode="eval"))
    )


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="0123456789+-*/.", max_size=12))
def test_what_the_grammar_accepts_python_accepts_too(text):
    """A parser more generous than the grammar would count malformed answers as well formed."""
    try:
        evaluate_expression(text)
    except ValueError:
        return
    ast.parse(text, mode="eval")


@pytest.mark.parametrize("text", ["1/0", "0/0", "5/0.00", "1/-0", "3+1/0*0", "1/0/0"])
def test_division_by_zero_is_well_formed_but_never_exact(text):
    """An exception would end an evaluation; a value of 0 or infinity would count as an answer."""
    verdict = judge("S0=", text + "E", tolerance=Fraction(10**9))
    assert verdict.well_formed and verdict.value is None and not verdict.exact


@pytest.mark.parametrize(
    ("completion", "well_formed", "exact"),
    [
        ("27+27E", True, True),
        ("27+28E", True, False),
        ("54E", True, True),
        ("27+27", False, False),
        ("27+27EE", False, False),
        ("27+27E+0E", False, False),
        ("E27+27E", False, False),
        ("27+27EP", False, False),
        ("S54=27+27E", False, False),
        ("E", False, False),
        ("", False, False),
    ],
)
def test_an_answer_ends_in_exactly_one_e(completion, well_formed, exact):
    """Stripping every E, or not asking for one, counts cut-off answers as finished."""
    verdict = judge("S54=", completion)
    assert (verdict.well_formed, verdict.exact) == (well_formed, exact)
    assert (verdict.numbers == 0) == (not well_formed)


def test_tolerance_includes_its_bound():
    """`<` in place of `<=` rejects a correctly rounded half cent; floats would blur the bound."""
    assert judge("S0.33=", "1/3E", Fraction(1, 200)).exact
    assert judge("S0.00=", "0.005E", Fraction(1, 200)).exact
    assert not judge("S0.00=", "0.0050000000000000001E", Fraction(1, 200)).exact
    assert not judge("S0.33=", "1/3E").exact


@pytest.mark.parametrize(
    ("text", "style"), [("1+1E", False), ("1+1+0E", True), ("1E", False), ("1+1+0+0E", False)]
)
def test_style_means_exactly_three_numbers(text, style):
    """`>= 3` would reward ever longer answers."""
    assert judge("S2=", text).style is style


@pytest.mark.parametrize(
    ("target", "prompt"),
    [
        ("54", "S54="),
        (-12, "S-12="),
        ("3.25", "S3.25="),
        ("S54=", "S54="),
        (Fraction(7), "S7="),
        (0, "S0="),
    ],
)
def test_make_prompt(target, prompt):
    """A prompt given whole must not be wrapped again."""
    assert make_prompt(target) == prompt
    assert read_prompt(prompt) == Fraction(prompt[1:-1])


@pytest.mark.parametrize(
    "text",
    ["", "54=", "S54", "S=", "=", "S", "five", "5 4", "S5 4=", "٣", "1e3", "1/3", "+5", "05"],
)
def test_make_prompt_refuses(text):
    """A malformed prompt that reaches the model yields nonsense that looks like an answer."""
    with pytest.raises(ValueError, match=r"accepted are|such as"):
        make_prompt(text)


def test_missing_equals_sign_is_named():
    """The seed's most common slip: a prompt without its `=`."""
    with pytest.raises(ValueError, match="no '='"):
        judge("S54", "27+27E")


def test_make_task_names_the_tasks():
    """A misspelt task must not fall back to the default."""
    assert make_task("book") == BookTask() and make_task("classic") == ClassicTask()
    with pytest.raises(ValueError, match="'bok'; accepted are book, classic"):
        make_task("bok")
