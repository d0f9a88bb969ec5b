"""The exception for errors that the user can fix, and the door at which every error becomes one line."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TextIO


class UserError(Exception):
    """A mistake in the input: one line that says what was found, what was expected and what to do.

    The command line prints the message without a traceback and exits with code 2.
    """


def exit_code(command: Callable[[], int]) -> int:
    """Run a whole program and return its exit code; what the user can do something about is one line.

    2 after a UserError, an error of the system, or too little memory; 130 after Ctrl-C; 0 if whoever read the
    output stopped reading. Any other exception is a defect and keeps its traceback.
    """
    _prepare_streams()
    try:
        try:
            code = command()
            sys.stdout.flush()  # else a closed pipe or a full disk would be met when nobody handles it
            return code
        except BrokenPipeError:
            return 0
        except KeyboardInterrupt as stop:
            return _say(f"stopped: {str(stop) or 'what was complete is kept'}", 130)
        except UserError as error:
            return _say(f"error: {' '.join(str(error).splitlines())}", 2)
        except OSError as error:
            return _say(f"error: {_of_the_system(error)}", 2)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            found = "error: found too little memory, expected room for this batch and image size"
            return _say(f"{found}: lower them, or close other programs", 2)
    finally:
        for stream in (sys.stdout, sys.stderr):
            _leave(stream)


def reason_of(error: BaseException) -> str:
    """What the system said, in an exception or in those that led to it; "" if it said nothing."""
    return next((_reason(each) for each in _chain(error) if isinstance(each, OSError)), "")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__


def _of_the_system(error: OSError) -> str:
    where = "a file, a folder or the output" if error.filename is None else error.filename
    return (
        f"found {where} unusable ({_reason(error)}), expected to read or write there: make room, or check "
        "the path and your rights"
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether a GPU or the CPU had no room left."""
    torch = sys.modules.get("torch")  # without it nothing ran on a GPU
    if torch is not None and isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    # On CPUs PyTorch has no class of its own for it.
    on_cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return isinstance(error, MemoryError) or on_cpu


def _prepare_streams() -> None:
    """Gives a service or a windowed Python, which has none, streams to write to, and lets the others write
    any name: what their code does not have appears as \\u75c5, a byte that is no UTF-8 as \\udcfc.
    """
    for descriptor in range(3):  # a file opened later must not become the place where C code prints
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, open to the end
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _say(line: str, code: int) -> int:
    with suppress(OSError):  # nobody reads it
        print(line, file=sys.stderr, flush=True)
    return code


def _leave(stream: TextIO) -> None:
    """Empties a stream, into nothing if it is broken: Python would complain of it when it ends."""
    try:
        stream.flush()
    except OSError:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
