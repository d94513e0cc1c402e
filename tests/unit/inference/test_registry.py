"""A family is found by the module that is named after it, and where two claim a name, neither is taken."""

from __future__ import annotations

import pytest

from inference.models.registry import families, find
from tests.support import faulty_family


def test_one_of_this_package_is_that_of_all_and_lies_where_it_is_looked_for() -> None:
    for name, family in families().items():
        assert find(name) is family
        assert family.config.__module__ == f"inference.models.{name.removeprefix('fusion_')}", "else all are imported"


def test_one_from_elsewhere_is_found_and_a_module_without_a_family_is_none() -> None:
    assert find("faulty", ("tests.support.faulty_family",)) is faulty_family.FAMILY
    with pytest.raises(KeyError):
        find("card")


@pytest.mark.parametrize("name", ["fusion_late", "pass_through"])
def test_two_that_claim_one_name_are_refused_whichever_is_asked_for(name: str) -> None:
    with pytest.raises(ValueError, match="two modules define the family 'fusion_late'"):
        find(name, ("inference.models.late",))
