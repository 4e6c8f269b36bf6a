"""The environment, and from flags to a session. Sources: etcd's pkg/flags/flag.go and client/v3/config.go."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from quorate.cli.etcdctl.commands import GLOBAL_FLAGS
from quorate.cli.etcdctl.context import BAD_ARGS, BAD_CONNECTION, ERROR, Context, ExitError
from quorate.cli.etcdctl.pflag import Flag
from quorate.cli.etcdctl.session import CallError, Session, zap
from quorate.client.target import TlsOptions

PREFIX = "ETCDCTL_"
SHADOWED = (
    "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment "
    "variable or disable flag))"
)


def variable(flag: Flag) -> str:
    """Return the variable that sets a flag."""
    return PREFIX + flag.name.upper().replace("-", "_")


def apply_environment(context: Context) -> None:
    """Set the inherited flags that were not given; a variable beside its flag is fatal, an unknown one a warning."""
    flags = context.flags
    inherited = [*GLOBAL_FLAGS, *[flag for each in context.path[1:-1] for flag in each.flags]]
    used = {PREFIX + "API"}
    if context.path[-1].name == "watch":
        used |= {PREFIX + "WATCH_KEY", PREFIX + "WATCH_RANGE_END"}
    given = {variable(flag): flag for flag in inherited}
    for name, flag in given.items():
        text = os.environ.get(name, "")
        if text and flag.name not in flags.changed:
            used.add(name)
            try:
                flags.set(flag, text, changed=False)
            except ValueError:
                continue
    for name, text in os.environ.items():
        if not name.startswith(PREFIX) or name in used:
            continue
        if name in given and given[name].name in flags.changed:
            zap("fatal", "", "flags/flag.go:85", SHADOWED, {"environment-variable": name})
            raise ExitError(ERROR)
        fields = {"environment-variable": f"{name}={text}"}
        zap("warn", "", "flags/flag.go:93", "unrecognized environment variable", fields)
    if context.on("debug"):
        for flag in sorted(inherited, key=lambda each: each.name):
            value = flags.value(flag.name)
            shown = f"[{','.join(value)}]" if isinstance(value, list) else str(value)
            if isinstance(value, bool):
                shown = shown.lower()
            elif flag.kind == "duration" and isinstance(value, int):
                from quorate.runtime.duration import format_duration

                shown = format_duration(value)
            sys.stderr.write(f"{variable(flag)}={shown}\n")


def discovered(domain: str, service_name: str) -> list[str]:
    """Return the client URLs that the SRV records of a domain name. Raises ExitError."""
    from quorate.cli.proxies.discover import look_up
    from quorate.names import LookupFailedError

    try:
        return [each.url for each in look_up(domain, service_name)]
    except LookupFailedError as error:
        raise ExitError(ERROR, str(error)) from None


def secure(urls: list[str], insecure: bool) -> list[str]:
    """Leave out plaintext endpoints, and say so, unless they are welcome."""
    if insecure:
        return urls
    for url in urls:
        if url.startswith("http://"):
            sys.stderr.write(f'ignoring discovered insecure endpoint "{url}"\n')
    return [url for url in urls if not url.startswith("http://")]


def tls_options(context: Context) -> tuple[TlsOptions | None, bool]:
    """Return the TLS options, and whether they make schemeless endpoints use TLS."""
    names = {}
    for name in ("cert", "key", "cacert"):
        names[name] = context.text(name)
        if not names[name] and name in context.flags.changed:
            raise ExitError(BAD_ARGS, f"empty string is passed to --{name} option")
    return make_tls(
        names["cacert"],
        names["cert"],
        names["key"],
        context.on("insecure-transport"),
        context.on("insecure-skip-tls-verify"),
        "" if context.on("insecure-discovery") else context.text("discovery-srv"),
    )


def make_tls(
    cacert: str, cert: str, key: str, insecure: bool, skip_verify: bool, server_name: str
) -> tuple[TlsOptions | None, bool]:
    """Check the files and return the options."""
    if bool(cert) != bool(key):
        text = f"KeyFile and CertFile must both be present[key: {key}, cert: {cert}]"
        raise ExitError(BAD_ARGS, text)
    for name in (cacert, cert, key):
        if name and not os.path.exists(name):
            raise ExitError(BAD_ARGS, f"open {name}: no such file or directory")
    if cacert:
        _check_authority(cacert)
    if cert:
        _check_pair(cert, key)
    options = TlsOptions(cacert, cert, key, skip_verify, server_name)
    configured = bool(cacert or cert or skip_verify) or not insecure
    return options, configured


def _check_authority(path: str) -> None:
    """Refuse a file without certificates, which etcd takes no further than its first PEM block."""
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError as error:
        raise ExitError(BAD_ARGS, f"no certificates in {path} ({(error.reason or str(error)).lower()})") from None
    except OSError as error:
        raise ExitError(BAD_ARGS, f"open {path}: {(error.strerror or str(error)).lower()}") from None


def _check_pair(cert: str, key: str) -> None:
    """Refuse files that are no certificate with its key, in Go's words."""
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert, key, password="")
    except (ssl.SSLError, ValueError) as error:
        from quorate.runtime.tls.files import TlsError, check_pair

        try:
            check_pair(Path(cert).read_bytes(), Path(key).read_bytes())
        except TlsError as problem:
            raise ExitError(BAD_ARGS, str(problem)) from None
        raise ExitError(BAD_ARGS, f"tls: {error}") from None
    except OSError as error:
        raise ExitError(BAD_ARGS, f"open {error.filename or cert}: {(error.strerror or str(error)).lower()}") from None


