"""Scenarios: daemons and links that go away and come back, in every order."""
import signal
import time

from . import traffic
from .basics import close, reach, wires_of
from .mobility import fresh_mac
from .pedp import thread_shares
from .report import Skip
from .shell import LabError, wait


# The buffers that the receiver of kernel ports keeps at hand, full once it has received.
RECEIVE_BATCH = 32


class Streams:
    """Pings that run in the background while something breaks; loss() ends and counts them."""

    def __init__(self, pairs, interval=0.02):
        self.pings = [traffic.Ping(namespace, address, count=100000, interval=interval)
                      for namespace, address in pairs]

    def loss(self):
        """{direction: (lost, sent)} of the directions that lost something; total sent."""
        time.sleep(0.2)
        for ping in self.pings:
            ping.interrupt()
        lost, total = {}, 0
        for ping in self.pings:
            sent, received = ping.result()
            total += sent
            # An interrupt may fall between the last request and its answer.
            if sent - received > 1:
                lost[ping.label] = (sent - received, sent)
        return lost, total


def needs_pedp(lab):
    if lab.pes["pe1"].kind != "pe-dp":
        raise Skip("pe1's data plane is the kernel in this run")


def converged(lab, timeout=30):
    """EVPN is up again: sessions, flood lists both ways, and h1's MAC known at pe2."""
    pe1, pe2 = lab.pes["pe1"], lab.pes["pe2"]
    began = time.monotonic()
    if lab.family == 4:
        for node in (lab.rr, pe1.frr, pe2.frr):
            node.wait_established(timeout)
    for pe, other in ((pe1, pe2), (pe2, pe1)):
        wait(f"{pe.name} floods to {other.name}", lambda: all(
            pe.flood(vni) == pe.vteps(vni) == {other.vtep} for vni in (110, 120)), timeout, 0.1)
    return f"{time.monotonic() - began:.1f} s"


def healthy(lab, c, number):
    """The closing criteria of a fault scenario: everything is as it was."""
    c.attempt(f"{number}. EVPN converges", lambda: converged(lab))
    reach(lab)
    results = traffic.ping_matrix(
        [(a.namespace, b.ip4) for a in lab.hosts_of(110) for b in lab.hosts_of(110) if a is not b],
        count=20, interval=0.02)
    lost = [f"{label}: {got}/{sent}" for label, sent, got, _ in results if got != sent]
    c.check(f"{number + 1}. ping matrix afterwards, 0 loss", not lost, ", ".join(lost[:5]))


def announces(lab):
    """A new MAC behind h1 is in pe2's FDB within a second (FRR takes pe-dp's rows)."""
    pe1, pe2 = lab.pes["pe1"], lab.pes["pe2"]
    mac = fresh_mac()
    with traffic.Wire(lab.hosts["h1"].namespace, "eth0") as wire:
        began = time.monotonic()
        wire.send(traffic.marked_frame(traffic.BROADCAST, mac, traffic.next_run(), 0))
        wait(f"{mac} at pe2", lambda: pe2.fdb(110).get(mac) == ("remote", pe1.vtep), 3, 0.01)
        return f"{(time.monotonic() - began) * 1e3:.0f} ms"


def zebra_restart(lab, c):
    """zebra is killed and FRR restarted as watchfrr does it; the data plane goes on."""
    pe1 = lab.pes["pe1"]
    h1, h1b, h2 = (lab.hosts[name] for name in ("h1", "h1b", "h2"))
    reach(lab)
    # One way only: pe2's FRR withdraws pe1's routes meanwhile, rightly.
    wires = wires_of(lab, (h1, h1b, h2))
    runs = {"h2": traffic.next_run(), "h1b": traffic.next_run()}
    recorder = traffic.Recorder(list(wires.values()), set(runs.values()))
    streams = {name: traffic.Stream(wires["h1"], lab.hosts[name].mac, h1.mac, run)
               for name, run in runs.items()}
    try:
        time.sleep(0.3)
        pe1.frr.crash_zebra()
        c.attempt("1. EVPN converges again", lambda: converged(lab, 40))
        if pe1.kind == "pe-dp":
            c.attempt("2. zebra's FPM client is connected again", lambda: wait(
                "an FPM connection", lambda: pe1.show("control")["fpm"], 15, 0.1) and "")
        c.attempt("3. the new zebra knows the local MACs again", lambda: wait(
            "h1 and h1b in zebra's table", lambda: all(
                pe1.frr.macs(110).get(h.mac, {}).get("type") == "local" for h in (h1, h1b)),
            15, 0.1) and "")
        time.sleep(7)   # past the quiet period after which what was not said again is swept
    finally:
        sent = {name: stream.stop() for name, stream in streams.items()}
        time.sleep(0.3)
        arrivals = recorder.stop()
        close(wires)
    for number, (name, run) in enumerate(runs.items(), 4):
        got = {a.sequence for a in arrivals[wires[name].name] if a.run == run}
        lost = sorted(set(sent[name]) - got)
        first = min(sent[name].values())
        detail = f"{len(lost)} of {len(sent[name])} lost" + (
            f", {sent[name][lost[0]] - first:.1f} s to {sent[name][lost[-1]] - first:.1f} s"
            if lost else "")
        criterion = f"{number}. h1 -> {name}: forwarding never stopped, 0 frames lost"
        if pe1.kind == "pe-dp":
            c.check(criterion, not lost, detail)
        else:
            c.skip(criterion, "the kernel's rows go with zebra: " + detail)
    c.attempt("6. a new host is announced within 1 s", lambda: announces(lab))
    if pe1.kind == "pe-dp":
        c.attempt("7. after the sweep every MAC that zebra has is in show fdb",
                  lambda: wait("the same remote MACs", lambda: _knows_remotes(lab, pe1), 3, 0.2))
    healthy(lab, c, 8)


