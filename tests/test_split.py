"""Which images are labelled: whole groups, seeded, nested, and honest errors."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowsam_lite.data import Record, choose_labeled
from knowsam_lite.data.split import assign_splits
from knowsam_lite.errors import UserError


def records(sizes: list[int], split: str = "train") -> list[Record]:
    """One group per entry, of that many images."""
    names = [(f"g{g}", f"g{g}_{i}") for g, size in enumerate(sizes) for i in range(size)]
    return [Record(name, Path(name), Path(name), group, split) for group, name in names]


groups = st.lists(st.integers(1, 9), min_size=1, max_size=12)


@given(groups, st.integers(0, 50), st.data())
def test_whole_groups_until_the_number_is_reached(sizes, seed, data):
    train = records(sizes)
    wanted = data.draw(st.integers(1, sum(sizes)))
    chosen = choose_labeled(train, str(wanted), seed)
    touched = {record.group for record in train if record.id in chosen}
    assert chosen == {record.id for record in train if record.group in touched}
    assert wanted <= len(chosen) < wanted + max(sizes)
    assert chosen == choose_labeled(train[::-1] + records([3], "test"), str(wanted), seed)
    assert chosen <= choose_labeled(train, str(sum(sizes)), seed)


@given(groups, st.integers(0, 50), st.data())
def test_a_number_of_groups(sizes, seed, data):
    wanted = data.draw(st.integers(1, len(sizes)))
    chosen = choose_labeled(records(sizes), f"{wanted}groups", seed)
    assert len({name.split("_")[0] for name in chosen}) == wanted


def test_percentages_as_published():
    train = records([1] * 1450)
    assert [len(choose_labeled(train, spec, 0)) for spec in ("1%", "10%", "30%", "100%")] == [
        15,
        145,
        435,
        1450,
    ]


def test_another_seed_chooses_others_and_a_smaller_set_is_part_of_a_larger():
    train = records([1] * 40)
    assert choose_labeled(train, "8", 0) != choose_labeled(train, "8", 1)
    assert choose_labeled(train, "8", 0) < choose_labeled(train, "15", 0) < choose_labeled(train, "75%", 0)


def test_images_without_a_mask_are_never_chosen():
    train = [*records([1] * 4), Record("bare", Path("bare"), None, "bare", "train")]
    assert choose_labeled(train, "4", 0) == {"g0_0", "g1_0", "g2_0", "g3_0"}
    with pytest.raises(UserError, match="at most the 4 that have a mask"):
        choose_labeled(train, "5", 0)


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("0", "empty labelled set"),
        ("0%", "empty labelled set"),
        ("0groups", "empty labelled set"),
        ("11", "'11' = 11 images, expected at most the 10"),
        ("101%", "expected at most the 10"),
        ("4groups", "expected at most the 3"),
        ("", "expected an amount"),
        ("-3", "expected an amount"),
        ("many", "expected an amount"),
        ("1.5", "expected a whole number"),
    ],
)
def test_bad_amounts(spec, match):
    with pytest.raises(UserError, match=match) as caught:
        choose_labeled(records([5, 3, 2]), spec, 0)
    assert "found" in str(caught.value) and "\n" not in str(caught.value)


def test_no_training_mask_at_all():
    with pytest.raises(UserError, match="found no training image with a mask"):
        choose_labeled(records([2], "test"), "1", 0)


@given(st.integers(3, 60), st.floats(0, 0.45), st.floats(0, 0.45), st.integers(0, 9))
def test_fractions_split_whole_groups(count, val, test, seed):
    names = [f"g{i}" for i in range(count) for _ in range(2)]
    held = {n: max(1, round(f * count)) if f else 0 for n, f in (("val", val), ("test", test))}
    if sum(held.values()) >= count:  # two halves of a few groups may round to all of them
        with pytest.raises(UserError, match="at least one left for training"):
            assign_splits(names, val, test, seed)
        return
    splits = assign_splits(names, val, test, seed)
    found = list(splits.values())
    assert set(splits) == set(names) and "train" in found
    assert {name: found.count(name) for name in held} == held
