"""Errors of blocking calls."""

from __future__ import annotations

import traceback

import pytest

import lmstudio_sync as lms
from tests.sync.quiet_server import QuietServer, client_of

pytestmark = pytest.mark.usefixtures("nothing_loaded")

KEY = "llama-3.2-1b-instruct"


def test_an_error_is_the_cores_and_shows_one_frame_of_the_bridge_at_most(client: lms.Client) -> None:
    with pytest.raises(lms.LMStudioModelNotFoundError) as caught:
        client.llm.load_new_instance("no-such-model")
    frames = [frame.filename.rpartition("/")[2] for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames[:2] == ["test_errors.py", "_model_namespace.py"]
    assert frames.count("_bridge.py") <= 1
    assert "_loop.py" not in frames
    assert caught.value.__context__ is None


def test_an_error_is_raised_as_it_is_if_a_frame_of_it_has_no_line(client: lms.Client) -> None:
    # Ctrl-C comes at any instruction, and some have no line.
    def fail(_: float) -> None:
        raise KeyboardInterrupt

    fail.__code__ = fail.__code__.replace(co_linetable=b"")
    raised: BaseException | None = None
    # Without pytest.raises, because pytest cannot show such a frame.
    try:
        client.llm.load_new_instance(KEY, on_progress=fail)
    except BaseException as error:  # noqa: BLE001 - the wrong error must not reach pytest either
        raised = error
    assert type(raised) is KeyboardInterrupt
    *_, (frame, line) = traceback.walk_tb(raised.__traceback__)
    assert frame.f_code is fail.__code__
    assert f"{line}" == "None"


def test_a_wrong_argument_is_named_before_anything_is_sent() -> None:
    server = QuietServer()
    with client_of(server) as client:
        with pytest.raises(lms.LMStudioValueError, match="ttl"):
            client.llm.load_new_instance("qwen3-4b", ttl=-1)
        with pytest.raises(lms.LMStudioConfigError):
            client.llm.load_new_instance_stream("qwen3-4b", config={"contxt_length": 1})  # type: ignore[arg-type]
    assert server.calls() == []


def test_unload_refuses_a_handle(client: lms.Client) -> None:
    with pytest.raises(lms.LMStudioValueError, match="A handle has an unload"):
        client.llm.unload(client.llm.load_new_instance(KEY))  # type: ignore[arg-type]


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(lms.LMStudioValueError, match="'asyncio' or 'trio', not 'curio'"):
        lms.Client("embedded", backend="curio")  # type: ignore[arg-type]


def test_a_call_without_a_server_raises_unreachable_error() -> None:
    with (
        lms.Client("127.0.0.1:9") as client,
        pytest.raises(lms.LMStudioUnreachableError, match=r"127\.0\.0\.1:9"),
    ):
        client.llm.list_loaded()
