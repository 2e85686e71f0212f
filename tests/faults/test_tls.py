"""A server behind TLS: the certificates that the client trusts, and its errors for others."""

from __future__ import annotations

import gc
import ssl
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme

import lmstudio_sync
from lmstudio_async import AsyncClient, LMStudioUnreachableError, LMStudioValueError
from lmstudio_async._client_limits import ClientLimits
from tests.faults.socket_server import SocketServer, serve_well


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def shown_by(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    """Return the TLS context of a server with a certificate of the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture(params=["a path", "a text", "a context"])
def verify(request: pytest.FixtureRequest, ca_file: Path) -> Any:
    """The forms of the argument `verify`."""
    return {
        "a path": ca_file,
        "a text": str(ca_file),
        "a context": ssl.create_default_context(cafile=str(ca_file)),
    }[request.param]


@pytest.mark.parametrize("scheme", ["https", "wss"])
async def test_verify_makes_the_client_trust_an_authority(
    authority: trustme.CA, verify: Any, scheme: str
) -> None:
    with anyio.fail_after(20), SocketServer(serve_well, tls=shown_by(authority)) as server:
        async with AsyncClient(f"{scheme}://{server.api_host}", verify=verify) as client:
            (llm,) = await client.llm.list_loaded()
            assert str(await llm.respond("Hello")) == "Hi"


async def test_ssl_cert_file_makes_the_client_trust_an_authority(
    authority: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    with anyio.fail_after(20), SocketServer(serve_well, tls=shown_by(authority)) as server:
        async with AsyncClient(f"https://{server.api_host}") as client:
            assert len(await client.llm.list_loaded()) == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_verify_makes_a_blocking_client_trust_an_authority(
    authority: trustme.CA, ca_file: Path, backend: Any
) -> None:
    with SocketServer(serve_well, tls=shown_by(authority)) as server:
        place = f"https://{server.api_host}"
        with lmstudio_sync.Client(place, verify=ca_file, backend=backend) as client:
            assert len(client.llm.list_loaded()) == 1


async def test_a_certificate_of_an_unknown_authority_is_refused(authority: trustme.CA) -> None:
    with anyio.fail_after(20), SocketServer(serve_well, tls=shown_by(authority)) as server:
        async with AsyncClient(f"https://{server.api_host}") as client:
            with pytest.raises(LMStudioUnreachableError, match="not trusted.*as verify") as caught:
                await client.llm.list_loaded()
    assert "Start LM Studio" not in str(caught.value)


async def test_a_certificate_of_another_authority_is_refused(authority: trustme.CA, ca_file: Path) -> None:
    with anyio.fail_after(20), SocketServer(serve_well, tls=shown_by(trustme.CA())) as server:
        async with AsyncClient(f"https://{server.api_host}", verify=ca_file) as client:
            with pytest.raises(LMStudioUnreachableError, match="not trusted"):
                await client.llm.list_loaded()


async def test_a_certificate_for_another_name_is_refused(authority: trustme.CA, ca_file: Path) -> None:
    tls = shown_by(authority, "elsewhere.example")
    with anyio.fail_after(20), SocketServer(serve_well, tls=tls) as server:
        async with AsyncClient(f"https://{server.api_host}", verify=ca_file) as client:
            with pytest.raises(LMStudioUnreachableError, match="not trusted.*127.0.0.1") as caught:
                await client.llm.list_loaded()
    assert "a name in api_host that the certificate is for" in str(caught.value)
    assert "Start LM Studio" not in str(caught.value)


async def test_a_server_without_tls_gets_no_request_in_the_clear(ca_file: Path) -> None:
    # Without a limit they would wait for each other: the server for a request, the client for a certificate.
    limits = ClientLimits(connect_seconds=0.5)
    with anyio.fail_after(20), SocketServer(serve_well) as server:
        async with AsyncClient(f"https://{server.api_host}", verify=ca_file, _limits=limits) as client:
            with pytest.raises(LMStudioUnreachableError, match="did not complete the handshake"):
                await client.llm.list_loaded()
    # A socket that was left open would cause a warning, which pytest turns into an error.
    gc.collect()


@pytest.mark.parametrize("host", ["127.0.0.1:1", "http://127.0.0.1:1"])
async def test_verify_is_refused_for_an_address_without_tls(host: str, ca_file: Path) -> None:
    with pytest.raises(LMStudioValueError, match="127.0.0.1:1 does not use TLS"):
        async with AsyncClient(host, verify=ca_file):
            pytest.fail("entered")


@pytest.mark.parametrize("verify", [False, True, 5])
def test_verify_must_be_a_path_or_a_context(verify: Any) -> None:
    with pytest.raises(LMStudioValueError, match="ssl.SSLContext"):
        AsyncClient("https://127.0.0.1", verify=verify)
