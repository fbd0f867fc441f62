"""Which addresses files may come from, and a session that asks just those.

The addresses of outputs are what a server says, so they are not trusted: the host must be Wiro's or one that the
connection names, reached over https, and its name must lead to the public internet. The request goes to the very
address that was checked, so that a name that changes its mind between check and request gains nothing.
"""

from __future__ import annotations

import os
import re
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter

from airflow_provider_wiro.exceptions import WiroOutputError

WIRO_HOSTS = ("wiro.ai", "*.wiro.ai")
_NAT64 = ip_network("64:ff9b::/96")
# All that is public; sites may route the rest (fec0::/10, 64:ff9b:1::/48) to themselves.
_UNICAST = ip_network("2000::/3")
_REDIRECTS = 3
_REDIRECTING = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Address:
    """Where a file is, after it was checked."""

    url: str
    host: str
    checked: tuple[str, ...]
    """The internet addresses of the host; empty where a proxy finds it."""


@dataclass(frozen=True)
class Sources:
    """Which addresses files may come from.

    :param base_url: the connection's: a local Wiro may serve files from where it is, whatever its address.
    :param more: hosts beside Wiro's own; ``*.`` in front of a name for all below.
    """

    base_url: str
    more: tuple[str, ...] = ()

    @property
    def hosts(self) -> tuple[str, ...]:
        """All hosts that files may come from."""
        return (*WIRO_HOSTS, *self.more)

    def admit(self, url: str) -> Address:
        """Return an address that may be asked.

        :param url: as Wiro gives it, or a redirect.
        :raises WiroOutputError: it may not be asked, or its host is not known now.
        """
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            raise _refused(url, "it is no address") from None
        if not host or not re.fullmatch(r"[\x21-\x5b\x5d-\x7e]+", url):
            raise _refused(url, "it is no address")
        if "@" in parts.netloc:
            raise _refused(url, "it has a user name in it")
        own = urlsplit(self.base_url)
        same = (parts.scheme, port or _PORTS.get(parts.scheme)) == (own.scheme, own.port or _PORTS.get(own.scheme))
        own_host = (own.hostname or "").rstrip(".")
        if same and (host == own_host or _is_loopback(host) and _is_loopback(own_host)):
            return Address(url, host, ())
        if parts.scheme != "https":
            raise _refused(url, "it is not https")
        if not any(_matches(host, allowed) for allowed in self.hosts):
            raise _refused(url, f"allowed are {', '.join(self.hosts)} and {own.netloc}")
        if requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url)):
            return Address(url, host, ())
        return Address(url, host, _resolve(url, host, port or 443))


def _refused(url: str, why: str) -> WiroOutputError:
    shown = re.sub(r"[?#].*", "", re.sub(r"//[^/@]*@", "//", repr(url[:120])))
    return WiroOutputError(
        f"An output's address is {shown}, which is not asked: {why}.",
        retryable=False,
        advice="The task is paid and its files stay at Wiro for a limited time. If that host is to be trusted, "
        "name it in 'Output hosts' of the connection; then clear this task, which fetches and does not order again.",
    )


def _matches(host: str, allowed: str) -> bool:
    host, allowed = host.lower(), allowed.strip().lower()
    return host.endswith(allowed[1:]) if allowed.startswith("*.") else host == allowed


def _resolve(url: str, host: str, port: int) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise WiroOutputError(f"The host of an output, {host!r}, is not found: {error}.") from error
    addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        if not is_public(address):
            raise _refused(url, f"its host is {address}, which is not on the public internet")
    return addresses


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def is_public(address: str) -> bool:
    """Tell whether an internet address belongs to the public internet, in whatever form it is wrapped."""
    number = ip_address(address.partition("%")[0])
    if isinstance(number, IPv6Address):
        inner = number.ipv4_mapped or number.sixtofour or (number.teredo[1] if number.teredo else None)
        if number in _NAT64:
            inner = ip_address(int(number) & 0xFFFFFFFF)  # type: ignore[assignment]
        if inner is not None:
            return is_public(str(inner))
        if number not in _UNICAST:
            return False
    return number.is_global and not number.is_multicast


