"""Kafka behind locks: one broker with a listener for each way to log in, and a list of who may what.

The plain listener is for the test itself, which may do everything. `dcnios`, by whatever way it comes in, may
too; `stranger` may log in, and that is all.
"""

import base64
import json
import time
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from tests.servers.commands import run, tool
from tests.servers.kafka import CLUSTER_ID, Kafka
from tests.servers.pki import Pki
from tests.servers.workspace import Workspace

PASSWORD = "open-sesame"
AUDIENCE = "kafka"

_SECURITY = "org.apache.kafka.common.security"
_PROPERTIES = """
listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},SASL://127.0.0.1:{sasl},\
SASLTLS://127.0.0.1:{sasl_tls},TLS://127.0.0.1:{tls}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL://127.0.0.1:{sasl},\
SASLTLS://127.0.0.1:{sasl_tls},TLS://127.0.0.1:{tls}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,SASLTLS:SASL_SSL,TLS:SSL
inter.broker.listener.name=PLAINTEXT
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:dcnios;User:CN=dcnios-testbed
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
listener.name.tls.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
sasl.oauthbearer.jwt.validator.class={security}.oauthbearer.BrokerJwtValidator
sasl.oauthbearer.jwks.endpoint.url={jwks}
sasl.oauthbearer.expected.audience={audience}
"""
_LISTENER = """
listener.name.{name}.plain.sasl.jaas.config={security}.plain.PlainLoginModule required \
user_dcnios="{password}" user_stranger="{password}";
listener.name.{name}.scram-sha-256.sasl.jaas.config={security}.scram.ScramLoginModule required;
listener.name.{name}.scram-sha-512.sasl.jaas.config={security}.scram.ScramLoginModule required;
listener.name.{name}.oauthbearer.sasl.jaas.config={security}.oauthbearer.OAuthBearerLoginModule required;
listener.name.{name}.oauthbearer.sasl.server.callback.handler.class=\
{security}.oauthbearer.OAuthBearerValidatorCallbackHandler
listener.name.{name}.oauthbearer.connections.max.reauth.ms=3600000
"""


class GuardedKafka(Kafka):
    """`dcnios` and `stranger` log in with PASSWORD, or with a token; or as the owner of our certificate."""

    def __init__(self, space: Workspace) -> None:
        super().__init__(space, name="guarded-kafka")
        self.pki = Pki(self.directory)
        self.signer = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._ports = {name: space.port() for name in ("sasl", "sasl_tls", "tls")}

    def at(self, listener: str) -> str:
        """The address of `sasl`, `sasl_tls` or `tls`."""
        return f"127.0.0.1:{self._ports[listener]}"

    def token(self, *, subject: str = "dcnios", seconds: float = 600, audience: str = AUDIENCE) -> str:
        """A token (JWT, RS256) that says who its bearer is, for some seconds from now."""
        now = time.time()
        claims = {"sub": subject, "aud": audience, "iat": now - 60, "exp": now + seconds, "scope": "kafka"}
        head = _encoded(json.dumps({"alg": "RS256", "typ": "JWT", "kid": "test"}).encode())
        said = f"{head}.{_encoded(json.dumps(claims).encode())}"
        signature = self.signer.sign(said.encode(), padding.PKCS1v15(), SHA256())
        return f"{said}.{_encoded(signature)}"

    def prepare(self) -> None:
        """Certificates and keys first: the configuration names them."""
        self.pki.create()
        keystore, jwks = self.directory / "keystore.pem", self.directory / "jwks.json"
        key = run([tool("openssl", "OpenSSL"), "pkcs8", "-topk8", "-nocrypt", "-in", str(self.pki.key)])
        keystore.write_text(key + self.pki.certificate.read_text())
        jwks.write_text(json.dumps({"keys": [self._public_key()]}))
        logins = {"password": PASSWORD, "jwks": jwks.as_uri(), "audience": AUDIENCE, "security": _SECURITY}
        listeners = "".join(_LISTENER.format(name=name, **logins) for name in ("sasl", "sasltls"))
        self._properties = listeners + _PROPERTIES.format(
            plain=self._port,
            controller=self._controller,
            **self._ports,
            keystore=keystore,
            ca=self.pki.ca,
            **logins,
        )
        super().prepare()

    def _public_key(self) -> dict[str, str]:
        numbers = self.signer.public_key().public_numbers()
        modulus = numbers.n.to_bytes(256, "big")
        return {"kty": "RSA", "kid": "test", "alg": "RS256", "n": _encoded(modulus), "e": "AQAB"}

    def fill(self, data: Path, formatted: Path) -> None:
        """SCRAM users are made where the data folder is."""
        users = [
            f"--add-scram={mechanism}=[name={user},password={PASSWORD}]"
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for user in ("dcnios", "stranger")
        ]
        properties = self.directory / "server.properties"
        tool_words = self.java(
            "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", properties, *users
        )
        run(tool_words, cwd=self.directory)

    def command(self) -> Sequence[str | Path]:
        """Kafka reads keys from an address only if that is allowed by its command line."""
        java, *rest = super().command()
        allowed = (self.directory / "jwks.json").as_uri()
        return [java, f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={allowed}", *rest]


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
