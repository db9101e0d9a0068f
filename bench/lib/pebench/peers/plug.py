"""The plug for peers that a user has built: JSON files in bench/peers.d, checked field by field."""

import json
import re
import shutil

from ..machine import ROOT
from .cases import (DUT_ADDRESS, DUT_MAC, HOST_ADDRESS, HOST_MAC, L2_VNI, L3_VNI, PEER_ADDRESS, PEER_MAC,
                    PEER_ROUTER_MAC, ROUTER_MAC, colons, dotted, remote_address, remote_mac)
from .dut import Device
from .host import Absent, run

MODES = ("in-core", "memif")
FIELDS = {"name": str, "mode": str, "cmd": list, "ready": str, "threads": str, "config": (str, list), "lists": dict,
          "post": list, "environment": dict, "forwards": bool, "entries": list, "readySeconds": (int, float),
          "note": str}
REQUIRED = ("name", "mode", "cmd", "ready", "threads")
# Names that a template may use between braces, beside those of its own `lists`.
PLACEHOLDERS = {
    "config", "run", "core", "mainCore", "coreMask", "entries", "plugin", "memif0", "memif1", "l2vni", "l3vni",
    "dutAddress", "peerAddress", "hostAddress", "dutMAC", "peerMAC", "hostMAC", "routerMAC", "peerRouterMAC"}
LISTS = {"macs": {"mac"}, "routes": {"address"}}


class PlugError(ValueError):
    """A plug file that cannot be used; the text names file and field, and says what is expected."""


def _names(text):
    return set(re.findall(r"\{([A-Za-z][A-Za-z0-9]*)\}", text))


def _texts(value, place, field):
    if not all(isinstance(item, str) for item in value):
        raise PlugError(f"{place}: \"{field}\" must be a list of texts")
    return value


def _check_names(text, allowed, place, field):
    unknown = sorted(_names(text) - allowed)
    if unknown:
        raise PlugError(f"{place}: \"{field}\" uses {{{unknown[0]}}}; known are " + ", ".join(sorted(allowed)))


def _check_types(plug, place):
    for field, value in plug.items():
        if field not in FIELDS:
            raise PlugError(f"{place}: unknown field \"{field}\"; known are " + ", ".join(sorted(FIELDS)))
        if not isinstance(value, FIELDS[field]) or isinstance(value, bool) and FIELDS[field] is not bool:
            kinds = FIELDS[field] if isinstance(FIELDS[field], tuple) else (FIELDS[field],)
            raise PlugError(f"{place}: \"{field}\" must be of type " + " or ".join(kind.__name__ for kind in kinds))
    for field in REQUIRED:
        if field not in plug:
            raise PlugError(f"{place}: \"{field}\" is missing")


def check(plug, place):
    """The plug with defaults filled in; raises PlugError at the first fault."""
    if not isinstance(plug, dict):
        raise PlugError(f"{place}: must be a JSON object")
    _check_types(plug, place)
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,30}", plug["name"]):
        raise PlugError(f"{place}: \"name\" must be of lower-case letters, digits, '.', '_' and '-'")
    if plug["mode"] not in MODES:
        raise PlugError(f"{place}: \"mode\" must be one of " + ", ".join(MODES) + f", not \"{plug['mode']}\"")
    for field in ("ready", "threads"):
        try:
            re.compile(plug[field])
        except re.error as error:
            raise PlugError(f"{place}: \"{field}\" is not a regular expression: {error}") from error
    lists = plug.get("lists", {})
    for name, template in lists.items():
        if name not in LISTS or not isinstance(template, str):
            raise PlugError(f"{place}: \"lists\" may have texts for " + " and ".join(LISTS) + f", not \"{name}\"")
        _check_names(template, PLACEHOLDERS | LISTS[name], place, f"lists.{name}")
    allowed = PLACEHOLDERS | set(lists)
    if not _texts(plug["cmd"], place, "cmd"):
        raise PlugError(f"{place}: \"cmd\" is empty")
    for word in plug["cmd"]:
        _check_names(word, PLACEHOLDERS | {"eal"}, place, "cmd")
        if "{eal}" in word and word != "{eal}":
            raise PlugError(f"{place}: \"cmd\": {{eal}} stands for several arguments and must be a word of its own")
    config = plug.get("config", "")
    config = config if isinstance(config, str) else "\n".join(_texts(config, place, "config")) + "\n"
    _check_names(config, allowed, place, "config")
    for number, command in enumerate(plug.get("post", [])):
        if not isinstance(command, list) or not command:
            raise PlugError(f"{place}: \"post\"[{number}] must be a command: a list of texts")
        for word in _texts(command, place, f"post[{number}]"):
            _check_names(word, PLACEHOLDERS, place, f"post[{number}]")
    if not all(isinstance(key, str) and isinstance(value, str) for key, value in plug.get("environment", {}).items()):
        raise PlugError(f"{place}: \"environment\" must map texts to texts")
    if not all(type(count) is int and count > 0 for count in plug.get("entries", [])):
        raise PlugError(f"{place}: \"entries\" must be a list of table sizes that this peer can do")
    if not 0 < plug.get("readySeconds", 60) <= 3600:
        raise PlugError(f"{place}: \"readySeconds\" must be above 0 and at most 3600")
    return {"lists": {}, "post": [], "environment": {}, "forwards": True, **plug, "config": config}