def ask(prompt: str) -> str:
    """Ask for a password on stdout without echo; from a pipe, read a line."""
    sys.stdout.write(prompt)
    sys.stdout.flush()
    if sys.stdin.isatty():
        import termios

        handle = sys.stdin.fileno()
        before = termios.tcgetattr(handle)
        silent = list(before)
        silent[3] &= ~termios.ECHO
        termios.tcsetattr(handle, termios.TCSADRAIN, silent)
        try:
            line = sys.stdin.readline()
        finally:
            termios.tcsetattr(handle, termios.TCSADRAIN, before)
    else:
        line = sys.stdin.readline()
    sys.stdout.write("\n")
    sys.stdout.flush()
    return line.rstrip("\r\n")


def credentials(user: str, password: str, prompt: str) -> tuple[str, str]:
    """Return the name and password that flags give or a person types."""
    if not user or password:
        return user, password
    name, colon, word = user.partition(":")
    return (name, word) if colon else (user, ask(prompt))


def open_session(context: Context, endpoints: list[str], log_name: str = "etcd-client") -> Session:
    """Make the session that the flags describe; with a user, log in."""
    tls, configured = tls_options(context)
    user, password = credentials(context.text("user"), context.text("password"), "Password: ")
    # The flags keep what was typed, so that a command with several sessions asks once.
    context.flags.given.update({"user": user, "password": password} if user and password else {})
    return start_session(context, endpoints, tls, configured, user, password, log_name)


def start_session(
    context: Context,
    endpoints: list[str],
    tls: TlsOptions | None,
    configured: bool,
    user: str,
    password: str,
    log_name: str = "etcd-client",
) -> Session:
    """Make a session and log in. Raises ExitError(2)."""
    endpoints = [each for each in endpoints if each]
    if not endpoints:
        raise ExitError(BAD_CONNECTION, "etcdclient: no available endpoints")
    session = Session(
        endpoints,
        tls,
        configured,
        max(context.seconds("dial-timeout"), 0.001),
        (max(context.number("keepalive-time"), 10 * 10**9), context.number("keepalive-timeout")),
        (context.number("max-request-bytes") or 2 << 20, context.number("max-recv-bytes") or 2**31 - 1),
        log_name,
    )
    if user:
        try:
            session.log_in(user, password)
        except CallError as error:
            session.close()
            raise ExitError(BAD_CONNECTION, error.text) from None
    return session
