"""The names that a model gets for tools: no two tools have one name, whatever the client calls them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstudio_async.embedded._prediction._template_messages import ToolNames
from tests.soak import bounded

names = st.lists(st.text("aAbB._-1", min_size=1, max_size=4), unique=True, max_size=6)


@pytest.mark.parametrize("naming", ["passThrough", "removeSpecial", "snakeCase", "camelCase"])
@bounded(200)
@given(names=names)
def test_each_tool_keeps_a_name_of_its_own(naming: str, names: list[str]) -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    tool_names = ToolNames(tools, naming)
    renamed = [tool_names.renamed(name) for name in names]
    assert len(set(renamed)) == len(names)
    assert [tool_names.original(each) for each in renamed] == names
    assert [tool["function"]["name"] for tool in tool_names.renamed_tools(tools)] == renamed


def test_tool_is_renamed_where_no_other_tool_has_the_new_name() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("a.b", "c.d", "c_d")]
    tool_names = ToolNames(tools, "removeSpecial")
    assert [tool_names.renamed(name) for name in ("a.b", "c.d", "c_d")] == ["a_b", "c.d", "c_d"]
