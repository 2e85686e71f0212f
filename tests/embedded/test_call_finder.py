"""Tool calls in the text of an answer."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstudio_async.embedded._prediction._call_candidate import CallCandidate
from lmstudio_async.embedded._prediction._call_finder import (
    BrokenCall,
    CallArguments,
    CallEnd,
    CallFinder,
    CallName,
    Found,
)
from lmstudio_async.embedded._prediction._call_object import Verdict

ADD: dict[str, Any] = {
    "name": "add",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "note": {"type": "string"}, "more": {"anyOf": []}},
    },
}
TIME: dict[str, Any] = {"name": "get_time"}
TOOLS = [{"type": "function", "function": tool} for tool in (ADD, TIME)]

Read = list[str | tuple[str, str] | BrokenCall]


def parts(text: str, cuts: Iterable[int]) -> list[str]:
    places = [0, *sorted(cuts), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(places)]


def read(pieces: Iterable[str], *, bare: bool = True) -> Read:
    """Return texts, calls as name and arguments, and broken calls; join adjacent texts."""
    finder = CallFinder(TOOLS, bare=bare)
    found: list[Found] = [each for piece in pieces for each in finder.feed(piece)] + finder.flush()
    result: Read = []
    name, arguments = "", ""
    for each in found:
        match each:
            case str() if result and isinstance(result[-1], str):
                result[-1] += each
            case str():
                result.append(each)
            case CallName():
                name, arguments = each.name, ""
            case CallArguments():
                arguments += each.text
            case CallEnd():
                result.append((name, arguments))
            case BrokenCall():
                result.append(each)
    return result


WHOLE = '{"name": "add", "parameters": {"a": 1}}'
ONE = ("add", '{"a": 1}')
TWO = ("add", '{"a": 2}')

CALLS: dict[str, list[tuple[str, str]]] = {
    WHOLE: [ONE],
    '{"name": "add", "arguments": {"a": 1}}': [ONE],
    '{ "parameters" : {"a": 1} , "name":"add" }': [ONE],
    '{"tool_call_id": "0", "tool_name": "add", "parameters": {"a": 1}}': [ONE],
    '{"type": "function", "name": "add", "parameters": {"a": 1}}': [ONE],
    '{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}': [ONE],
    '{"function": "add", "parameters": {"a": 1}, "id": 7}': [ONE],
    '{"name": "add", "arguments": "{\\"a\\": 1}"}': [ONE],
    '{"name": "add", "parameters": {"note": "a } b \\" {"}}': [("add", '{"note": "a } b \\" {"}')],
    f"<|python_tag|>{WHOLE}": [ONE],
    f"<tool_call>{WHOLE}</tool_call>": [ONE],
    f"<tool_call>\n\n  {WHOLE} \n</tool_call>\n": [ONE],
    f"<|tool_call|>[{WHOLE}]": [ONE],
    '<tool_call>{"name": "get_time"}</tool_call>': [("get_time", "{}")],
    '<function=add>{"a": 1}</function>': [ONE],
    "<function=add><parameter=a>1</parameter></function>": [ONE],
    "<tool_call>\n<function=get_time>\n</function>\n</tool_call>": [("get_time", "{}")],
    "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>": [ONE],
    "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n</tool_call>": [ONE],
}
TEXTS = [
    "Hello there",
    'Use a dict: {"a": 1}.',
    '{"temperature": 3, "unit": "C"}',
    "int main() {\n    return 0;\n}",
    'The names: ["a", "b"] and {c}, [{"d": 1}].',
    "Write <b>bold</b> and <tool_box>, if a < b > c.",
    # Keys and marks of calls in texts that are no calls.
    '{"name": "add", "age": 3}',
    '{"name": "add"}',
    '{"name": "Ann", "type": "person"}',
    '{"name": "add", "description": "Add", "parameters": {"type": "object"}}',
    '{"type": "object", "parameters": {}}',
    "The form is <function=add> and then the arguments.",
    "<tool_call> is a mark, and <tool_call>{} too.",
    "<|python_tag|>print({'name': 'add'})",
    '{"name": "Ann", "parameters": 7}',
    "[TOOL_CALLS] [",
    '{"',
]
INVENTED = [
    '{"name": "sub", "parameters": {"a": 1}}',
    '<tool_call>\n{"name": "sub", "arguments": {"a": 1}}\n</tool_call>',
    '[TOOL_CALLS][{"name": "sub", "arguments": {"a": 1}}]',
    "<tool_call>\n<function=sub>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>",
    '<function=sub>{"a": 1}</function>',
]
MALFORMED = [
    '{"name": "add"',
    '{"name": "add", "parameters": {"a": 1, "b',
    '{"name": "add", "parameters": [1, 2]}',
    '<tool_call>\n{"name": "sub" and on and so on',
    '<tool_call>{"na',
    '<tool_call>{"name": "add", "a": 1}</tool_call>',
    "<function=add>\n<parameter=a>\n1",
    '<function=add>{"a": ',
]


@pytest.mark.parametrize("text", CALLS)
@pytest.mark.parametrize(("before", "after"), [("", ""), ("I call:\n", ""), ("I call ", "and go on.")])
def test_call_is_found_in_any_form(text: str, before: str, after: str) -> None:
    assert read([before + text + after]) == [*filter(None, [before]), *CALLS[text], *filter(None, [after])]


@pytest.mark.parametrize(
    "text",
    ['{"name": "add", "parameters": {"a": 1}', f"<tool_call>{WHOLE}", '<function=add>{"a": 1}', f"[{WHOLE}"],
)
def test_call_without_its_closing_mark_is_found(text: str) -> None:
    # Small models leave the mark out.
    assert read([text]) == [ONE]


@pytest.mark.parametrize("between", ["; ", ";", ", ", ",", "\n", "\n\n", " ", ""])
def test_several_calls_are_found(between: str) -> None:
    assert read([WHOLE + between + WHOLE.replace("1", "2")]) == [ONE, TWO]


@pytest.mark.parametrize(
    "form",
    [
        "[%s, %s]",
        "<tool_call>[%s,%s]</tool_call>",
        "<tool_calls>\n%s\n%s\n</tool_calls>",
        "<tool_call>%s</tool_call>\n<tool_call>%s</tool_call>",
    ],
)
def test_list_of_calls_is_found(form: str) -> None:
    assert read([form % (WHOLE, WHOLE.replace("1", "2"))]) == [ONE, TWO]


@pytest.mark.parametrize("text", TEXTS)
def test_text_stays_text(text: str) -> None:
    assert read([text]) == [text]


@pytest.mark.parametrize("text", [*TEXTS, WHOLE, f"[{WHOLE}]"])
def test_objects_without_marks_are_text_unless_calls_may_be_bare(text: str) -> None:
    assert read([text], bare=False) == [text]


@pytest.mark.parametrize("text", [text for text in CALLS if text[0] == "<"])
def test_marked_calls_are_found_where_no_call_is_bare(text: str) -> None:
    assert read([text], bare=False) == CALLS[text]


@pytest.mark.parametrize("text", INVENTED)
def test_call_of_an_unknown_tool_is_a_broken_call_with_its_text(text: str) -> None:
    assert read(["Well: " + text]) == ["Well: ", BrokenCall(text)]
    assert read([text + "\nAnd on."]) == [BrokenCall(text), "And on."]


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed_call_is_a_broken_call_with_its_text(text: str) -> None:
    assert read(["Well: " + text]) == ["Well: ", BrokenCall(text)]


def test_broken_call_ends_at_its_closing_mark() -> None:
    broken = '<tool_call>{"name": "add" </tool_call>'
    assert read([f"{broken} And on."]) == [BrokenCall(broken), "And on."]


BEGINNINGS = [
    "{",
    "[ ",
    "<tool_call>",
    '{"parameters": ',
    '{"name": "add" ',
    "<function=a>",
    '{"id": {',
    "<function=add><x",
]


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_finder_reads_each_letter_at_most_three_times_on_average(
    beginning: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = 0
    take = CallCandidate.take

    def count(candidate: CallCandidate, letter: str) -> Verdict:
        nonlocal taken
        taken += 1
        return take(candidate, letter)

    monkeypatch.setattr(CallCandidate, "take", count)
    text = beginning * 1000
    read([text])
    assert taken <= 3 * len(text)


def test_separators_after_a_call_are_text_if_no_call_follows() -> None:
    assert read([WHOLE + "; that is all"]) == [ONE, "; that is all"]


def test_values_in_tags_get_the_type_of_the_schema() -> None:
    tags = "<parameter=a>1</parameter><parameter=note>1</parameter><parameter=more>[1]</parameter>"
    expected = json.dumps({"a": 1, "note": "1", "more": [1], "free": "x y"})
    assert read([f"<function=add>{tags}<parameter=free>x y</parameter></function>"]) == [("add", expected)]


@pytest.mark.parametrize("schema", [True, [], {"properties": ["a"]}, {"properties": {"a": True}}])
def test_values_in_tags_need_no_schema(schema: Any) -> None:
    finder = CallFinder([{"function": {"name": "add", "parameters": schema}}], bare=False)
    call = "<function=add><parameter=a>1</parameter></function>"
    assert finder.feed(call) == [CallName("add"), CallArguments('{"a": 1}'), CallEnd(call)]


def test_text_is_held_back_only_while_it_may_become_a_call() -> None:
    finder = CallFinder(TOOLS, bare=True)
    assert finder.feed("Take {") == ["Take "]
    assert finder.feed('"b') == ['{"b']
    assert finder.feed('": 1} <') == ['": 1} ']
    assert finder.feed("br>") == ["<br>"]


def test_arguments_are_streamed_while_the_model_writes_them() -> None:
    finder = CallFinder(TOOLS, bare=True)
    assert finder.feed('{"name": "add", "parameters": ') == []
    assert finder.feed('{"no') == [CallName("add"), CallArguments('{"no')]
    assert finder.feed('te": "x') == [CallArguments('te": "x')]
    assert finder.feed('"}}') == [
        CallArguments('"}'),
        CallEnd('{"name": "add", "parameters": {"note": "x"}}'),
    ]


SPOKEN = st.lists(st.sampled_from([*CALLS, *TEXTS, *INVENTED, *MALFORMED, *' \n{}[]<>",;:'])).map("".join)


@given(SPOKEN | st.text(alphabet='{}[]<>",:; ntame/fuco=_|l'), st.booleans(), st.data())
def test_result_does_not_depend_on_how_the_text_is_split(text: str, bare: bool, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=12))
    whole = read([text], bare=bare)
    assert read(parts(text, cuts), bare=bare) == whole
    assert read(text, bare=bare) == whole


@given(st.text() | st.text(alphabet='{}[]<>",:; \n|/=tol_calsnme'), st.booleans())
def test_text_that_names_no_tool_is_returned_unchanged(text: str, bare: bool) -> None:
    # A call cannot name its tool without one of these words.
    text = re.sub("name|function|tool", "", text)
    assert "".join(map(str, read([text], bare=bare))) == text


ARGUMENTS = st.dictionaries(
    st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=4)
)
PROSE = st.text(alphabet=st.characters(exclude_characters="{}[]<>;,")).map(str.strip)


@given(
    st.lists(st.tuples(PROSE, st.sampled_from(["add", "get_time"]), ARGUMENTS), max_size=4), PROSE, st.data()
)
def test_calls_are_found_in_the_text_around_them(
    calls: list[tuple[str, str, Any]], end: str, data: st.DataObject
) -> None:
    text, expected = "", []
    for prose, name, arguments in calls:
        call = json.dumps({"name": name, "arguments": arguments})
        form = data.draw(st.sampled_from(["%s", "<tool_call>%s</tool_call>", "[%s]", "<|python_tag|>%s"]))
        text += prose + form % call
        expected += [*filter(None, [prose]), (name, json.dumps(arguments))]
    assert read(parts(text + end, data.draw(st.lists(st.integers(0, len(text)), max_size=8)))) == [
        *expected,
        *filter(None, [end]),
    ]
