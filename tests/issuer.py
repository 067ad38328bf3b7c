"""An OpenID Connect issuer on loopback, with keys that a test changes."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

RSA = rsa.generate_private_key(65_537, 2_048)
OTHER = rsa.generate_private_key(65_537, 2_048)
CURVE = ec.generate_private_key(ec.SECP256R1())


def jwk(key: Any, key_id: str) -> dict[str, Any]:  # noqa: ANN401 - of either kind
    kind = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return {**json.loads(kind.to_jwk(key.public_key())), "kid": key_id, "use": "sig"}


class Issuer(HTTPServer):
    """Gives out what a test puts into `keys` and `document`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_port}/realm"
        self.keys: list[dict[str, Any]] = [jwk(RSA, "one")]
        self.document: dict[str, Any] = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        self.n_requests = 0

    def token(
        self,
        key: Any = RSA,  # noqa: ANN401 - of any kind
        key_id: str = "one",
        algorithm: str = "RS256",
        without: tuple[str, ...] = (),
        **claims: Any,  # noqa: ANN401 - any JSON
    ) -> str:
        now = int(time.time())
        given = {
            "iss": self.url,
            "aud": "hl",
            "sub": "ann",
            "exp": now + 600,
            "scope": "read:energy",
            **claims,
        }
        kept = {name: value for name, value in given.items() if name not in without}
        return jwt.encode(kept, key, algorithm, headers={"kid": key_id})


class Answers(BaseHTTPRequestHandler):
    server: Issuer

    def do_GET(self) -> None:
        self.server.n_requests += 1
        if self.path == "/realm/moved":
            self.send_response(302)
            self.send_header("Location", f"{self.server.url}/keys")
            self.end_headers()
            return
        known = self.path.endswith("openid-configuration")
        body = json.dumps(self.server.document if known else {"keys": self.server.keys}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        pass


@contextmanager
def running_issuer() -> Iterator[Issuer]:
    with Issuer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
