"""JWTs of an OpenID Connect issuer: its keys, and whether a token is one of its own.

Source: RFC 7515 to 7519, RFC 8725 (best practices), OpenID Connect Discovery 1.0 section 4.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import jwt

from hl_platform.core.errors import TransientError

TIMEOUT_S = 3.0
MAX_ANSWER_BYTES = 256 * 1024
MAX_KEYS = 32
# How far the clocks of two machines may differ.
LEEWAY_S = 30
# With public keys only: a symmetric algorithm would take a public key for a secret.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
REQUIRED = ("iss", "aud", "exp")

Keys = Mapping[str, jwt.PyJWK]


class Claims(NamedTuple):
    """What is used of a token that is right.

    Args:
        key_id: of the key that signed it.
        subject: whose it is.
        scopes: as they stand, of any kind.
        expires_at: Unix seconds.
    """

    key_id: str
    subject: str
    scopes: frozenset[str]
    expires_at: float


def fetch_keys(issuer: str) -> Keys:
    """The issuer's keys by their id, as its discovery document leads to them.

    Args:
        issuer: as it stands in `iss`.

    Raises:
        TransientError: the issuer does not answer, or not with what it should; keys elsewhere are not taken.
    """
    with _as_outage():
        document = _get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if document.get("issuer") != issuer:
            raise ValueError("it names another issuer")
        jwks_uri = str(document["jwks_uri"])
        if _origin(jwks_uri) != _origin(issuer):
            raise ValueError("its keys are elsewhere")
        keys = jwt.PyJWKSet.from_dict(_get(jwks_uri)).keys[:MAX_KEYS]
        return {str(key.key_id): key for key in keys if key.key_type != "oct" and _signs(key)}


def key_id_of(token: str) -> str | None:
    """The id of the key that a text says it was signed with; None if it is no JWT."""
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        return None
    return str(header["kid"]) if "kid" in header and header.get("alg") in ALGORITHMS else None


def verify(token: str, keys: Keys, issuer: str, audience: str) -> Claims | None:
    """What a token says; None unless the issuer signed it for this audience and it is not over."""
    key_id = key_id_of(token)
    if key_id is None or key_id not in keys:
        return None
    try:
        claims = jwt.decode(
            token,
            keys[key_id],
            algorithms=ALGORITHMS,
            issuer=issuer,
            audience=audience,
            leeway=LEEWAY_S,
            options={"require": list(REQUIRED)},
        )
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    return Claims(key_id, str(claims.get("sub", ""))[:100], _scopes(claims), float(claims["exp"]))


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    given = claims.get("scope", claims.get("scp", ""))
    listed = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
    return frozenset(scope for scope in listed if isinstance(scope, str))


def _signs(key: jwt.PyJWK) -> bool:
    return key.key_id is not None and key.public_key_use in (None, "sig")


class _Staying(HTTPRedirectHandler):
    """Follows no redirect: it could lead anywhere."""

    def redirect_request(self, *_args: object, **_more: object) -> None:
        return None


def _get(url: str) -> dict[str, Any]:
    request = Request(url, headers={"Accept": "application/json"})  # noqa: S310 - the setting's, whose scheme is checked
    with build_opener(_Staying).open(request, timeout=TIMEOUT_S) as answer:
        body = answer.read(MAX_ANSWER_BYTES + 1)
    if len(body) > MAX_ANSWER_BYTES:
        raise ValueError("its answer is too long")
    document = json.loads(body)
    if not isinstance(document, dict):
        raise TypeError("its answer is no object")
    return document


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


@contextmanager
def _as_outage() -> Iterator[None]:
    try:
        yield
    except (OSError, URLError, HTTPException, ValueError, TypeError, KeyError, jwt.PyJWTError) as exc:
        raise TransientError(f"The issuer's keys cannot be had: {exc}") from exc
