"""The requests that a warning of the server concerns: never a request that it does not mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstudio_async._protocol._warnings import Suspect, concerned

LOAD = Suspect("channel", 1, "loadModel")
GET = Suspect("channel", 2, "getOrLoad")
ANSWER = Suspect("channel", 3, "predict")
UNLOAD = Suspect("call", 1, "unloadModel")
COUNT = Suspect("call", 2, "countTokens")
COUNT_AGAIN = Suspect("call", 3, "countTokens")
ALL = [LOAD, GET, ANSWER, UNLOAD, COUNT, COUNT_AGAIN]


@pytest.mark.parametrize("suspect", [LOAD, UNLOAD])
def test_a_warning_concerns_the_only_pending_request(suspect: Suspect) -> None:
    assert concerned("something was wrong", "", [suspect]) == [suspect]


def test_an_unspecific_warning_concerns_none_of_several_requests() -> None:
    assert concerned("something was wrong", "", ALL) == []


@pytest.mark.parametrize(
    ("text", "suspect"),
    [
        ("Received invalid creationParameter for channel, endpoint = loadModel. Zod error: ...", LOAD),
        ("Received invalid parameter for rpcCall, endpoint = unloadModel", UNLOAD),
        ("Invalid parameter of 'predict'", ANSWER),
        ("Invalid parameter of unloadModel", UNLOAD),
        ("Received channelSend for unknown channel, channelId = 2", GET),
        ("something about callId: 3", COUNT_AGAIN),
        ('callId="2"', COUNT),
    ],
)
def test_an_endpoint_or_a_number_in_the_text_identifies_the_request(text: str, suspect: Suspect) -> None:
    assert concerned(text, "", ALL) == [suspect]


def test_the_kind_of_a_warning_distinguishes_calls_from_channels() -> None:
    assert concerned("wrong", "rpcParameterTypeError", [LOAD, UNLOAD]) == [UNLOAD]
    assert concerned("wrong", "channelCreationParameterTypeError", [LOAD, UNLOAD]) == [LOAD]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        # About an endpoint whose name contains that of the pending one, `loadModel`.
        ("Received an invalid parameter, endpoint = unloadModel", ""),
        # About requests that are no longer pending.
        ("Received rpcCall for unknown endpoint, endpoint = fooBar", "rpcEndpointUnknown"),
        ("Received channelCreate for unknown endpoint, endpoint = fooBar", "channelEndpointUnknown"),
        ("Received channelSend for unknown channel, channelId = 77", ""),
        ("Received channelSend for unknown channel", "channelUnknown"),
        ("Received channelSend with an odd message", ""),
        ("Odd message on a channel", "channelMessageTypeError"),
        ("callId = 77", "rpcParameterTypeError"),
        # About messages that this client never sends.
        ("Received signalSubscribe for unknown endpoint", "signalEndpointUnknown"),
        ("Patch does not apply", "writableSignalPatchApplyError"),
    ],
)
def test_a_warning_about_something_else_ends_nothing(text: str, kind: str) -> None:
    assert concerned(text, kind, [LOAD]) == []
    assert concerned(text, kind, [LOAD, GET, COUNT]) == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Received rpcCall for unknown endpoint, endpoint = countTokens", ""),
        ("What is countTokens?", "rpcEndpointUnknown"),
        ("Nobody does countTokens", "rpcEndpointUnhandled"),
    ],
)
def test_a_warning_of_an_unknown_endpoint_concerns_all_requests_to_it(text: str, kind: str) -> None:
    assert concerned(text, kind, ALL) == [COUNT, COUNT_AGAIN]


def test_a_bad_parameter_of_one_of_several_calls_ends_none_of_them() -> None:
    assert concerned("Invalid parameter, endpoint = countTokens", "rpcParameterTypeError", ALL) == []


@given(st.text() | st.from_regex(r"(endpoint|callId|channelId)? ?= ?(\w+|\d+)"), st.text())
def test_a_warning_of_any_text_concerns_pending_requests_only(text: str, kind: str) -> None:
    assert all(each in ALL for each in concerned(text, kind, ALL))