def load(folder):
    """All plugs of a folder, by name; raises PlugError."""
    found = {}
    if not folder.is_dir():
        raise PlugError(f"{folder} is no folder; --plugs names the one with the descriptions of peers")
    for path in sorted(folder.glob("*.json")):
        try:
            plug = check(json.loads(path.read_text()), path.name)
        except (OSError, UnicodeDecodeError) as error:
            raise PlugError(f"{path.name}: cannot be read: {error}") from error
        except json.JSONDecodeError as error:
            raise PlugError(f"{path.name}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from error
        if plug["name"] in found:
            raise PlugError(f"{path.name}: \"name\" {plug['name']} is another file's")
        found[plug["name"]] = plug
    return found


def fill(text, values):
    """`text` with each {name} that is known replaced; other braces stay as they are."""
    return re.sub(r"\{([A-Za-z][A-Za-z0-9]*)\}", lambda m: str(values.get(m[1], m[0])), text)


def testbed(host, folder, entries):
    """What a template may say about this run."""
    return {
        "config": folder / "config", "run": folder, "core": host.core, "mainCore": host.main_core,
        "coreMask": f"{1 << host.core:x}", "entries": entries, "plugin": host.generator(), "l2vni": L2_VNI,
        "l3vni": L3_VNI, "memif0": folder / "memif0.sock", "memif1": folder / "memif1.sock",
        "dutAddress": dotted(DUT_ADDRESS), "peerAddress": dotted(PEER_ADDRESS), "hostAddress": dotted(HOST_ADDRESS),
        "dutMAC": colons(DUT_MAC), "peerMAC": colons(PEER_MAC), "hostMAC": colons(HOST_MAC),
        "routerMAC": colons(ROUTER_MAC), "peerRouterMAC": colons(PEER_ROUTER_MAC)}


class Plugged(Device):
    """A user's peer with the generator inside it: a DPDK program of the same version."""

    def __init__(self, plug, host, entries, log):
        self.plug, self.name, self.threads, self.forwards = plug, plug["name"], plug["threads"], plug["forwards"]
        self.ready_seconds = plug.get("readySeconds", 60)
        super().__init__(host, entries, log)
        self.values = testbed(host, self.folder, entries)

    def write_configuration(self):
        lists = {"macs": ({"mac": colons(remote_mac(i))} for i in range(self.entries)),
                 "routes": ({"address": dotted(remote_address(i))} for i in range(self.entries))}
        expanded = {name: "\n".join(fill(template, {**self.values, **item}) for item in lists[name])
                    for name, template in self.plug["lists"].items()}
        (self.folder / "config").write_text(fill(self.plug["config"], {**self.values, **expanded}))

    def command(self, eal):
        words = []
        for word in self.plug["cmd"]:
            words += eal if word == "{eal}" else [fill(word, self.values)]
        return words

    def begin(self):
        self.prepare()
        self.launch(self.host.eal(self.name))

    def prepare(self):
        """What is known before it starts: whether it can, and its configuration."""
        if self.plug.get("entries") and self.entries not in self.plug["entries"]:
            raise Absent(f"its plug says that it cannot do {self.entries} entries")
        program = fill(self.plug["cmd"][0], self.values)
        # A path is one from the repository, where it will be run.
        if not shutil.which(ROOT / program if "/" in program else program):
            raise Absent(f"{program} is not installed, or no program")
        self.write_configuration()

    def launch(self, eal):
        environment = {key: fill(value, self.values) for key, value in self.plug["environment"].items()}
        self.spawn(self.command(eal), self.plug["ready"], environment)
        for command in self.plug["post"]:
            run(*[fill(word, self.values) for word in command], namespace=self.host.namespace)
