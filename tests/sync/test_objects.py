"""Reprs, pickles and copies of clients, handles and values."""

from __future__ import annotations

import copy
import pickle

import pytest

import lmstudio_sync as lms
from tests.sync.quiet_server import QuietServer, client_of

pytestmark = pytest.mark.usefixtures("nothing_loaded")

KEY = "llama-3.2-1b-instruct"


def test_reprs_name_the_class_and_the_state(client: lms.Client) -> None:
    where = f"(api_host={client.api_host!r})"
    assert repr(client) == f"Client{where}"
    for namespace, name in [
        ("llm", "Llm"),
        ("embedding", "Embedding"),
        ("system", "System"),
        ("files", "Files"),
    ]:
        assert repr(getattr(client, namespace)) == f"{name}Namespace{where}"

    loading = client.llm.load_new_instance_stream(KEY)
    assert repr(loading) == "LoadStream('not begun')"
    with client_of(QuietServer()) as other, other.llm.load_new_instance_stream("qwen3-4b") as endless:
        assert repr(endless) == "LoadStream('under way')"
    with loading:
        llm = loading.wait_for_result()
    assert repr(loading) == "LoadStream('done')"
    llm.unload()
    answer = llm.respond_stream("Hi")
    with pytest.raises(lms.LMStudioInstanceUnloadedError):
        answer.wait_for_result()
    assert repr(answer) == "PredictionStream('failed')"


def test_values_can_be_pickled_and_objects_with_a_connection_cannot(client: lms.Client) -> None:
    llm = client.llm.load_new_instance(KEY)
    for each in (client, client.llm, llm, llm.respond_stream("Hi"), client.list_downloaded_models()[0]):
        for copied in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError, match="Make a client in each process"):
                copied(each)

    result = llm.respond("Hi")
    chat = lms.Chat("Be brief.")
    chat.append(result)
    for value in (llm.info, result, chat):
        assert pickle.loads(pickle.dumps(value)) == value
    with pytest.raises(lms.LMStudioModelNotFoundError) as caught:
        client.llm.load_new_instance("lama")
    error = pickle.loads(pickle.dumps(caught.value))
    assert (str(error), error.candidates) == (str(caught.value), caught.value.candidates)
