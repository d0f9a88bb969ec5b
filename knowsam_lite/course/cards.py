"""The card of an exercise: the line below its heading, and how far the learner is."""

from collections.abc import Mapping

from knowsam_lite.course import progress
from knowsam_lite.course.audience import by_a_person
from knowsam_lite.course.told import KINDS, Line, tell


def card_line(difficulty: int, importance: int, minutes: int, state: str) -> str:
    """What a card says."""
    return f"Difficulty {difficulty} of 5 · importance {importance} of 5 · {minutes} minutes · {state}"


class Cards:
    """The cards shown by a notebook, each renewed in its place when its exercise is checked."""

    def __init__(self) -> None:
        self.shown: dict[str, dict[str, int]] = {}  # number -> difficulty, importance, minutes

    def show(self, number: str, numbers: Mapping[str, int], results: Mapping[str, str]) -> None:
        """Show a card. The state is that of `results`, or what a person has reached before."""
        self.shown[number] = dict(numbers)
        self._tell(number, results, again=False)

    def renew(self, number: str, results: Mapping[str, str]) -> None:
        """Change the state on a card, if it was shown."""
        if number in self.shown:
            self._tell(number, results, again=True)

    def _tell(self, number: str, results: Mapping[str, str], again: bool) -> None:
        kept = progress.load() if by_a_person() else {}
        state = progress.merged(kept, results).get(number, progress.OPEN)
        line = Line(card_line(**self.shown[number], state=state), KINDS.get(state, "quiet"))
        tell([line], place=f"exercise-{number}", again=again)