def _knows_remotes(lab, pe):
    """What zebra knows behind other PEs, pe-dp knows there too: nothing is flooded for ever."""
    shown = {(row["vni"], row["mac"]): row.get("vtep") for row in pe.show("fdb")}
    known = {(vni, mac): entry.get("remoteVtep")
             for vni in (110, 120) for mac, entry in pe.frr.macs(vni).items()
             if entry.get("type") == "remote"}
    hosts = {h.mac for h in lab.hosts.values() if h.pe != pe.name}
    if not hosts & {mac for _, mac in known}:
        raise LabError("zebra knows no host behind another PE")
    missing = {f"{vni} {mac} {vtep}: {shown.get((vni, mac))}"
               for (vni, mac), vtep in known.items() if shown.get((vni, mac)) != vtep}
    if missing:
        raise LabError("; ".join(sorted(missing)[:5]))
    return f"{len(known)} MACs"


def fpm_reconnect(lab, c):
    """zebra closes its FPM connection, connects again and sends its walk."""
    needs_pedp(lab)
    pe1 = lab.pes["pe1"]
    h1, h2 = lab.hosts["h1"], lab.hosts["h2"]
    reach(lab)
    before = {row["connection"] for row in pe1.show("control")["fpm"]}
    zebra = pe1.frr.pid("zebra")
    streams = Streams([(h1.namespace, h2.ip4), (h2.namespace, h1.ip6)])
    pe1.frr.vty("configure terminal", "fpm address 127.0.0.1 port 2620")
    c.attempt("1. a new FPM connection replaces the old one", lambda: wait(
        "a new FPM connection", lambda: (now := {
            row["connection"] for row in pe1.show("control")["fpm"]}) and not now & before, 15, 0.1)
        and "")
    time.sleep(7)   # past the sweep
    lost, total = streams.loss()
    c.check("2. no ping is lost", not lost, lost or f"{total} sent")
    c.check("3. zebra lived through it", pe1.frr.pid("zebra") == zebra
            and pe1.frr.running("zebra"))
    healthy(lab, c, 4)


def port_gone(lab, c):
    """h1's port loses its link, then its device; both come back; nobody else notices."""
    pe1 = lab.pes["pe1"]
    h1, h1b, h2 = (lab.hosts[name] for name in ("h1", "h1b", "h2"))
    reach(lab)
    streams = Streams([(h1b.namespace, h2.ip4), (h2.namespace, h1b.ip6)])
    time.sleep(0.2)
    h1.namespace.ip("link set eth0 down")
    if pe1.kind == "pe-dp":
        c.attempt("1. pe-dp shows the port down", lambda: _port_state(pe1, h1, "down"))
    h1.namespace.ip("link set eth0 up")
    h1.namespace.ip(f"addr add {h1.ip6}/64 dev eth0 nodad", check=False)
    c.attempt("2. the link comes back: h1 reaches everybody", lambda: reach(lab) or "")
    pe1.ports.ip(f"link del {h1.circuit}")
    if pe1.kind == "pe-dp":
        c.attempt("3. the device is deleted: pe-dp runs on and shows the port down",
                  lambda: _port_state(pe1, h1, "down"))
    time.sleep(0.5)
    lab.rebuild_circuit(h1)
    began = time.monotonic()
    c.attempt("4. the device is made again: h1 reaches everybody without a restart",
              lambda: reach(lab, timeout=15) or f"{time.monotonic() - began:.1f} s")
    lost, total = streams.loss()
    c.check("5. other ports lost nothing meanwhile", not lost, lost or f"{total} sent")


