"""A certificate authority for one cluster, from the openssl program."""

from pathlib import Path

from tests.servers.commands import run, tool

EXTENSIONS = """\
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = IP:127.0.0.1, DNS:localhost, DNS:kubernetes.default.svc
"""


class Pki:
    """`ca.crt` signs `server.crt`, which servers on 127.0.0.1 show; `accounts.key` signs service accounts."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.ca = directory / "ca.crt"
        self.certificate = directory / "server.crt"
        self.key = directory / "server.key"
        self.accounts_key = directory / "accounts.key"

    def create(self) -> None:
        """Writes the files."""
        extensions = self._directory / "extensions.cnf"
        extensions.write_text(EXTENSIONS)
        ca_key = self._directory / "ca.key"
        request = self._directory / "server.csr"
        for key in (ca_key, self.key, self.accounts_key):
            # The API server reads a service accounts' key only in this older form, not as PKCS #8.
            self._openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        constraints = [
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
            "-addext",
            "subjectKeyIdentifier=hash",
        ]
        subject = ["-subj", "/CN=dcnios-testbed-ca", "-days", "30"]
        self._openssl("req", "-x509", "-key", ca_key, *subject, *constraints, "-out", self.ca)
        self._openssl("req", "-new", "-key", self.key, "-subj", "/CN=dcnios-testbed", "-out", request)
        signer: list[str | Path] = ["-CA", self.ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "30"]
        signed: list[str | Path] = ["-extfile", extensions, "-extensions", "server", "-out", self.certificate]
        self._openssl("x509", "-req", "-in", request, *signer, *signed)

    def _openssl(self, *arguments: str | Path) -> None:
        run([tool("openssl", "OpenSSL"), *(str(argument) for argument in arguments)], cwd=self._directory)
