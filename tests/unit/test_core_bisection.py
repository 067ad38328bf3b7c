"""Finding the rejected ones of many: all of them, in few tries, with the others kept."""

from math import log2

from hypothesis import given
from hypothesis import strategies as st

from hl_platform.core.bisection import find_rejected


class Table:
    """Accepts everything but `bad`."""

    def __init__(self, bad: set[int]) -> None:
        self.bad = bad
        self.kept: list[int] = []
        self.n_tries = 0

    def attempt(self, start: int, end: int) -> str | None:
        self.n_tries += 1
        # The last bad one is blamed, as a database may that does not keep to the order.
        blamed = max((n for n in self.bad if start <= n < end), default=None)
        if blamed is not None:
            return f"fault of {blamed}"
        self.kept += range(start, end)
        return None


numbers_and_bad = st.integers(0, 300).flatmap(
    lambda n: st.tuples(st.just(n), st.sets(st.integers(0, max(n - 1, 0)), max_size=n))
)


@given(numbers_and_bad)
def test_every_bad_one_is_found_with_its_own_fault_and_every_other_is_kept_once(case: tuple[int, set[int]]):
    n, bad = case
    table = Table(bad)
    assert find_rejected(n, table.attempt) == [(index, f"fault of {index}") for index in sorted(bad)]
    assert table.kept == [index for index in range(n) if index not in bad]


@given(st.integers(1, 10_000), st.data())
def test_tries_grow_with_the_number_of_bad_ones_and_the_logarithm_of_all(n: int, data: st.DataObject):
    bad = data.draw(st.sets(st.integers(0, n - 1), max_size=5))
    table = Table(bad)
    find_rejected(n, table.attempt)
    assert table.n_tries <= (len(bad) + 1) * (log2(n) + 3)


def test_one_bad_among_ten_thousand_costs_seventeen_tries_wherever_it_is():
    for index in range(0, 10_000, 37):
        table = Table({index})
        find_rejected(10_000, table.attempt)
        assert table.n_tries <= 17


def test_where_nearly_all_are_bad_each_costs_hardly_more_than_a_try():
    table = Table(set(range(1_000)))
    find_rejected(1_000, table.attempt)
    assert table.n_tries < 1_150
