"""The course's engine: checks, mistakes, quiz, budget, the first cell and the builder."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from helpers.chapters import (
    NAMES,
    SOURCES,
    answer,
    chapter,
    code_cells,
    committed,
    environment,
    exercise_cells,
)

from knowsam_lite import uncertainty
from knowsam_lite.course import budget, builder, check, marking, quiz, show
from knowsam_lite.course.alts import literals, numbered
from knowsam_lite.course.checks import (
    Checker,
    Exercise,
    Mistake,
    Property,
    diagnose,
    failures,
    find_exercise,
    is_librarys,
)
from knowsam_lite.course.pages import pages
from knowsam_lite.course.timing import time_of, words
from knowsam_lite.errors import UserError
from knowsam_lite.figures import panels
from knowsam_lite.methods import Method, SamDistillation, Supervised
from knowsam_lite.methods.with_sam import WithSam

# `knowsam_lite.course.setup` is the function; this is the file that it stands in.
setup_file = sys.modules["knowsam_lite.course.setup"]
EXERCISES = [(name, number) for name in NAMES for number in exercise_cells(name)]
MISTAKES = [
    pytest.param(number, mistake, id=f"{number} {mistake.name}")
    for _, number in EXERCISES
    for mistake in find_exercise(number).mistakes
]


# ---------------------------------------------------------------- checks and mistakes


@pytest.mark.parametrize(("name", "number"), EXERCISES)
def test_the_solution_passes_every_check(name, number, capsys):
    one = Checker()
    one(number, answer(name, number))
    text = capsys.readouterr().out
    assert "  no  " not in text and "All properties hold." in text
    assert one.results[number] == "done"


@pytest.mark.parametrize(("name", "number"), EXERCISES)
def test_an_untouched_stub_is_not_started(name, number, capsys):
    what, source = exercise_cells(name)[number]
    blanks = next(c.metadata.blank for c in code_cells(chapter(name)) if c.source == source)
    stub = answer(name, number, builder.blanked(source, blanks))
    one = Checker()
    one(number, stub)
    assert capsys.readouterr().out == f"{number}  {find_exercise(number).title}: not started\n"
    assert one.results[number] == "not started"
    assert stub.__doc__, f"{what} has lost its docstring"


@pytest.mark.parametrize(("number", "mistake"), MISTAKES)
def test_a_catalogued_mistake_fails_with_its_own_message(number, mistake, capsys, monkeypatch):
    exercise = find_exercise(number)
    assert failures(exercise, mistake.answer)
    assert diagnose(exercise, mistake.answer) is mistake
    monkeypatch.setattr("knowsam_lite.course.checks.is_librarys", lambda _: False)  # they are made of it
    Checker()(number, mistake.answer)
    text = capsys.readouterr().out
    assert f"What happened: {mistake.says}" in text and f"What helps: {exercise.help_for(mistake)}" in text
    assert [m.says for m in exercise.mistakes].count(mistake.says) == 1


def test_every_exercise_has_a_chapter_a_catalogue_and_an_equation():
    for _, number in EXERCISES:
        assert len(find_exercise(number).mistakes) >= 3
    for name in NAMES:
        module = __import__(f"knowsam_lite.course.chapters.ch{name[:2]}", fromlist=["EXERCISES"])
        assert {e.number for e in module.EXERCISES} == set(exercise_cells(name))
        assert len(module.QUIZ) == 5


def test_the_librarys_own_object_is_no_answer(capsys):
    from knowsam_lite.aggregation import HybridAggregation

    one = Checker()
    one("05.1", uncertainty.entropy_map)
    one("05.4", type("Mine", (HybridAggregation,), {"__module__": "__main__"}))
    assert capsys.readouterr().out.count("is the library's own") == 2
    assert set(one.results.values()) == {"to mend"}


def test_an_heir_of_a_contract_is_an_answer_and_one_of_a_method_is_not():
    heirs = {
        base: type("Mine", (base,), {"__module__": "__main__"}) for base in (Method, WithSam, Supervised)
    }
    assert [is_librarys(heir) for heir in heirs.values()] == [False, False, True]
    assert is_librarys(SamDistillation)


def test_an_unknown_mistake_is_met_with_the_error_and_the_hints(capsys):
    def broken(z):
        return z.nothing_of_the_kind

    Checker()("05.1", broken)
    text = capsys.readouterr().out
    assert "Your code raised AttributeError" in text and "hints stand above exercise 05.1" in text


def test_of_two_mistakes_at_once_the_fitting_ones_are_named(capsys, monkeypatch):
    """An answer is the set of the letters that it gets wrong."""
    exercise = Exercise(
        "99.1",
        "a toy",
        probe=lambda wrong: [torch.tensor(letter in wrong) for letter in "abc"],
        properties=tuple(
            Property(letter, letter, lambda wrong, at=letter: at not in wrong) for letter in "abc"
        ),
        mistakes=tuple(Mistake(letter * 3, f"you forgot {letter}", "think", {letter}) for letter in "abc"),
        right=set(),
    )
    monkeypatch.setattr("knowsam_lite.course.checks.find_exercise", lambda _: exercise)
    Checker()("99.1", {"a", "c"})
    text = capsys.readouterr().out
    assert "- aaa (think)" in text and "- ccc" in text and "bbb" not in text
    Checker()("99.1", {"b"})
    assert "What happened: you forgot b" in capsys.readouterr().out


def test_pytorchs_own_not_implemented_error_is_no_untouched_stub(capsys):
    def nearest_of_integers(x, y, theta):
        grid = torch.nn.functional.affine_grid(theta, x.shape, align_corners=False)
        moved = torch.nn.functional.grid_sample(y[:, None], grid, mode="nearest", align_corners=False)
        return x, moved[:, 0]

    one = Checker()
    one("01.2", nearest_of_integers)
    assert one.results["01.2"] == "to mend" and "Your code raised" in capsys.readouterr().out


def test_an_error_is_blamed_on_whom_it_belongs_to(capsys):
    def two_plain_numbers(pred, true):
        return [1, 2]

    Checker()("01.4", two_plain_numbers)
    text = capsys.readouterr().out
    assert "could not use your answer: AttributeError" in text and "Your code raised" not in text


def test_another_error_of_the_same_type_is_another_mistake():
    exercise = find_exercise("01.5")
    unready = next(m for m in exercise.mistakes if m.name == "no rule for empty masks")

    def broken(pred, true):
        raise ValueError("something else")

    assert diagnose(exercise, unready.answer) is unready and diagnose(exercise, broken) is None


def test_a_check_leaves_the_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    failures(find_exercise("05.4"), torch.nn.Identity)
    assert torch.rand(1) == expected


def test_the_report_lists_every_exercise(capsys):
    one = Checker()
    one("05.2", answer("05_uncertainty_and_ham", "05.2"))
    capsys.readouterr()
    one.report()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and lines[1].endswith("done") and lines[0].endswith("not started")
    assert lines[-1] == "chapter 05: 1 of 5 done"


def test_unknown_numbers_are_named():
    with pytest.raises(UserError, match=r"found exercise '05[.]9'"):
        check("05.9", print)
    with pytest.raises(UserError, match=r"found exercise '77[.]1'"):
        check("77.1", print)


# ---------------------------------------------------------------- quiz, budget, show


def test_quiz_marks_each_answer(capsys):
    quiz("05", ["B", "c", "a", "?", "d"])
    lines = capsys.readouterr().out.splitlines()
    assert [line[:8] for line in lines[:5]] == ["1  right", "2  right", "3  right", "4  open", "5  not d"]
    assert lines[-1] == "quiz 05: 3 of 5 right"
    quiz("05", ["?"] * 5)
    assert capsys.readouterr().out == "quiz 05: not started\n"
    with pytest.raises(UserError, match="found 2 answers, expected 5"):
        quiz("05", ["a", "b"])
    with pytest.raises(UserError, match="found chapter '77'"):
        quiz("77", [])


def test_budget_is_read_from_the_environment(monkeypatch):
    sizes = {"smoke": 0, "ci": 1, "laptop": 2, "gpu": 3}
    for name, size in sizes.items():
        monkeypatch.setenv("KNOWSAM_LITE_BUDGET", name)
        assert budget(**sizes) == size and budget.name == name
    monkeypatch.delenv("KNOWSAM_LITE_BUDGET")
    for cuda, name in ((False, "laptop"), (True, "gpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=cuda: found)
        assert budget.name == name
    monkeypatch.setenv("KNOWSAM_LITE_BUDGET", "huge")
    with pytest.raises(UserError, match="found KNOWSAM_LITE_BUDGET=huge"):
        budget(**sizes)


def test_show_displays_a_small_picture_with_its_text(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **how: shown.append((data, how)))
    data = show(panels, [{"doubt": torch.rand(8, 8)}], alt="One map of doubt, drawn at random.")
    assert list(data) == ["doubt"]
    picture, how = shown[0]
    assert picture["image/png"].startswith(b"\x89PNG") and picture["text/plain"].startswith("One map")
    assert how["metadata"]["image/png"]["alt"] == picture["text/plain"]


# ---------------------------------------------------------------- the first cell


def run_first_cell(monkeypatch, outcome=None) -> list[str]:
    """The command that the first cell runs where the package is missing; `outcome` is what pip does."""
    commands = []

    def pip(command, **_):
        commands.append(command)
        return outcome or subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", pip)
    exec(builder.first_cell(builder.ROOT).split("from knowsam_lite")[0], {})
    return commands[0]


def test_the_first_cell_installs_from_one_address_or_a_given_wheel(monkeypatch):
    url = "https://github.com/knowsam-lite/knowsam-lite/archive/refs/tags/v0.1.0.tar.gz"
    monkeypatch.delenv("KNOWSAM_LITE_WHEEL", raising=False)
    command = run_first_cell(monkeypatch)
    assert command[1:6] == ["-m", "pip", "install", "-q", "--no-deps"] and command[-1] == url
    monkeypatch.setenv("KNOWSAM_LITE_WHEEL", "somewhere/knowsam_lite.whl")
    assert run_first_cell(monkeypatch)[-1] == "somewhere/knowsam_lite.whl"


# What pip 24 ends with: no network, no such address, a Python that is too old, a full disk.
REASONS = (
    "Could not install packages due to an OSError: HTTPSConnectionPool(host='github.com', port=443): Max "
    "retries exceeded with url: /knowsam-lite (Caused by NewConnectionError('Failed to establish a new "
    "connection: [Errno -2] Name or service not known'))",
    "HTTP error 404 while getting https://github.com/knowsam-lite/knowsam-lite/archive/none.tar.gz",
    "Package 'knowsam-lite' requires a different Python: 3.9.2 not in '>=3.11'",
    "Could not install packages due to an OSError: [Errno 28] No space left on device",
)


@pytest.mark.parametrize("reason", REASONS)
def test_a_first_cell_that_cannot_install_says_why_in_one_line(monkeypatch, reason):
    failed = subprocess.CompletedProcess([], 1, stderr=f"WARNING: Retrying\nERROR: {reason}\n")
    with pytest.raises(SystemExit) as stopped:
        run_first_cell(monkeypatch, failed)
    says = str(stopped.value)
    assert says.startswith("knowsam_lite could not be installed: ") and says.endswith(reason[-60:])
    assert "\n" not in says and len(says) < 250


def test_the_first_cell_is_short_and_the_same_everywhere():
    first = builder.first_cell(builder.ROOT)
    assert len(first.splitlines()) == 9
    assert {code_cells(chapter(name))[0].source for name in NAMES} == {first}


def test_the_first_cell_needs_nothing_but_python():
    program = "import sys, knowsam_lite.course; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    outcome = subprocess.run(
        [sys.executable, "-c", program], env=environment("smoke"), capture_output=True, text=True
    )
    assert outcome.stdout.strip() == "[]", outcome.stderr


def test_setup_installs_what_is_missing_and_holds_torch_and_numpy(monkeypatch, capsys):
    seen = []

    def pip(command, **_):
        constraints = command[command.index("-c") + 1]
        seen.append((command[-1], Path(constraints).read_text("utf8")))
        return subprocess.CompletedProcess(command, 0)

    declared = ["torch>=2.4", "surely-not-there>=1.0", 'other; extra == "dev"']
    monkeypatch.setattr(setup_file.importlib.metadata, "requires", lambda name: declared)
    monkeypatch.setattr(subprocess, "run", pip)
    setup_file.setup()
    (asked, held), *rest = seen
    assert asked == "surely-not-there>=1.0" and not rest
    assert f"torch=={setup_file.importlib.metadata.version('torch')}" in held and "numpy==" in held
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()] == ["knowsam_lite", "device", "budget", "data"]


def test_what_is_too_old_is_installed_anew_but_for_torch(monkeypatch):
    declared = ["tqdm>=999", "albumentations>=1.0", 'other>=1; python_version < "3"']
    monkeypatch.setattr(setup_file.importlib.metadata, "requires", lambda name: declared)
    assert setup_file.missing_requirements() == ["tqdm>=999"]
    with pytest.raises(UserError, match=r"found torch .*, expected torch>=999: choose a newer runtime"):
        setup_file.install(["torch>=999"])


def test_a_failing_pip_is_one_message(monkeypatch):
    failed = subprocess.CompletedProcess([], 1, stderr="noise\nERROR: no network")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(UserError, match="pip failing \\(no network\\)"):
        setup_file.install(["surely-not-there"])


# ---------------------------------------------------------------- builder

TINY = '''\
# %% [markdown]
# # Title
#
# {{badges}}

# %% tags=["setup"]

# %% tags=["exercise"]
# blank: double
def double(x: int) -> int:
    """Twice x."""
    # a comment of the solution
    return 2 * x


# %% tags=["compare"]
print(4)

# %%
quiz("05", ["b", "c"])
'''


@pytest.fixture
def tiny(tmp_path):
    """A project of one small chapter, built with outputs put in by hand."""
    for folder in ("solutions", "notebooks"):
        (tmp_path / folder).mkdir()
    shutil.copy(builder.ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "solutions" / "03_tiny.py").write_text(TINY, encoding="utf-8")
    return tmp_path


def test_build_makes_both_notebooks_and_check_tells_what_is_stale(tiny, monkeypatch):
    runs = []
    monkeypatch.setattr(builder, "execute", lambda notebook, folder: runs.append(1) or notebook)
    source = tiny / "solutions" / "03_tiny.py"
    complete, open_ = builder.paths(source, tiny)
    reference = list(pages(tiny))
    assert builder.stale(tiny) == [complete, *reference]
    assert builder.build(tiny) == [complete, open_, *reference] and builder.stale(tiny) == []
    before = complete.read_bytes(), open_.read_bytes()
    assert builder.build(tiny) == [] and len(runs) == 1, "an unchanged chapter is not executed again"
    assert (complete.read_bytes(), open_.read_bytes()) == before
    open_.write_text("{}", encoding="utf-8")
    assert builder.stale(tiny) == [open_]
    source.write_text(TINY.replace("# Title", "# Another"), encoding="utf-8")
    assert builder.stale(tiny) == [complete]
    assert builder.build(tiny) == [complete, open_] and len(runs) == 1, "outputs outlive a change of text"
    source.write_text(TINY.replace("print(4)", "print(5)"), encoding="utf-8")
    assert builder.stale(tiny) == [complete]
    assert builder.build(tiny) == [complete, open_] and len(runs) == 2


def test_a_change_of_text_alone_keeps_the_outputs(tiny, monkeypatch):
    runs = []

    def execute(notebook, folder):
        runs.append(1)
        for cell in notebook.cells:
            if cell.source.startswith("print"):
                cell.outputs, cell.execution_count = [nbformat.v4.new_output("stream", text="4\n")], 1
        return notebook

    monkeypatch.setattr(builder, "execute", execute)
    source = tiny / "solutions" / "03_tiny.py"
    complete, _ = builder.paths(source, tiny)
    builder.build(tiny)
    source.write_text(TINY.replace("# # Title", "# # Another\n#\n# A line."), encoding="utf-8")
    assert complete in builder.build(tiny) and len(runs) == 1 and builder.stale(tiny) == []
    made = complete.read_text("utf8")
    assert "# Another" in made and "# Title" not in made and made.count('"4\\n"') == 1
    source.write_text(TINY.replace("print(4)", "print(5)"), encoding="utf-8")
    builder.build(tiny)
    assert len(runs) == 2


def test_the_student_notebook_keeps_signature_docstring_and_hides_answers(tiny):
    whole = builder.solution(tiny / "solutions" / "03_tiny.py", tiny)
    title, first, task, shown, questions = whole.cells
    assert (
        "colab.research.google.com/github/knowsam-lite" in title.source
        and first.source == builder.first_cell(tiny)
    )
    assert "# blank" not in task.source and "nbval-check-output" in shown.metadata.tags
    student = builder.student(whole, "03")
    stub, check_, solution = student.cells[2:5]
    assert check_.source == "print(4)", "the solution stands below the cell that follows the exercise"
    assert solution.source.startswith("<details><summary>Solution") and "return 2 * x" in solution.source
    assert stub.source.endswith("raise NotImplementedError") and '"""Twice x."""' in stub.source
    assert "return 2 * x" not in stub.source
    assert student.cells[-1].source == 'quiz("05", ["?", "?"])'
    assert questions.source == 'quiz("05", ["b", "c"])', "the solution itself is untouched"


@pytest.mark.parametrize("name", NAMES)
def test_the_choices_of_a_quiz_are_lists(name):
    text = "\n".join(cell.source for cell in chapter(name).cells).split("## Quiz\n")[1].split("quiz(")[0]
    assert re.findall(r"^   - \((\w)\) \S", text, re.M) == list("abcd") * 5


def test_hints_are_folded_one_by_one():
    text = (
        "Do it.\n\n<details><summary>Hint</summary>\n\n1. One,\n   goes on.\n2. `two`\n\n</details>\n\n$$x$$"
    )
    made = builder.one_by_one(text)
    assert made.count("<details>") == made.count("</details>") == 2
    assert (
        "Hint 1</summary>\n\nOne,\ngoes on.\n\n</details>" in made and "Hint 2</summary>\n\n`two`\n\n" in made
    )
    assert made.startswith("Do it.") and made.endswith("$$x$$")


@pytest.mark.parametrize("name", NAMES)
def test_no_learner_is_told_what_a_picture_will_show(name):
    """No text of a figure in the code, no picture behind a question, no two hints in one fold."""
    learners, whole = committed("notebooks", name), chapter(name)
    assert not [a.value for c in code_cells(learners) for a in literals(c.source) if len(a.value.split()) > 1]
    asked = [c.id for c in code_cells(whole) if "guess" in c.metadata.get("tags", [])]
    assert not [c.id for c in code_cells(learners) if c.id in asked and c.outputs]
    hints = sum(
        len(re.findall(r"^\d\. ", t, re.M)) for c in whole.cells for t in builder.HINTS.findall(c.source)
    )
    folds = sum(c.source.count("<details><summary>Hint ") for c in learners.cells)
    assert folds == hints >= len(exercise_cells(name))


def test_a_figures_number_is_its_text(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **how: shown.append(data))
    show(panels, [{"doubt": torch.rand(8, 8)}], alt="02.1")
    assert shown[0]["text/plain"].startswith("Map of KnowSAM: images go to U-Net, which is highlighted")


def test_only_texts_of_figures_are_replaced_by_numbers():
    source = (
        'a = "é"; show(f, alt="one, é "\n    "goes on")\nshow(g, alt=alt, title="alt")\nshow(h, alt="two")'
    )
    made = numbered(source, "07", 4)
    assert made == 'a = "é"; show(f, alt="07.4")\nshow(g, alt=alt, title="alt")\nshow(h, alt="07.5")'
    assert builder.draws_or_imports('x = show(f, alt="a")') and builder.draws_or_imports(
        "import re\nimport io"
    )
    assert not builder.draws_or_imports("x = 1\nshow(f)") and not builder.draws_or_imports("check(1)")


def test_a_wrong_marker_is_named():
    with pytest.raises(UserError, match="found # blank: triple, expected one of double"):
        builder.blanked("def double(x):\n    return 2 * x", ["triple"])


def test_methods_are_blanked_by_their_class():
    source = (
        "class A:\n    def f(self):\n        'Doc.'\n        return 1\n\n    def g(self):\n        return 2"
    )
    text = builder.blanked(source, ["A.f"])
    assert "return 1" not in text and "return 2" in text and "Doc." in text


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_library_code_is_not_written_again_in_a_source(source):
    text = source.read_text("utf8")
    for kind, address in builder.MARKER.findall(text):
        assert kind != "library" or builder.library_source(address) not in text


def test_build_check_of_this_repository():
    command = [sys.executable, "-m", "knowsam_lite.course", "build", "--check"]
    outcome = subprocess.run(command, env=environment("smoke"), capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    assert SOURCES


def test_an_exercise_begins_with_its_card(tiny):
    head = "## Step 1\n\n**Idea.** Twice.\n\n### Exercise 03.1: double\n\n"
    text = head + "Difficulty 1 of 5 · importance 4 of 5 · 6 minutes\n\nWrite `double(x)`."
    above, card, below = builder.with_card(nbformat.v4.new_markdown_cell(text, id="cell-07"))
    assert above.source.endswith("### Exercise 03.1: double") and below.source == "Write `double(x)`."
    assert card.source == 'check.card("03.1", difficulty=1, importance=4, minutes=6)'
    assert card.outputs[0].text == "Difficulty 1 of 5 · importance 4 of 5 · 6 minutes · not started\n"
    assert card.metadata.jupyter.source_hidden and len({above.id, card.id, below.id}) == 3
    plain = nbformat.v4.new_markdown_cell("## Step 2")
    assert builder.with_card(plain) == [plain]


def test_a_chapters_minutes_are_the_sum_that_readme_and_chapter_state():
    readme = (builder.ROOT / "README.md").read_text("utf8")
    for source in builder.sources(builder.ROOT):
        time = time_of(source.read_text("utf8"))
        found = marking.tasks(source.read_text("utf8"))
        assert time.whole == time.reading + sum(task.minutes for task in found) and time.count == len(found)
        assert re.search(rf"\(notebooks/{source.stem}\.ipynb\).*\| {time.whole} \|$", readme, re.MULTILINE)
        assert f"about {time.whole} minutes: " in builder.solution(source, builder.ROOT).cells[0].source
    assert words("Two *words* and `code`, $x$ and a [link](https://example.org/a-b).") == 6