def _port_state(pe, host, state):
    name = pe.port_name(host)

    def seen():
        rows = {row["name"]: row["state"] for row in pe.show("ports")}
        if rows.get(name) != state:
            raise LabError(f"{name} is {rows.get(name)}")
        return True
    if not pe.running():
        raise LabError("pe-dp ended: " + " / ".join(pe.log()[-3:]))
    wait(f"{name} {state}", seen, 5, 0.05)
    return ""


def dataplane_restart(lab, c):
    """pe-dp is stopped cleanly and started again beside a running FRR; then killed."""
    needs_pedp(lab)
    pe1 = lab.pes["pe1"]
    frr = {name: pe1.frr.pid(name) for name in ("zebra", "bgpd")}
    code = pe1.stop_dataplane(signal.SIGTERM)
    c.check("1. SIGTERM ends it with code 0", code == 0, f"code {code}")
    left = [d for d in pe1.control.devices()
            if d not in ("lo", pe1.underlay_device) and not d.startswith("c-")]
    c.check("2. its shadow devices and TAPs are gone", not left, left)
    pe1.start_dataplane()
    healthy(lab, c, 3)
    pe1.stop_dataplane(signal.SIGKILL)
    pe1.start_dataplane()
    c.attempt("5. after SIGKILL it starts again on what was left", lambda: "")
    healthy(lab, c, 6)
    c.check("8. zebra and bgpd lived through both", all(
        pe1.frr.pid(name) == pid and pe1.frr.running(name) for name, pid in frr.items()))
    c.attempt("9. a new host is announced within 1 s", lambda: announces(lab))


def frr_first(lab, c):
    """The other start order: FRR runs before pe-dp and its devices exist."""
    needs_pedp(lab)
    pe1 = lab.pes["pe1"]
    pe1.stop()
    pe1.start_frr()
    time.sleep(4)    # longer than zebra's first attempt to reach the FPM listener
    c.check("1. FRR runs alone", pe1.frr.running("zebra") and pe1.frr.running("bgpd"))
    pe1.start_dataplane()
    healthy(lab, c, 2)
    c.check("4. zebra and bgpd live", pe1.frr.running("zebra") and pe1.frr.running("bgpd"))


def second_daemon(lab, c):
    """A second daemon on the same admin socket refuses to start and disturbs nothing."""
    needs_pedp(lab)
    pe1 = lab.pes["pe1"]
    try:
        out = pe1.ports.run([pe1.binary, "run", "--config", f"{pe1.directory}/pe-dp.yaml"],
                            timeout=20)
        c.check("1. the second daemon refuses", False, out[-200:])
    except LabError as error:
        text = str(error)
        c.check("1. the second daemon refuses and names the socket",
                "exited" in text and "admin.sock" in text, text[-300:])
    c.check("2. the first one runs on", pe1.running() and bool(pe1.show("ports")))
    reach(lab)
    c.check("3. and forwards", True)


def resources(lab, c):
    """Memory, CPU at rest and time to ready of the running daemon."""
    needs_pedp(lab)
    pe1 = lab.pes["pe1"]
    megabytes = pe1.rss_megabytes()
    c.check("1. RSS under 200 MB", megabytes < 200, f"{megabytes:.0f} MB")
    c.check("2. ready within 3 s of its start", pe1.ready_seconds < 3,
            f"{pe1.ready_seconds:.2f} s")
    shares = thread_shares(pe1.daemon_pid())
    busiest = max(shares.items(), key=lambda item: item[1])
    c.check("3. every thread, the adaptive worker among them, idles under 5 % of a core",
            busiest[1] < 0.05, f"busiest {busiest[0]}: {busiest[1] * 100:.1f} %")
    c.check("4. the whole daemon idles under 10 % of a core", sum(shares.values()) < 0.10,
            f"{sum(shares.values()) * 100:.1f} %")


def accounting(lab, c):
    """After every scenario: each packet ended once, and every buffer is back."""
    for pe in lab.pes.values():
        if pe.kind != "pe-dp" or not pe.running():
            continue

        def balanced(pe=pe):
            entered, ended, free, total = pe.accounting()
            if entered != ended:
                raise LabError(f"received + replicated = {entered}, "
                               f"sent + punted + dropped = {ended}")
            return f"{entered} = {ended}"

        def full(pe=pe):
            _, _, free, total = pe.accounting()
            if free is None or free < total - RECEIVE_BATCH:
                raise LabError(f"{free} of {total} buffers free")
            return f"{free} of {total}; {RECEIVE_BATCH} wait for frames from kernel ports"
        c.attempt(f"accounting: {pe.name}: received + replicated = sent + punted + dropped",
                  lambda: wait("balance", balanced, 3, 0.1))
        c.attempt(f"accounting: {pe.name}: the buffer pool is full again",
                  lambda: wait("full pool", full, 3, 0.1))