class Cord:
    """What a download hangs by. Cut, it ends at once, whatever it waits for.

    Time-outs do not see to that: they begin anew with every byte, and a head can come byte by byte for days.
    """

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self.is_cut = False

    def tie(self, connected: Any) -> None:
        """Note a connection of the download."""
        with self._lock:
            if isinstance(connected, socket.socket):
                self._sockets.append(connected)
        if self.is_cut:
            self.cut()

    def cut(self) -> None:
        """End all connections, and those to come."""
        with self._lock:
            self.is_cut = True
            for each in self._sockets:
                # Not the method of a TLS socket, which would pull the encryption from under the thread that reads.
                with suppress(OSError):
                    socket.socket.shutdown(each, socket.SHUT_RDWR)


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Look at no redirect, where `requests` would read its body to the end, however long, to be able to go on."""


class _Tied(HTTPAdapter):
    """Makes connections that can be cut."""

    def __init__(self, cord: Cord) -> None:
        super().__init__()
        self._cord = cord

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        cord = self._cord

        class Tied(pool.ConnectionCls):  # type: ignore[misc]
            def connect(self) -> None:
                super().connect()
                cord.tie(self.sock)

        pool.ConnectionCls = Tied
        return pool


class _ToCheckedAddress(_Tied):
    """Connects to an address in place of a name, with the name's certificate and `Host`."""

    def __init__(self, cord: Cord, host: str, address: str) -> None:
        super().__init__(cord)
        self._host = host
        self._address = address

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        where, how = super().build_connection_pool_key_attributes(request, verify, cert)
        where["host"] = self._address
        if where["scheme"] == "https":
            how.update({"server_hostname": self._host, "assert_hostname": self._host})  # type: ignore[misc]
        return where, how


def ask(
    sources: Sources, url: str, headers: dict[str, str], timeouts: tuple[float, float], turn: int, cord: Cord
) -> Any:
    """Send a GET, follow its redirects to addresses that may be asked, and return the answer, not yet read.

    :param sources: what may be asked.
    :param url: the address.
    :param headers: no credentials.
    :param timeouts: seconds to connect, seconds without a byte.
    :param turn: which of a host's addresses is taken, counted round.
    :param cord: ends it all when it is cut.
    :raises WiroOutputError: an address may not be asked, or there are too many redirects.
    :raises requests.exceptions.RequestException: there is no answer.
    """
    for _ in range(_REDIRECTS + 1):
        address = sources.admit(url)
        response = _get(address, headers, timeouts, turn, cord)
        if response.status_code not in _REDIRECTING or "Location" not in response.headers:
            return response
        response.close()
        try:
            url = urljoin(url, response.headers["Location"])
        except ValueError:
            raise _refused(response.headers["Location"], "it is no address") from None
    raise WiroOutputError(f"An output's address leads on more than {_REDIRECTS} times.", retryable=False)


def _get(
    address: Address, headers: dict[str, str], timeouts: tuple[float, float], turn: int, cord: Cord
) -> requests.Response:
    session = _Session()
    # Nothing of the API connection goes to the CDN, nor what a ~/.netrc may hold for its host.
    session.trust_env = False
    session.proxies = requests.utils.get_environ_proxies(address.url)
    session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
    for scheme in _PORTS:
        session.mount(f"{scheme}://", _Tied(cord))
    if address.checked:
        session.mount("https://", _ToCheckedAddress(cord, address.host, address.checked[turn % len(address.checked)]))
        headers = {**headers, "Host": urlsplit(address.url).netloc}
    return session.get(address.url, headers=headers, stream=True, timeout=timeouts, allow_redirects=False)
