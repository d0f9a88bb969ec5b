"""One fault of a data set, and the exception that carries it."""

from dataclasses import dataclass

from knowsam_lite.errors import UserError


@dataclass(frozen=True)
class Finding:
    """What is wrong with one file: `message` says what was found and expected, `fix` what to do.

    `severity` is "error" (training would stop or go wrong), "warning" (worth a look) or "info" (the summary).
    `file` is relative to the data set's folder.
    """

    severity: str
    file: str
    message: str
    fix: str = ""

    def __str__(self) -> str:
        text = "; ".join(part for part in (f"{self.file}: {self.message}", self.fix) if part)
        return "".join(
            sign if sign.isprintable() else " " for sign in text
        )  # what files hold may be anything


class Fault(UserError):
    """A UserError about one file; `finding` holds its parts."""

    def __init__(self, finding: Finding | str) -> None:
        super().__init__(str(finding))
        self.finding = finding if isinstance(finding, Finding) else Finding("error", "", finding)


def fault(file: object, message: str, fix: str) -> Fault:
    """The exception for an error in `file`."""
    return Fault(Finding("error", str(file), message, fix))
