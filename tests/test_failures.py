"""The helper that collects the failures of a test that loops over cases."""

from __future__ import annotations

import pytest

from tests.failures import Failures


def test_failures_raises_the_errors_of_all_cases_with_their_names() -> None:
    checked: list[int] = []

    def check_all() -> None:
        with Failures() as failures:
            for number in range(4):
                checked.append(number)
                with failures.of(f"number {number}"):
                    assert number != 1
                    if number == 2:
                        pytest.fail("two")

    with pytest.raises(BaseExceptionGroup) as caught:
        check_all()
    assert checked == [0, 1, 2, 3]
    assert [error.__notes__ for error in caught.value.exceptions] == [
        ["in the case of number 1"],
        ["in the case of number 2"],
    ]


def test_failures_raises_nothing_if_no_case_fails() -> None:
    with Failures() as failures, failures.of("fine"):
        pass
