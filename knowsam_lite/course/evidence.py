"""What a wrong answer shows of itself: the line that raised an error, and an input where it goes wrong."""

import contextlib
import copy
import functools
import inspect
import linecache
import math
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from knowsam_lite.course.alike import alike

Call = tuple[tuple[Any, ...], dict[str, Any]]
LISTED = 8  # numbers up to which a tensor is printed in full
TRIES = 80  # of smaller inputs; each costs two calls

_compared: ContextVar[list[tuple[Any, Any]] | None] = ContextVar("compared", default=None)


@contextlib.contextmanager
def comparisons() -> Iterator[list[tuple[Any, Any]]]:
    """Within the block, all pairs of tensors that `probes.same` finds unlike: found and expected."""
    noted: list[tuple[Any, Any]] = []
    token = _compared.set(noted)
    try:
        yield noted
    finally:
        _compared.reset(token)


def note(found: Any, expected: Any) -> None:
    """Record two lists of tensors that are not alike, for `comparisons`."""
    noted = _compared.get()
    if noted is not None:
        noted.append((found, expected))


@contextlib.contextmanager
def seeded() -> Iterator[None]:
    """The block begins at seed 0 and leaves the random state of the CPU alone."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def described(error: Exception) -> str:
    """The exception's type and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


def own_line(answer: Any, error: Exception) -> str:
    """The last line of the answer's module that the error passed, in words; "" if it began in the check."""
    home, trace, last = getattr(answer, "__module__", None), error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__") == home:
            last = trace
        trace = trace.tb_next
    if last is None:
        return ""
    code = last.tb_frame.f_code
    text = linecache.getline(code.co_filename, last.tb_lineno).strip()
    return f"line {last.tb_lineno}, in {code.co_name}" + (f": {text}" if text else "")


@dataclass(frozen=True)
class Example:
    """Lines that show an input, what was expected and what was found; `values`: of one shape and type."""

    lines: list[str]
    values: bool


def counterexample(answer: Any, right: Any, judge: Callable[[Any], Any]) -> Example | None:
    """A small input on which a function differs from the right one. For a class, which has no input of its
    own: the first values that `judge` found unlike. None if `judge` finds fault with anything else.
    """
    if inspect.isclass(answer):
        with comparisons() as noted, seeded(), contextlib.suppress(Exception):
            judge(answer)
        return Example(_difference(*noted[0]), _of_values(*noted[0])) if noted else None
    with seeded(), contextlib.suppress(Exception):
        calls: list[Call] = []
        judge(_listening(answer, calls))
    wrong = [call for call in calls if _differs(answer, right, call)]
    if not wrong:
        return None
    args, kwargs = _shrunk(min(wrong, key=_size), lambda call: _differs(answer, right, call))
    found, expected = (_outcome(f, (args, kwargs)) for f in (answer, right))
    given = inspect.signature(right).bind(*args, **kwargs).arguments
    shown = ", ".join(f"{name} = {_shown(value)}" for name, value in given.items())
    return Example([shown, *_difference(found, expected)], _of_values(found, expected))


def _of_values(found: Any, expected: Any) -> bool:
    """True if the first leaves that differ are numbers of one shape and type."""
    f, e = _leaves(found), _leaves(expected)
    unlike = next((pair for pair in zip(f, e, strict=False) if not _alike(*pair)), (None, 0))
    return len(f) == len(e) and all(
        getattr(unlike[0], name, None) == getattr(unlike[1], name, None) for name in ("shape", "dtype")
    )


def _listening(answer: Any, calls: list[Call]) -> Any:
    """The answer, which puts a copy of what it is given at the end of `calls`."""

    @functools.wraps(answer)
    def noted(*args: Any, **kwargs: Any) -> Any:
        with contextlib.suppress(Exception):  # what cannot be copied is no input to show
            calls.append((_copied(args), _copied(kwargs)))
        return answer(*args, **kwargs)

    return noted


def _mapped(change: Callable[[Any], Any], thing: Any) -> Any:
    """The thing with `change` made to every tensor and array inside tuples, lists and dictionaries."""
    if isinstance(thing, Mapping):
        return {name: _mapped(change, value) for name, value in thing.items()}
    if isinstance(thing, list | tuple):
        parts = [_mapped(change, part) for part in thing]
        return type(thing)(*parts) if hasattr(thing, "_fields") else type(thing)(parts)
    return change(thing) if hasattr(thing, "ndim") and hasattr(thing, "dtype") else thing


def _copied(thing: Any) -> Any:
    """A copy that shares nothing; a tensor loses its graph and still wants a gradient if it did."""

    def copied(array: Any) -> Any:
        return (
            array.detach().clone().requires_grad_(array.requires_grad)
            if hasattr(array, "detach")
            else array.copy()
        )

    return copy.deepcopy(_mapped(copied, thing))


def _outcome(f: Any, call: Call) -> Any:
    """What a function returns for copies of these arguments, at seed 0."""
    with seeded():
        args, kwargs = _copied(call[0]), _copied(call[1])
        return f(*args, **kwargs)


def _leaves(thing: Any) -> list[Any]:
    """The parts of a result that can be compared, in order."""
    if isinstance(thing, Mapping):
        return [leaf for name in sorted(thing, key=str) for leaf in (name, *_leaves(thing[name]))]
    if isinstance(thing, list | tuple | set):
        parts = sorted(thing, key=str) if isinstance(thing, set) else thing
        return [leaf for part in parts for leaf in _leaves(part)]
    return [thing]


