"""Parsing of the address of a server, in the forms that people write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstudio_async._transport import ServerAddress, parse_api_host
from lmstudio_async.errors import LMStudioValueError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost", ServerAddress(False, "localhost", 1234)),
        ("LocalHost:41343", ServerAddress(False, "localhost", 41343)),
        (" 10.0.0.7:8080\n", ServerAddress(False, "10.0.0.7", 8080)),
        ("host/prefix", ServerAddress(False, "host", 1234, "/prefix")),
        ("http://host", ServerAddress(False, "host", 80)),
        ("http://host:1234/", ServerAddress(False, "host", 1234)),
        ("https://lm.example.com", ServerAddress(True, "lm.example.com", 443)),
        ("HTTPS://host:8443/a/b/", ServerAddress(True, "host", 8443, "/a/b")),
        ("ws://host:1234", ServerAddress(False, "host", 1234)),
        ("wss://host/lm", ServerAddress(True, "host", 443, "/lm")),
        ("::1", ServerAddress(False, "::1", 1234)),
        ("[::1]", ServerAddress(False, "::1", 1234)),
        ("[::1]:41343", ServerAddress(False, "::1", 41343)),
        ("http://[2001:DB8::1]:1234/x", ServerAddress(False, "2001:db8::1", 1234, "/x")),
        ("bücher.example", ServerAddress(False, "bücher.example", 1234)),
        ("my_box.local.", ServerAddress(False, "my_box.local.", 1234)),
    ],
)
def test_every_usual_form_is_understood(text: str, expected: ServerAddress) -> None:
    assert parse_api_host(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://host:1234/v1", "host:1234"),
        ("http://host:1234/v1/", "host:1234"),
        ("host:1234/v1", "host:1234"),
        ("ws://host:1234/api/v0", "host:1234"),
        ("http://host:1234/api/v1/", "host:1234"),
        ("http://[::1]:1234/v1", "[::1]:1234"),
        ("https://lm.example/v1", "https://lm.example"),
        ("https://lm.example/lm/v1", "https://lm.example/lm"),
        ("https://lm.example/lm/api/v1", "https://lm.example/lm"),
        # A prefix that only begins or ends like one of those paths is kept.
        ("https://lm.example/v1/lm", "https://lm.example/v1/lm"),
        ("https://lm.example/dev1", "https://lm.example/dev1"),
        ("https://lm.example/api", "https://lm.example/api"),
        ("https://lm.example/v2", "https://lm.example/v2"),
    ],
)
def test_the_path_of_the_rest_api_is_removed_from_an_address(text: str, expected: str) -> None:
    assert str(parse_api_host(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "  ", ":1234", "http://", "http:///llm", "1234", "host:", "host:0", "host:65536", "host:-1", "host:+1",
        "host:1_0", "host:١٢", "host:12a", "host:1:2", "[::1", "[::1]x", "[host]:1", "ftp://host", "http://http://host",
        "host name", "ho\nst", "host?x=1", "host#x", "http://host/a b", "http://user@host", "a..b", "host\\x",
    ],
)  # fmt: skip
def test_an_invalid_address_is_refused_with_the_valid_forms(text: str) -> None:
    with pytest.raises(LMStudioValueError, match='"host:port"'):
        parse_api_host(text)


@pytest.mark.parametrize("value", [None, 1234, b"localhost", ["localhost"]])
def test_anything_but_a_string_is_refused(value: object) -> None:
    with pytest.raises(LMStudioValueError, match="must be a string"):
        parse_api_host(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["http://me:hunter2@host", "foo://me:hunter2@host", "host?token=hunter2", "host#hunter2"]
)
def test_secrets_do_not_reach_the_message(text: str) -> None:
    with pytest.raises(LMStudioValueError) as caught:
        parse_api_host(text)
    assert "hunter2" not in str(caught.value)


def test_urls_follow_from_the_address() -> None:
    plain, secure = parse_api_host("[::1]:5"), parse_api_host("https://host/lm/")
    assert plain.http_url("/lmstudio-greeting") == "http://[::1]:5/lmstudio-greeting"
    assert plain.websocket_url("llm") == "ws://[::1]:5/llm"
    assert secure.http_url("lmstudio-greeting") == "https://host:443/lm/lmstudio-greeting"
    assert secure.websocket_url("llm") == "wss://host:443/lm/llm"


@pytest.mark.parametrize(
    "text", ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "[::ffff:127.0.0.1]", "localhost."]
)
def test_a_loopback_address_is_recognised(text: str) -> None:
    assert parse_api_host(text).is_loopback


@pytest.mark.parametrize("text", ["localhost.example.com", "10.0.0.1", "::2", "0.0.0.0", "notlocalhost"])
def test_an_address_of_another_machine_is_no_loopback_address(text: str) -> None:
    assert not parse_api_host(text).is_loopback


@given(
    secure=st.booleans(),
    host=st.sampled_from(["localhost", "a-b.example", "127.0.0.1", "::1", "2001:db8::7"]),
    port=st.integers(1, 65535) | st.sampled_from([80, 443, 1234]),
    prefix=st.sampled_from(["", "/lm", "/a/b%20c"]),
)
def test_an_address_survives_formatting_and_parsing(secure: bool, host: str, port: int, prefix: str) -> None:
    address = ServerAddress(secure, host, port, prefix)
    assert parse_api_host(str(address)) == address
    assert parse_api_host(address.websocket_url("")) == address


def test_a_public_parser_understands_the_same_forms() -> None:
    assert ServerAddress.parse("https://lm.example/v1") == ServerAddress(True, "lm.example", 443)
    with pytest.raises(LMStudioValueError, match="makes no sense"):
        ServerAddress.parse("http://a b")


def test_the_addresses_of_this_machine_end_with_the_port_that_users_see() -> None:
    addresses = ServerAddress.on_this_machine()
    assert [address.port for address in addresses] == [41343, 52993, 16141, 39414, 22931, 1234]
    assert all(address.is_loopback and not address.secure for address in addresses)
    assert str(addresses[-1]) == "127.0.0.1:1234"
