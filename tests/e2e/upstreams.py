# SPDX-License-Identifier: Apache-2.0
"""Real upstream proxies for the tests: squid for http and https, microsocks for SOCKS5.

Each knows names of its own, as the proxy of a company does, and keeps a log of what reached it."""
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

USER, PASSWORD = "proxy-user", "proxy:p@ss/word-8c1f"
ENCODED = "proxy%3Ap%40ss%2Fword-8c1f"

SQUID = """
http_port 127.0.0.1:{port}
{tls}
auth_param basic program {helper} {folder}/users
auth_param basic children 2 startup=1
acl known proxy_auth REQUIRED
acl ssl_ports port {connect}
acl CONNECT method CONNECT
http_access deny CONNECT !ssl_ports
http_access {allowed}
http_access deny all
hosts_file {folder}/names
logformat plain %>Hs %rm %ru %[un
access_log stdio:{folder}/access.log logformat=plain
cache_log {folder}/cache.log
strip_query_terms off
cache deny all
pid_filename none
coredump_dir {folder}
shutdown_lifetime 0 seconds
pinger_enable off
netdb_filename none
visible_hostname upstream.example
forwarded_for delete
http_upgrade_request_protocols websocket deny all
"""


def program(name):
    found = shutil.which(name) or f"/usr/sbin/{name}"
    assert os.access(found, os.X_OK), f"{name} is missing: tools/setup test installs it"
    return found


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def wait_for_port(port, process):
    for _ in range(600):
        assert process.poll() is None, "the proxy of the test ended"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the proxy of the test does not listen")


def end(process):
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Squid:
    def __init__(self, names=None, tls=None, connect="1-65535", password=True):
        """`tls`: (certificate, key) of a second port.  `connect`: ports that tunnels may lead to."""
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sbx-squid-"))
        self.folder.chmod(0o777)  # squid is another user then
        self.port, self.tls_port = free_port(), free_port()
        hashed = subprocess.run(["openssl", "passwd", "-apr1", PASSWORD], check=True, text=True,
                                capture_output=True).stdout
        (self.folder / "users").write_text(f"{USER}:{hashed}")
        (self.folder / "names").write_text(
            "".join(f"{address} {name}\n" for name, address in (names or {}).items()))
        port = (f"https_port 127.0.0.1:{self.tls_port} tls-cert={tls[0]} tls-key={tls[1]}"
                if tls else "")
        config = self.folder / "squid.conf"
        config.write_text(SQUID.format(
            port=self.port, tls=port, folder=self.folder, connect=connect,
            helper="/usr/lib/squid/basic_ncsa_auth",
            allowed="allow known" if password else "allow all"))
        self.process = subprocess.Popen([program("squid"), "-N", "-f", config],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(self.port, self.process)
        self.url = f"http://{USER}:{ENCODED}@127.0.0.1:{self.port}"

    def log(self):
        """Lines "status method url user"."""
        path = self.folder / "access.log"
        return [line for line in (path.read_text() if path.exists() else "").splitlines()
                if "NONE" not in line and "error:" not in line]

    def logged(self, text):
        for _ in range(200):
            if any(text in line for line in self.log()):
                return True
            time.sleep(0.05)
        return False

    def close(self):
        end(self.process)
        shutil.rmtree(self.folder)


class Socks:
    def __init__(self, folder, names=None, password=True):
        self.folder = pathlib.Path(folder)
        self.port = free_port()
        hosts = self.folder / f"socks-names-{self.port}"
        hosts.write_text("127.0.0.1 localhost\n" +
                         "".join(f"{a} {n}\n" for n, a in (names or {}).items()))
        self.path = self.folder / f"socks-{self.port}.log"
        words = ["-u", USER, "-P", PASSWORD] if password else []
        with self.path.open("w") as log:
            self.process = subprocess.Popen(
                ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hosts,
                 program("microsocks"), "-i", "127.0.0.1", "-p", str(self.port), *words],
                stdout=log, stderr=log)
        wait_for_port(self.port, self.process)

    def url(self, scheme):
        return f"{scheme}://{USER}:{ENCODED}@127.0.0.1:{self.port}"

    def log(self):
        return [line for line in self.path.read_text().splitlines() if "connected to" in line]

    def logged(self, text):
        for _ in range(200):
            if any(text in line for line in self.log()):
                return True
            time.sleep(0.05)
        return False

    def close(self):
        end(self.process)


def authority(folder, name, *more):
    """A certificate authority and a certificate of it for the names: (authority, certificate, key)."""
    folder = pathlib.Path(folder)
    ca, ca_key = folder / f"{name}-ca.pem", folder / f"{name}-ca.key"
    cert, key, request = (folder / f"{name}.{end}" for end in ("pem", "key", "csr"))

    def openssl(*words):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)

    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *ec, "-days", 2, "-keyout", ca_key, "-out", ca, "-subj",
            f"/O=Corp Example/CN=Root of {name}")
    openssl("req", *ec, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
    extensions = folder / f"{name}.ext"
    names = ",".join(f"{'IP' if each[0].isdigit() else 'DNS'}:{each}" for each in (name, *more))
    extensions.write_text(f"subjectAltName={names}\n")
    openssl("x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial",
            "-days", 2, "-extfile", extensions, "-out", cert)
    cert.chmod(0o644)
    key.chmod(0o644)
    return ca, cert, key
