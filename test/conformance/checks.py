"""Named checks of a client against a running server, many at once. What came of each is one line of JSON on standard output."""

import json
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

URL = sys.argv[1]
BASE = "smollm2-135m-instruct"
FIXTURES = Path(__file__).parent.parent / "fixtures"
CASES = json.loads((FIXTURES / "golden.json").read_text())["cases"]
COUNTING = "1, 2, 3, 4,"
OPEN, MIDDLE = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"

_checks = []
_writing = threading.Lock()


def check(name):
    """Registers a function that fails by raising."""

    def register(function):
        _checks.append((name, function))
        return function

    return register


def case_of(adapter):
    """The first golden case of an adapter."""
    return next(case for case in CASES if case["adapter"] == adapter)


def asked_of(adapter):
    """The text that a user asks in that case, without what the chat template puts around it."""
    prompt = case_of(adapter)["prompt"]
    assert prompt.startswith(OPEN) and prompt.endswith(MIDDLE), prompt
    return prompt[len(OPEN) : -len(MIDDLE)]


def same(found, expected):
    assert found == expected, f"found {found!r}, expected {expected!r}"


def has(text, part):
    assert part in text, f"{text!r} has no {part!r}"


def raises(kind, function, *parts):
    """@return what was raised, which has all these parts in its text"""
    try:
        answer = function()
    except kind as error:
        for part in parts:
            has(str(error), part)
        return error
    raise AssertionError(f"nothing was raised, the answer is {answer!r}")


def together(function, values):
    """The function's results for all values, asked for at once."""
    with ThreadPoolExecutor(len(values)) as pool:
        return list(pool.map(function, values))


def _run(named):
    name, function = named
    fault = None
    try:
        function()
    except Exception as error:  # The line says what it was; the other checks go on.
        where = traceback.extract_tb(error.__traceback__)[-1].lineno if error.__traceback__ else 0
        calls = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == sys.argv[0]]
        fault = f"{type(error).__name__}: {error} (line {calls[-1] if calls else where})"
    with _writing:
        print(json.dumps({"check": name, "fault": fault}), flush=True)


def main():
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(_run, _checks))
