"""A real OpenID provider as a process on loopback, and somebody who signs in there with a browser.

It is npm's `oidc-provider` (`openid/`), run by the Node.js that comes with the locked packages.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urljoin, urlsplit

import bootstrap
import httpx
from processes import Process, lasting_port

_SCRIPT: Final = Path(__file__).parent / "openid" / "provider.mjs"
CLIENT: Final = "sprat"
SECRET: Final = "a secret of 32 letters + more %/~"
_HOPS: Final = 12
_FORM: Final = re.compile(r"<form([^>]*)>(.*?)</form>", re.DOTALL)
_INPUT: Final = re.compile(r"<input([^>]*)/?>", re.DOTALL)
_ATTRIBUTE: Final = re.compile(r'([a-z-]+)="([^"]*)"')


class OpenIdProvider:
    """The provider."""

    def __init__(self, folder: Path, *, trust: Path | None = None) -> None:
        """Start nothing yet.

        Args:
            folder: Of its log.
            trust: Whose certificates it believes when it calls its clients.
        """
        self._ready = folder / "openid.json"
        command = [str(bootstrap.node()), str(_SCRIPT), str(bootstrap.ensure_openid_provider())]
        environment = {"OPENID_PORT": str(lasting_port())}
        if trust:
            environment["NODE_EXTRA_CA_CERTS"] = str(trust)
        self._process = Process(
            "openid", [*command, str(self._ready)], folder, self._ready, environment
        )
        self._set: dict[str, Any] = {}
        self.issuer = ""

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.stop()

    def start(self) -> None:
        """Start it, at the same address as before."""
        self.issuer = str(self._process.start()["issuer"])
        if self._set:
            self.control(set=self._set)

    def stop(self) -> None:
        """End it."""
        self._process.terminate()

    def log(self) -> str:
        """Return the end of what it said."""
        return self._process.log_tail()

    def control(self, **asked: Any) -> dict[str, Any]:
        """Change it; return its keys' names and how often each path was asked for."""
        self._set |= asked.get("set", {})
        answer = httpx.post(f"{self.issuer}/control", json=asked, trust_env=False)
        answer.raise_for_status()
        return dict(answer.json())

    def register(self, controller: str) -> None:
        """Have a controller be its client."""
        self.control(
            set={
                "clients": [
                    {
                        "client_id": CLIENT,
                        "client_secret": SECRET,
                        "redirect_uris": [f"{controller}/api/v1/oidc/callback"],
                        "grant_types": [
                            "authorization_code",
                            "urn:ietf:params:oauth:grant-type:device_code",
                        ],
                        "response_types": ["code"],
                        "scope": "openid profile groups",
                        "backchannel_logout_uri": f"{controller}/api/v1/oidc/backchannel-logout",
                        "backchannel_logout_session_required": True,
                    }
                ]
            }
        )

    def put_in_groups(self, **groups: list[str]) -> None:
        """Say who is in which groups, all of them."""
        self.control(set={"groups": groups})

    def rotate(self) -> None:
        """Have it sign with another key, and have no more the one before."""
        self.control(rotate=True)
        self._set.pop("keys", None)

    def asked(self, path: str) -> int:
        """Return how often a path was asked for."""
        requests: dict[str, int] = self.control()["requests"]
        return requests.get(path, 0)


def write_configuration(folder: Path, issuer: str, controller: str, *more: str) -> Path:
    """Write the file of `--oidc`, and return its path."""
    (folder / "oidc.secret").write_text(f"{SECRET}\n")
    file = folder / "oidc.toml"
    lines = (
        f'issuer = "{issuer}"',
        f'client_id = "{CLIENT}"',
        'client_secret_file = "oidc.secret"',
        f'redirect_uri = "{controller}/api/v1/oidc/callback"',
        'scopes = ["openid", "profile", "groups"]',
        *more,
        '[[role]]\ngroup = "fleet-admins"\nrole = "admin"',
        '[[role]]\ngroup = "lyon"\nrole = "operator"\nscope = "site = lyon"',
        '[[role]]\ngroup = "watchers"\nrole = "viewer"',
    )
    file.write_text("\n".join(lines))
    return file


class Browser:
    """Somebody's browser: keeps cookies, follows where it is sent, and fills forms in.

    Cookies of `Secure` go to loopback too, as real browsers have it.
    """

    def __init__(self, http: httpx.Client, name: str) -> None:
        """Use a client that follows nothing by itself.

        Args:
            http: Reaches the controller and the provider.
            name: What its owner types as their login.
        """
        self.http = http
        self.name = name
        self.cookies: dict[str, dict[str, str]] = {}
        self.path: list[str] = []

    def get(self, url: str) -> httpx.Response:
        """Ask for one page, with the cookies of its host."""
        return self._send("GET", url)

    def go(self, url: str, until: str = "") -> httpx.Response:
        """Follow redirects and forms until there is nothing to follow, or at a path."""
        answer = self._send("GET", url)
        for _ in range(_HOPS):
            following = self._following(answer)
            if following is None:
                return answer
            method, address, form = following
            if until and urlsplit(address).path.startswith(until):
                self.path.append(address)
                return answer
            answer = self._send(method, address, form)
        raise AssertionError(f"went round and round: {self.path}")

    def _following(self, answer: httpx.Response) -> tuple[str, str, dict[str, str]] | None:
        if answer.has_redirect_location:
            return "GET", urljoin(str(answer.url), answer.headers["location"]), {}
        if "text/html" not in answer.headers.get("content-type", ""):
            return None
        found = _FORM.search(answer.text)
        if found is None:
            return None
        action = html.unescape(dict(_ATTRIBUTE.findall(found[1]))["action"])
        form: dict[str, str] = {}
        for one in _INPUT.findall(found[2]):
            attributes = dict(_ATTRIBUTE.findall(one))
            if "name" in attributes:
                form[attributes["name"]] = html.unescape(attributes.get("value", ""))
        if form.get("user_code") == "":
            return None  # nobody knows what to type
        if "op.logoutForm" in found[1]:
            form["logout"] = "yes"  # its buttons are outside of it
        if "login" in form:
            form |= {"login": self.name, "password": "anything"}
        return "POST", urljoin(str(answer.url), action), form

    def _send(self, method: str, url: str, form: dict[str, str] | None = None) -> httpx.Response:
        host = urlsplit(url).netloc
        kept = self.cookies.setdefault(host, {})
        headers = {"cookie": "; ".join(f"{name}={value}" for name, value in kept.items())}
        self.path.append(url)
        answer = self.http.request(method, url, data=form or None, headers=headers if kept else {})
        for name, value in answer.cookies.items():
            kept[name] = value
        for gone in re.findall(r'([^=,; ]+)=""?;[^,]*(?:Max-Age=0|1970)', str(answer.headers)):
            kept.pop(gone, None)
        self.http.cookies.clear()
        return answer
