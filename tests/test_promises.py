"""docs/promises.md: every promise has a test that exists, and says truly what is not built yet."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "promises.md").read_text()
PROMISED = {
    *(f"F{number}" for number in (*range(1, 35), *range(40, 44), *range(45, 49))),
    *(f"S{number}" for number in (*range(1, 6), 8, 10, 11, *range(14, 24), 26, 27, 31, 32, 34)),
}
TEST = re.compile(r"(tests/[\w/]+\.py)::(\w+)")


class Promise(NamedTuple):
    """A line of the page: the tests that show it, and those that show what is missing."""

    number: str
    words: str
    shown: list[tuple[str, str]]
    missing: list[tuple[str, str]]


def promises() -> list[Promise]:
    rows = (line.strip("|").split("|") for line in PAGE.splitlines() if re.match(r"\| [FS]\d+ \|", line))
    found = []
    for number, words, shown, missing in rows:
        found.append(Promise(number.strip(), words.strip(), TEST.findall(shown), TEST.findall(missing)))
    return found


@cache
def of_file(path: str) -> dict[str, bool]:
    """The tests of a file, and whether each is marked as one that fails for now."""
    tree = ast.parse((ROOT / path).read_text(), path)
    found = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {node.name: any(map(expects_failure, node.decorator_list)) for node in found if node.name.startswith("test")}


def expects_failure(decorator: ast.expr) -> bool:
    """`pytest.mark.xfail`, which must be strict: a promise that came to hold is to be noticed."""
    text = ast.unparse(decorator)
    if not text.startswith("pytest.mark.xfail"):
        return False
    assert "strict=True" in text, text
    return True


def problem(path: str, name: str, *, fails: bool) -> str:
    """What is wrong with a reference, or nothing."""
    if not (ROOT / path).is_file():
        return f"no file {path}"
    if name not in of_file(path):
        return f"no test {name} in {path}"
    if of_file(path)[name] != fails:
        return f"{name} is {'not ' if fails else ''}marked as failing for now: it belongs in the other column"
    return ""


@pytest.mark.parametrize("promise", promises(), ids=lambda promise: promise.number)
def test_a_promise_is_shown_by_tests_that_exist(promise: Promise) -> None:
    problems = [problem(*test, fails=False) for test in promise.shown]
    problems += [problem(*test, fails=True) for test in promise.missing]
    assert not any(problems), [text for text in problems if text]
    assert promise.shown or promise.missing, f"{promise.number} has no test"
    assert len(promise.words) > 20


def test_every_promise_has_one_line() -> None:
    numbers = [promise.number for promise in promises()]
    assert sorted(numbers) == sorted(PROMISED)


def test_every_fault_that_is_known_not_to_be_survived_is_on_the_page() -> None:
    files = sorted((ROOT / "tests" / "faults").glob("test_*.py"))
    failing = {(str(file.relative_to(ROOT)), name) for file in files for name, fails in every_test(file) if fails}
    assert failing == {test for promise in promises() for test in promise.missing}


def every_test(file: Path) -> list[tuple[str, bool]]:
    return list(of_file(str(file.relative_to(ROOT))).items())


def test_tests_that_carry_a_number_are_of_a_promise() -> None:
    """So that no number is mistyped: in the faults' own package every name begins with one that is promised."""
    for file in (ROOT / "tests" / "faults").glob("test_*.py"):
        for name, _ in every_test(file):
            for letter, number in re.findall(r"_([fs])(\d+)(?=_)", name):
                assert f"{letter.upper()}{int(number)}" in PROMISED, name


@pytest.mark.parametrize(
    ("reference", "fails", "words"),
    [
        (("tests/nowhere.py", "test_x"), False, "no file"),
        (("tests/test_promises.py", "test_nothing"), False, "no test"),
        (("tests/test_promises.py", "test_every_promise_has_one_line"), True, "other column"),
    ],
)
def test_what_is_wrong_is_found(reference: tuple[str, str], fails: bool, words: str) -> None:
    assert words in problem(*reference, fails=fails)
