"""The command lines of deploy/ really started: over TLS, with probes, through a rolling restart under load."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.client import BlockingClient, EtcdError, TlsOptions
from tests.deploy.files import DEPLOY, Addresses, certs, environment_file, pod, rewritten, services
from tests.oracle import our_command, our_path, real_binary

pytestmark = pytest.mark.process

_READY_S = 60


class Started:
    """One member as its file starts it: a command, an environment, and where its certificates are."""

    def __init__(self, words: list[str], settings: dict[str, str], folder: Path, pki: Path, layout: str) -> None:
        self.words = words
        self.folder = folder
        self.settings = settings
        suffix = ("{}.pem", "{}-key.pem") if layout == "cfssl" else ("{}.crt", "{}.key")
        client = "client" if layout == "cfssl" else "healthcheck-client"
        self.ca = str(pki / suffix[0].format("ca"))
        self.cert = str(pki / suffix[0].format(client))
        self.key = str(pki / suffix[1].format(client))
        self.process: subprocess.Popen[bytes] | None = None

    def value(self, name: str) -> str:
        """Return a setting, from the command or the environment."""
        for word in self.words:
            if word.startswith(f"--{name}="):
                return word.partition("=")[2]
        return self.settings["ETCD_" + name.upper().replace("-", "_")]

    @property
    def endpoint(self) -> str:
        return self.value("advertise-client-urls")

    def start(self, notify: str = "") -> None:
        """Start the process."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("ETCD_", "NOTIFY_"))}
        env["PYTHONPATH"] = our_path()
        env |= self.settings
        if notify:
            env["NOTIFY_SOCKET"] = notify
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen([*our_command(), *self.words], env=env, cwd=self.folder, stderr=log)

    def probe(self, path: str) -> int:
        """Return the status with which the metrics listener answers a probe; 0 when nobody answers."""
        try:
            with urllib.request.urlopen(self.value("listen-metrics-urls") + path, timeout=15) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def wait_ready(self) -> None:
        """Wait until the readiness probe succeeds."""
        deadline = time.monotonic() + _READY_S
        while self.probe("/readyz") != 200:
            assert self.process is not None
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def log(self) -> str:
        """Return the end of the log."""
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def stop(self) -> int:
        """Send SIGTERM, as systemd and container engines do, and return the exit status."""
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(30)
        finally:
            process.kill()
            process.wait()

    def etcdctl(self, *words: str) -> str:
        """Run the real etcdctl with the client's certificate."""
        flags = [f"--endpoints={self.endpoint}", f"--cacert={self.ca}", f"--cert={self.cert}", f"--key={self.key}"]
        done = subprocess.run(
            [real_binary("etcdctl"), *flags, *words], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def members(tmp_path: Path) -> Iterator[list[Started]]:
    """The members that a test starts; all are stopped at its end."""
    found: list[Started] = []
    yield found
    for member in found:
        if member.process is not None:
            member.process.kill()
            member.process.wait()
    shutil.rmtree(tmp_path, ignore_errors=True)


def pki_of(tmp_path: Path, names: list[str], layout: str = "cfssl") -> dict[str, Path]:
    """Make a directory of certificates for each member, of one authority."""
    found = {}
    for name in names:
        folder = tmp_path / "pki" / name
        if found:
            folder.mkdir()
            for path in found[names[0]].glob("ca*"):
                shutil.copy(path, folder)
        certs(folder, f"--layout={layout}", f"--name={name}", f"--hosts={name},localhost,127.0.0.1")
        found[name] = folder
    return found


def from_compose(tmp_path: Path) -> list[Started]:
    """The three members of the compose file."""
    addresses = Addresses()
    pki = pki_of(tmp_path, list(services()))
    found = []
    for name, service in services().items():
        folder = tmp_path / name
        folder.mkdir()

        def change(text: str, name: str = name, folder: Path = folder) -> str:
            text = text.replace("/var/lib/etcd", str(folder / "data")).replace("/etc/etcd/ssl", str(pki[name]))
            return addresses.put_in(text, name)

        found.append(Started(rewritten(service["command"][1:], change), {}, folder, pki[name], "cfssl"))
    return found


def from_environment_file(tmp_path: Path) -> list[Started]:
    """Three members with the unit's settings, edited as an operator edits them for each machine."""
    addresses = Addresses()
    names = ["etcd1", "etcd2", "etcd3"]
    pki = pki_of(tmp_path, names)
    found = []
    for number, name in enumerate(names, 1):
        folder = tmp_path / name
        folder.mkdir()
        settings = environment_file(DEPLOY / "systemd" / "etcd.conf")
        for key, value in settings.items():
            text = value
            if key != "ETCD_INITIAL_CLUSTER":
                text = text.replace("etcd1", name).replace("192.0.2.1", f"192.0.2.{number}")
            text = text.replace("/var/lib/etcd", str(folder)).replace("/etc/etcd/ssl", str(pki[name]))
            text = addresses.put_in(text, f"192.0.2.{number}")
            settings[key] = ",".join(dict.fromkeys(text.split(",")))
        found.append(Started([], settings, folder, pki[name], "cfssl"))
    return found


def test_compose(tmp_path: Path, members: list[Started]) -> None:
    members += from_compose(tmp_path)
    for member in members:
        member.start()
    for member in members:
        member.wait_ready()
        assert member.probe("/livez") == 200
        assert member.probe("/health") == 200
    listed = json.loads(members[0].etcdctl("member", "list", "-w", "json"))["members"]
    assert sorted(entry["name"] for entry in listed) == ["etcd1", "etcd2", "etcd3"]
    members[1].etcdctl("put", "a", "b")
    assert members[2].etcdctl("get", "a") == "a\nb\n"
    check = next(iter(services().values()))["healthcheck"]["test"]
    assert check[:2] == ["CMD", "etcdctl"]
    pki = str(Path(members[0].ca).parent)
    words = [word.replace("/etc/etcd/ssl", pki) for word in check[2:] if not word.startswith("--endpoints")]
    members[0].etcdctl(*words)


def test_the_unit_s_settings_and_a_rolling_restart_under_load(tmp_path: Path, members: list[Started]) -> None:
    members += from_environment_file(tmp_path)
    notify = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(notify)
        told.settimeout(_READY_S)
        for member in members:
            member.start(notify)
        assert [told.recv(100) for _ in members] == [b"READY=1"] * 3
    for member in members:
        member.wait_ready()

    stopped = threading.Event()
    written: list[int] = []
    failures: list[str] = []

    def load(number: int) -> None:
        tls = TlsOptions(ca_file=members[0].ca, cert_file=members[0].cert, key_file=members[0].key)
        with BlockingClient([member.endpoint for member in members], tls=tls) as client:
            count = 0
            while not stopped.is_set():
                count += 1
                if not retried(lambda count=count: client.put(f"load{number}/{count}", b"x")):
                    failures.append(f"load{number}/{count}")
                written.append(count)

    def retried(call: object) -> bool:
        for _ in range(100):
            try:
                call()  # type: ignore[operator]
            except EtcdError:
                time.sleep(0.1)
            else:
                return True
        return False

    threads = [threading.Thread(target=load, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for member in members:
            before = len(written)
            assert member.stop() in (0, -signal.SIGTERM)
            while len(written) < before + 30:
                assert not failures
                time.sleep(0.05)
            member.start()
            member.wait_ready()
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    assert not failures
    count = int(members[0].etcdctl("get", "load", "--prefix", "--count-only", "-w", "fields").split('"Count" : ')[1])
    assert count == len(written)
    hashes = {json.loads(m.etcdctl("endpoint", "hashkv", "-w", "json"))[0]["HashKV"]["hash"] for m in members}
    assert len(hashes) == 1


def test_the_static_pod(tmp_path: Path, members: list[Started]) -> None:
    (container,) = pod()["spec"]["containers"]
    pki = pki_of(tmp_path, ["control-plane-1"], "kubeadm")["control-plane-1"]
    addresses = Addresses()

    def change(text: str) -> str:
        text = text.replace("/var/lib/etcd", str(tmp_path / "data")).replace("/etc/kubernetes/pki/etcd", str(pki))
        return addresses.put_in(text, "192.0.2.1")

    member = Started(rewritten(container["command"][1:], change), {}, tmp_path, pki, "kubeadm")
    members.append(member)
    member.start()
    member.wait_ready()
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = container[kind]["httpGet"]
        assert (probe["host"], probe["port"], probe["scheme"]) == ("127.0.0.1", 2381, "HTTP")
        assert member.probe(probe["path"]) == 200
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted == {volume["hostPath"]["path"] for volume in pod()["spec"]["volumes"]}
    member.etcdctl("put", "/registry/a", "b")
    assert member.etcdctl("get", "/registry", "--prefix", "--keys-only") == "/registry/a\n\n"
    assert member.stop() == -signal.SIGTERM
