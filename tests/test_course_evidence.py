"""What a check says of an answer that is wrong in its own way: nothing false, and something to look at."""

import pytest
import torch
import torch.nn.functional as F
from helpers.chapters import NAMES, exercise_cells
from torch import Tensor, nn

from knowsam_lite.course.alike import alike
from knowsam_lite.course.checks import (
    Checker,
    Exercise,
    Mistake,
    Property,
    diagnose,
    failures,
    find_exercise,
    fingerprint,
    suspects,
    verdicts,
)
from knowsam_lite.course.evidence import counterexample, own_line

NUMBERS = [number for name in NAMES for number in exercise_cells(name)]


def said(number, answer, capsys):
    Checker()(number, answer)
    return capsys.readouterr().out


def marks(number, answer):
    return {name: verdict.mark for name, verdict in verdicts(find_exercise(number), answer).items()}


@pytest.mark.parametrize("number", NUMBERS)
def test_the_right_answer_with_which_others_are_compared_is_right(number):
    exercise = find_exercise(number)
    assert failures(exercise, exercise.right) == {}


# ---------------------------------------------------------------- "-": not to be judged


def test_what_an_earlier_error_hides_is_not_called_wrong(capsys):
    def mix(x_l, y_l, x_u, y_u, regions_l, regions_u):
        return x_l.nothing_of_the_kind

    assert list(marks("09.4", mix).values()) == ["no"] + ["-"] * 6
    text = said("09.4", mix, capsys)
    assert text.count("Your code raised AttributeError") == 1
    assert "in mix: return x_l.nothing_of_the_kind" in text
    assert "  -   dtype " in text and "cannot be judged yet" in text


def test_another_error_at_another_line_is_news():
    def soften(z, temperature):
        if z.dtype == torch.bfloat16:
            raise KeyError("half")
        if temperature == 1:
            raise ValueError("one")
        return z.softmax(dim=1)

    found = verdicts(find_exercise("08.1"), soften)
    assert {v.why.split(":")[0] for v in found.values() if v.mark == "no" and v.why} == {
        "Your code raised KeyError",
        "Your code raised ValueError",
    }


def test_a_wrong_type_alone_does_not_turn_the_values_wrong():
    def soften(z, temperature):
        return (z.float() / temperature).softmax(dim=1).double()

    found = marks("08.1", soften)
    assert found["dtype"] == "no" and found["value"] == "-"
    assert set(marks("08.1", lambda z, t: 2 * soften(z, t)).values()) >= {"no"}
    assert marks("08.1", lambda z, t: 2 * soften(z, t))["value"] == "no", "these are wrong, too"


def test_a_refusal_with_another_exception_is_called_so(capsys):
    def uncertainty_map(z, grid=4):
        if z.shape[-1] % grid or z.shape[-2] % grid:
            raise ValueError("the grid does not divide")
        log_p = z.float().log_softmax(dim=1)
        h = -(log_p.exp() * log_p).sum(dim=1, keepdim=True) / torch.tensor(z.shape[1]).log()
        return F.adaptive_avg_pool2d(h, grid)[:, 0]

    text = said("09.1", uncertainty_map, capsys)
    assert "but not with a UserError" in text and "is not refused" not in text


def test_the_values_being_right_a_mistake_needs_the_same_properties():
    """The probes of 01.1 ask nothing that has to be refused: what else is wrong does not become that."""

    def assign_splits(groups, val, test, seed):
        return {**find_exercise("01.1").right(groups, val, test, seed)} if seed < 5 else {}

    exercise = find_exercise("01.1")
    assert alike(fingerprint(exercise, assign_splits), fingerprint(exercise, exercise.right))
    assert diagnose(exercise, assign_splits) is None
    assert suspects(exercise, assign_splits) == []


# ---------------------------------------------------------------- candidates


