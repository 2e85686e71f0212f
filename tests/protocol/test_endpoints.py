"""The endpoint table: it has every endpoint of the published clients, and each endpoint once."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import typing
from importlib import import_module
from pathlib import Path

import pytest

from lmstudio_async._protocol._endpoints import (
    NAMESPACES,
    ChannelEndpoint,
    Endpoint,
    RpcEndpoint,
    _base,
    endpoints,
)
from lmstudio_async._protocol._endpoints._untyped import UNTYPED
from lmstudio_async._wire._models import Cancel
from lmstudio_async._wire._struct import MalformedError, Unknown, read, write
from tests.failures import Failures

MODELS = {
    "channel": "loadModel getOrLoad",
    "rpc": """unloadModel listLoaded getModelInfo getLoadConfig getBasePredictionConfig getInstanceProcessingState
        estimateModelUsage tokenize countTokens""",
}
OFFICIAL = {
    "llm": {
        "channel": f"{MODELS['channel']} predict completeRawText",
        "rpc": f"{MODELS['rpc']} applyPromptTemplate preloadDraftModel",
    },
    "embedding": {"channel": MODELS["channel"], "rpc": f"{MODELS['rpc']} embedString"},
    "system": {
        "channel": "alive",
        "rpc": """listDownloadedModels listDownloadedModelVariants notify version setExperimentFlag
            getExperimentFlags startHttpServer stopHttpServer info requestShutdown""",
    },
    "files": {
        "channel": "retrieve parseDocument",
        "rpc": "getLocalFileAbsolutePath uploadFileBase64 getDocumentParsingLibrary",
    },
    "repository": {
        "channel": "downloadModel downloadArtifact createDownloadPlan pushArtifact ensureAuthenticated",
        "rpc": """searchModels getModelDownloadOptions installPluginDependencies installLocalPlugin
            getLocalArtifactFiles getWritableArtifactOwners isAuthenticated getAuthenticationStatus deauthenticate
            loginAsComputeDevice loginWithPreAuthenticatedKeys getModelCatalog fuzzyFindStaffPicks lmLinkStatus
            lmLinkSetDisabled lmLinkUpdateDeviceName lmLinkSetPreferredDevice""",
    },
    "diagnostics": {"channel": "streamLogs", "rpc": ""},
    "plugins": {
        "channel": """startToolUseSession generateWithGenerator registerDevelopmentPlugin setPromptPreprocessor
            setPredictionLoopHandler setToolsProvider setGenerator""",
        "rpc": """reindexPlugins processingHandleUpdate processingHandleRequest processingPullHistory
            processingGetOrLoadTokenSource processingHasStatus processingNeedsNaming processingSuggestName
            processingSetSenderName setConfigSchematics setGlobalConfigSchematics pluginInitCompleted reportError""",
    },
    "runtime": {
        "channel": "downloadRuntimeExtension",
        "rpc": """listEngines getEngineSelections selectEngine removeEngine surveyHardware
            searchRuntimeExtensions""",
    },
}
#: Endpoints that only servers of the old dialect have.
OLD = {("repository", "createArtifactDownloadPlan")}

TABLE: list[tuple[str, Endpoint]] = [
    (name, entry) for name in NAMESPACES for entry in endpoints(name).values()
]
CHANNELS = [entry for _, entry in TABLE if isinstance(entry, ChannelEndpoint) and entry.to_client]
SIDES = [(channel, side) for channel in CHANNELS for side in (channel.to_client, channel.to_server)]
TYPED = [name for name in NAMESPACES if name != "plugins"]


def test_a_namespace_has_the_endpoints_of_the_published_clients() -> None:
    with Failures() as failures:
        for namespace in NAMESPACES:
            table = endpoints(namespace)
            found = {
                "channel": {name for name, entry in table.items() if isinstance(entry, ChannelEndpoint)},
                "rpc": {name for name, entry in table.items() if isinstance(entry, RpcEndpoint)},
            }
            with failures.of(namespace):
                for name, old in OLD:
                    if name == namespace:
                        found["channel"].remove(old)
                assert found == {kind: set(names.split()) for kind, names in OFFICIAL[namespace].items()}


def test_the_table_has_as_many_endpoints_as_the_newest_published_client() -> None:
    assert len(TABLE) - len(OLD) == 93


def test_no_endpoint_stands_in_the_table_twice() -> None:
    with Failures() as failures:
        for namespace in NAMESPACES:
            typed: list[object] = []
            if namespace in TYPED:
                entries = vars(import_module(f"lmstudio_async._protocol._endpoints.{namespace}")).values()
                typed = [entry for entry in entries if isinstance(entry, RpcEndpoint | ChannelEndpoint)]
            with failures.of(namespace):
                assert len(typed) + len(UNTYPED.get(namespace, ())) == len(endpoints(namespace))


def test_a_packet_of_an_unknown_type_is_read_as_unknown() -> None:
    assert CHANNELS
    with Failures() as failures:
        for channel, side in SIDES:
            with failures.of(f"{channel.name}: {side}"):
                assert isinstance(read(side, {"type": "fromTheFuture"}), Unknown)


def test_no_two_packets_of_a_channel_have_one_name() -> None:
    with Failures() as failures:
        for channel, side in SIDES:
            with failures.of(f"{channel.name}: {side}"):
                tags = [kind.TAG for kind in typing.get_args(side)]
                assert len(tags) == len(set(tags))


def test_a_long_running_channel_accepts_a_cancel_packet() -> None:
    with Failures() as failures:
        for name in ("loadModel", "getOrLoad", "predict", "completeRawText", "downloadModel"):
            with failures.of(name):
                channels = [channel for channel in CHANNELS if channel.name == name]
                assert channels
                assert all(read(channel.to_server, {"type": "cancel"}) == Cancel() for channel in channels)


def test_a_table_row_names_the_types_of_its_annotation() -> None:
    """Type checkers read the annotation, and the table looks up the names at run time: only this test compares them."""
    with Failures() as failures:
        for namespace in TYPED:
            source = (Path(_base.__file__).parent / f"{namespace}.py").read_text(encoding="utf-8")
            for node in ast.parse(source).body:
                match node:
                    case ast.AnnAssign(
                        annotation=ast.Subscript(slice=ast.Tuple(elts=annotated)),
                        value=ast.Call(args=[name, *types]),
                    ):
                        declared = [ast.unparse(each).removesuffix(" | None") for each in annotated]
                        named = [str(each.value) for each in types if isinstance(each, ast.Constant)]
                        found = [re.sub(r"\b_\w+\.", "", each) for each in (*named, "None", "None")]
                        with failures.of(f"{namespace}.{ast.unparse(name)}"):
                            assert declared[0] == found[0]
                            assert declared[1] in (found[1], "Any")


def test_a_table_row_imports_no_wire_class_before_its_types_are_used() -> None:
    code = (
        "import sys, lmstudio_async._protocol._endpoints as e; [e.endpoints(name) for name in e.NAMESPACES];"
        "print(*(m for m in sys.modules if m.startswith('lmstudio_async._wire.')))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.split() == []


def test_read_by_replaces_the_reader_of_a_result() -> None:
    endpoint: RpcEndpoint[None, list[str]] = RpcEndpoint("getFlags", None, "list[str]")
    counting = endpoint.read_by(len)
    assert endpoint.read_result(["a", "b"]) == ["a", "b"]
    assert counting.read_result(["a", "b"]) == 2
    assert counting.name == endpoint.name


def test_an_endpoint_that_is_not_idempotent_is_not_repeatable() -> None:
    once = {entry.name for _, entry in TABLE if isinstance(entry, RpcEndpoint) and not entry.repeatable}
    assert {"unloadModel", "requestShutdown", "processingHandleUpdate", "processingHandleRequest"} <= once
    assert not once & {"listLoaded", "listDownloadedModels", "version", "searchModels", "tokenize"}


def test_only_get_model_info_has_an_optional_result_and_only_survey_hardware_an_optional_parameter() -> None:
    calls = [(name, entry) for name, entry in TABLE if isinstance(entry, RpcEndpoint)]
    assert [(name, entry.name) for name, entry in calls if entry.optional_result] == [
        ("llm", "getModelInfo"),
        ("embedding", "getModelInfo"),
    ]
    assert [(name, entry.name) for name, entry in calls if entry.optional_parameter] == [
        ("runtime", "surveyHardware")
    ]


def test_engine_selections_are_sent_as_undefined_and_received_as_a_map() -> None:
    endpoint = endpoints("runtime")["getEngineSelections"]
    assert isinstance(endpoint, RpcEndpoint)
    question = {"json": None, "meta": {"values": ["undefined"]}}
    engine = {"name": "llama.cpp-linux-x86_64-avx2", "version": "1.50.2"}
    answer = {"json": [["GGUF", engine]], "meta": {"values": ["map"]}}
    assert write(read(endpoint.parameter, question)) == question
    assert write(read(endpoint.result, answer)) == answer


def test_a_result_that_is_no_struct_is_checked_against_its_type() -> None:
    flags = endpoints("system")["getExperimentFlags"]
    assert isinstance(flags, RpcEndpoint)
    assert read(flags.result, ["a", "b"]) == ["a", "b"]
    with pytest.raises(MalformedError, match="a text"):
        read(flags.result, ["a", 1])


def test_a_namespace_that_is_not_used_is_not_imported() -> None:
    code = (
        "import sys, lmstudio_async._protocol._endpoints as e; e.endpoints('system');"
        "print(*sorted(m.rpartition('.')[2] for m in sys.modules if m.startswith(e.__name__ + '.')))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.split() == ["_base", "_untyped", "system"]