def _alike(a: Any, b: Any) -> bool:
    """True if two leaves are the same: equal, or tensors or numbers equal within rounding."""
    import torch

    if isinstance(a, float | int) and isinstance(b, float | int):
        return bool(a == b or math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-5) or (a != a and b != b))
    if hasattr(a, "ndim") and hasattr(b, "ndim"):
        return alike([torch.as_tensor(a)], [torch.as_tensor(b)])
    return type(a) is type(b) and bool(a == b)


def _differs(answer: Any, right: Any, call: Call) -> bool:
    """True if both return something for this call, the same at every run, and these are not alike."""
    import torch

    try:
        expected = _leaves(_outcome(right, call))
        found, again = _leaves(_outcome(answer, call)), _leaves(_outcome(answer, call))
        plain = all(isinstance(leaf, float | int | str) or hasattr(leaf, "ndim") for leaf in expected)
        finite = all(torch.as_tensor(leaf).isfinite().all() for leaf in expected if not isinstance(leaf, str))
        steady = len(found) == len(again) and all(map(_alike, found, again))
        return (
            plain
            and finite
            and steady
            and not (len(found) == len(expected) and all(map(_alike, found, expected)))
        )
    except Exception:  # no input to show, whatever the reason
        return False


def _arrays(call: Call) -> list[Any]:
    return [leaf for leaf in _leaves(list(call)) if hasattr(leaf, "ndim")]


def _size(call: Call) -> int:
    return sum(math.prod(getattr(leaf, "shape", ())) for leaf in _leaves(list(call)))


def _smaller(call: Call) -> Iterator[Call]:
    """Calls with fewer numbers, shorter lists, rounder numbers. All axes of one length are cut together."""
    arrays = _arrays(call)
    classes = {array.shape[1] for array in arrays if array.ndim == 4}  # one class alone is no question
    for length in sorted({n for array in arrays for n in array.shape if n > 1}, reverse=True):
        for kept in dict.fromkeys((2 if length in classes else 1, 2, length // 2)):
            if kept < length:
                yield _mapped(functools.partial(_cut, length=length, kept=kept), call)
    args, kwargs = call
    for place, given in enumerate(args):
        if isinstance(given, list) and len(given) > 1:
            for part in (given[: len(given) // 2], given[len(given) // 2 :], given[1:], given[:-1]):
                yield (*args[:place], part, *args[place + 1 :]), kwargs
    for digits in (0, 1):
        yield _mapped(functools.partial(_rounded, digits=digits), call)


def _cut(array: Any, length: int, kept: int) -> Any:
    return array[tuple(slice(kept) if n == length else slice(None) for n in array.shape)]


def _rounded(array: Any, digits: int) -> Any:
    is_real = array.is_floating_point() if hasattr(array, "detach") else array.dtype.kind == "f"
    return array.round(decimals=digits) if is_real else array


def _shrunk(call: Call, fails: Callable[[Call], bool]) -> Call:
    """A call that still fails and has no smaller neighbour that does, as far as `TRIES` go."""
    left = TRIES
    while left > 0:
        size, text = _size(call), _text(call)
        for other in _smaller(call):
            left -= 1
            if (_size(other) < size or _text(other) < text) and fails(other):
                call = other
                break
        else:
            break
    return call


def _text(call: Call) -> int:
    """The length of a call's numbers when they are written out: round ones are shorter."""
    return sum(len(str(array.tolist())) for array in _arrays(call))


def _number(value: Any) -> str:
    return f"{value + 0.0:.4g}" if isinstance(value, float) else str(value)


def _listed(values: Any) -> str:
    return f"[{', '.join(map(_listed, values))}]" if isinstance(values, list) else _number(values)


def _kind(array: Any) -> str:
    return f"{str(array.dtype).removeprefix('torch.')} {tuple(array.shape)}"


def _shown(value: Any) -> str:
    """A value on one line: small tensors in full, large ones by type and shape, modules by name."""
    if hasattr(value, "ndim"):
        return _listed(value.tolist()) if math.prod(value.shape) <= LISTED else _kind(value)
    if isinstance(value, list | tuple) and any(hasattr(part, "ndim") for part in value):
        text = f"[{', '.join(map(_shown, value))}]"
        return text if len(text) <= 100 else f"{type(value).__name__} of {len(value)}"
    text = type(value).__name__ if hasattr(value, "parameters") else " ".join(repr(value).split())
    return text if len(text) <= 100 else text[:97] + "..."


def _difference(found: Any, expected: Any) -> list[str]:
    """Two lines: what was expected and what was found at the first place where they differ."""
    f, e = _leaves(found), _leaves(expected)
    if len(f) != len(e):
        return [f"expected {_shown(expected)}", f"found    {_shown(found)}"]
    a, b = next(pair for pair in zip(f, e, strict=True) if not _alike(*pair))
    if not (hasattr(a, "ndim") and hasattr(b, "ndim")):
        return [f"expected {_shown(b)}", f"found    {_shown(a)}"]
    if a.shape != b.shape or a.dtype != b.dtype:
        return [f"expected {_kind(b)}", f"found    {_kind(a)}"]
    if math.prod(a.shape) <= LISTED:
        return [f"expected {_shown(b)}", f"found    {_shown(a)}"]
    at = _first_difference(a, b)
    return [f"expected {_number(b[at].item())} at {list(at)}", f"found    {_number(a[at].item())}"]


def _first_difference(a: Any, b: Any) -> tuple[int, ...]:
    import torch

    a, b = torch.as_tensor(a).double(), torch.as_tensor(b).double()
    return tuple((~torch.isclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)).nonzero()[0].tolist())
