"""The YAML file of --config-file, which stands alone: flags and variables are ignored beside it.

Keys are the flags' names with values as Go would decode them: URL lists are one comma-separated string, word lists are
lists, durations are whole nanoseconds. Unknown keys are ignored, null keeps the default. Nested keys:

    client-transport-security:  peer-transport-security:  {cert-file, key-file, client-cert-auth, trusted-ca-file, ...}
    socket-options:             {reuse-port, reuse-address}
    discovery-config:           {token, client: {endpoints, ...}}

Source: etcd's server/embed/config.go (configYAML) and sigs.k8s.io/yaml, which turns YAML into JSON first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from quorate.cli.flags import FLAGS, OLD_NAMES, PARSERS, Flag
from quorate.runtime.duration import FlagValueError

GO_TYPES: Final = {
    "string": "string", "bool": "bool", "int": "int", "int64": "int64", "uint": "uint",
    "uint32": "uint32", "uint64": "uint64",
    "duration": "time.Duration", "urls": "string", "origins": "string", "gates": "string", "v2 stages": "string",
    "cluster state": "string", "fallback": "string", "proxy mode": "string", "words": "[]string",
    "unique words": "[]string",
}  # fmt: skip

# As one comma-separated text, although the flag's value is a list.
_TEXT_LISTS: Final = ("host-whitelist",)

_SECURITY: Final = (
    "cert-file", "key-file", "client-cert-file", "client-key-file", "client-cert-auth", "trusted-ca-file", "auto-tls",
)  # fmt: skip

_LATER_SPELLINGS: Final = {"experimental-snapshot-catch-up-entries": "experimental-snapshot-catchup-entries"}


class ConfigFileError(Exception):
    """The file cannot be used; the text is what etcd would say."""


class BadUrlError(Exception):
    """A URL list that does not parse: etcd prints the text and exits with 1."""


def read_config_file(path: str) -> tuple[dict[str, object], set[str]]:
    """Return the settings of a file by flag name, and the top-level keys that it has.

    Raises ConfigFileError or BadUrlError.
    """
    import yaml

    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError as error:
        raise ConfigFileError(f"open {path}: {(error.strerror or str(error)).lower()}") from None
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f"line {where.line + 1}: " if where is not None else ""
        what = getattr(error, "problem", None) or "cannot be read"
        raise ConfigFileError(f"error converting YAML to JSON: yaml: {line}{what}") from None
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise _mismatch(document, "", "embed.configYAML")
    keys = {str(key).lower(): value for key, value in document.items()}
    return _settings(keys), set(keys)


def _settings(keys: Mapping[str, object]) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, flag in FLAGS.items():
        spellings = [name, flag.old] if flag.old else [name]
        for spelling in spellings:
            if flag.yaml and keys.get(spelling) is not None:
                values[spelling] = _value(flag, spelling, keys[spelling])
    for later, name in _LATER_SPELLINGS.items():
        if keys.get(later) is not None:
            values[name] = _value(FLAGS[OLD_NAMES[name]], later, keys[later])
    for prefix in ("", "peer-"):
        _security(keys, prefix, values)
    options = _mapping(keys, "socket-options")
    for key in ("reuse-port", "reuse-address"):
        if options.get(key) is not None:
            values[f"socket-{key}"] = _value(FLAGS[f"socket-{key}"], key, options[key])
    _discovery(_mapping(keys, "discovery-config"), values)
    return values


def _security(keys: Mapping[str, object], prefix: str, values: dict[str, object]) -> None:
    section = _mapping(keys, "peer-transport-security" if prefix else "client-transport-security")
    for key in _SECURITY:
        if section.get(key) is not None:
            # The two "client-..." keys already carry the word that a peer's flag has in front of them.
            values[prefix + key] = _value(FLAGS[prefix + key], key, section[key])
    lists = {"allowed-cn": "peer-cert-allowed-cn", "allowed-hostname": "cert-allowed-hostname"}
    for key, name in lists.items():
        if section.get(key) is None:
            continue
        if key == "allowed-hostname":
            name = (prefix or "client-") + name
        value = _value(FLAGS[name], key, section[key])
        # What a file alone can say: which names clients' certificates may have.
        values["client-cert-allowed-cn" if key == "allowed-cn" and not prefix else name] = value
    if prefix and section.get("skip-client-san-verification") is not None:
        flag = FLAGS["peer-skip-client-san-verification"]
        values[flag.name] = _value(flag, "skip-client-san-verification", section["skip-client-san-verification"])


def _discovery(section: Mapping[str, object], values: dict[str, object]) -> None:
    if section.get("token") is not None:
        values["discovery-token"] = _value(FLAGS["discovery-token"], "token", section["token"])
    client = _mapping(section, "client")
    if client.get("endpoints") is not None:
        values["discovery-endpoints"] = _value(FLAGS["discovery-endpoints"], "endpoints", client["endpoints"])
    for name in ("dial-timeout", "request-timeout", "keepalive-time", "keepalive-timeout"):
        if client.get(name) is not None:
            values[f"discovery-{name}"] = _value(FLAGS[f"discovery-{name}"], name, client[name])
    secure, auth = _mapping(client, "secure"), _mapping(client, "auth")
    for name in ("insecure-transport", "insecure-skip-tls-verify"):
        if secure.get(name) is not None:
            values[f"discovery-{name}"] = _value(FLAGS[f"discovery-{name}"], name, secure[name])
    pairs = ((secure, "cert", "cert"), (secure, "key", "key"), (secure, "cacert", "cacert"), (auth, "username", "user"))
    for part, key, name in (*pairs, (auth, "password", "password")):
        if part.get(key) is not None:
            values[f"discovery-{name}"] = _value(FLAGS[f"discovery-{name}"], key, part[key])


def _mapping(keys: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = keys.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _mismatch(value, name, "struct")
    return {str(key).lower(): item for key, item in value.items()}


def _mismatch(value: object, key: str, wanted: str) -> ConfigFileError:
    if isinstance(value, bool):
        got = "bool"
    elif isinstance(value, str):
        got = "string"
    elif isinstance(value, int):
        got = f"number {value}" if wanted not in ("string", "bool", "[]string") else "number"
    elif isinstance(value, float):
        got = f"number {value}"
    else:
        got = "array" if isinstance(value, list) else "object"
    into = f"Go struct field configYAML.{key}" if key else "Go value"
    return ConfigFileError(
        f"error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {got} into {into} of type {wanted}"
    )


def _value(flag: Flag, key: str, value: object) -> object:
    wanted = "string" if flag.name in _TEXT_LISTS else GO_TYPES[flag.kind]
    if wanted == "bool":
        if not isinstance(value, bool):
            raise _mismatch(value, key, wanted)
        return value
    if wanted == "[]string":
        if not isinstance(value, list):
            raise _mismatch(value, key, wanted)
        words = [_text(item, key) for item in value]
        return sorted(set(words)) if flag.kind == "unique words" else words
    if wanted != "string":
        low = 0 if wanted.startswith("uint") else -(1 << 63)
        high = (1 << 32) - 1 if wanted == "uint32" else (1 << 64) - 1 if low == 0 else (1 << 63) - 1
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _mismatch(value, key, wanted)
        return value
    text = _text(value, key)
    if flag.kind in ("cluster state", "v2 stages"):
        return text  # checked with everything else
    if flag.kind in ("urls", "origins") and not text:
        return flag.value
    try:
        return PARSERS[flag.kind](text)
    except FlagValueError as problem:
        if flag.kind == "urls":
            name = "advertise-peer-urls" if flag.name == "advertise-client-urls" else flag.name
            raise BadUrlError(f"unexpected error setting up {name}: {problem}") from None
        raise ConfigFileError(str(problem)) from None


def _text(value: object, key: str) -> str:
    # Scalars become text where text is wanted, as in sigs.k8s.io/yaml.
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    raise _mismatch(value, key, "string")