def test_only_mistakes_with_the_same_values_are_offered():
    right = 1.0

    def toy(*values):
        return torch.tensor(values)

    exercise = Exercise(
        "99.1",
        "a toy",
        probe=lambda values: list(values),
        properties=(Property("value", "one", lambda v: bool((v == right).all())),),
        mistakes=tuple(Mistake(str(a), "", "", toy(right, a, a)) for a in (2.0, 3.0, 4.0)),
        right=toy(right, right, right),
    )
    assert [m.name for m in suspects(exercise, toy(7.0, 3.0, 3.0))] == ["3.0"]
    assert [m.name for m in suspects(exercise, toy(7.0, 2.0, 4.0))] == ["2.0", "4.0"], "half of each"
    assert suspects(exercise, toy(7.0, 8.0, 9.0)) == [], "as wrong, but elsewhere"
    assert suspects(exercise, toy(7.0, right, 3.0)) == [], "right where that mistake is wrong"


# ---------------------------------------------------------------- examples


def halves(z):
    return z / 2


def test_the_example_is_as_small_as_the_mistake_allows():
    def wrong(z: Tensor) -> Tensor:
        return torch.where(z.amax(dim=(2, 3), keepdim=True) > 0.5, z / 3, z / 2)

    def judge(f):
        f(torch.rand(3, 4, 8, 8) / 2)
        f(torch.rand(3, 4, 6, 6))
        f(torch.rand(3, 4, 8, 8))

    example = counterexample(wrong, halves, judge)
    assert example.values
    given, expected, found = example.lines
    assert given == "z = [[[[0]], [[1]]]]", "one image and pixel of two classes, and round numbers"
    assert expected == "expected [[[[0]], [[0.5]]]]" and found == "found    [[[[0]], [[0.3333]]]]"


def test_an_example_names_the_arguments_and_a_place_in_a_large_tensor():
    def wrong(z, table, net):
        out = net(z).clone()
        out[-1, 2] += table["plus"]
        return out

    net = nn.Linear(5, 12)
    call = (torch.ones(4, 5), {"plus": 1.0}, net)
    example = counterexample(wrong, lambda z, table, net: net(z), lambda f: f(*call))
    assert example.lines[0].endswith("table = {'plus': 1.0}, net = Linear")
    assert example.lines[1].split(" at ")[1] in ("[3, 2]", "[0, 2]")


def test_shapes_and_types_are_shown_where_they_differ():
    example = counterexample(lambda z: z.double() / 2, halves, lambda f: f(torch.ones(1)))
    assert example.lines[1:] == ["expected float32 (1,)", "found    float64 (1,)"] and not example.values
    example = counterexample(lambda z: [1, 2], lambda z: [1, 3, "a"], lambda f: f(torch.ones(1)))
    assert example.lines[1:] == ["expected [1, 3, 'a']", "found    [1, 2]"]


@pytest.mark.parametrize(
    "answer",
    [lambda z: z / 2, lambda z: torch.rand(()) + torch.Generator().seed() * z, lambda z: z.nothing],
    ids=["right", "random", "raises"],
)
def test_there_is_no_example_where_none_can_be_shown(answer):
    assert counterexample(answer, halves, lambda f: f(torch.ones(2))) is None


def test_a_class_shows_the_first_values_that_are_unlike(capsys):
    class Adapter(nn.Module):
        def __init__(self, dim: int, skip: bool, ratio: float = 0.25):
            super().__init__()
            self.down, self.up, self.skip = (
                nn.Linear(dim, int(dim * ratio)),
                nn.Linear(int(dim * ratio), dim),
                skip,
            )
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)

        def forward(self, x: Tensor) -> Tensor:
            change = self.up(F.gelu(self.down(x)).square())
            return x + change if self.skip else change

    text = said("06.3", Adapter, capsys)
    assert "An example for value" in text and "\n    expected " in text and "\n    found    " in text


def test_the_answers_own_line_is_the_last_one_of_its_module():
    def inner(x):
        return x.reshape(7)

    def outer(x):
        return inner(x)

    with pytest.raises(RuntimeError) as caught:
        outer(torch.ones(2))
    assert own_line(outer, caught.value).endswith("in inner: return x.reshape(7)")
    elsewhere = type("Elsewhere", (), {"__module__": "somewhere.else"})
    assert own_line(elsewhere, caught.value) == ""


def test_what_the_check_cannot_use_is_not_blamed_on_the_answers_code():
    def two_plain_numbers(pred, true):
        return [1, 2]

    (verdict, *_) = (v for v in verdicts(find_exercise("01.4"), two_plain_numbers).values() if v.why)
    assert verdict.why.startswith("The check could not use your answer: AttributeError")
