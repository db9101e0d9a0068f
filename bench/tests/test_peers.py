"""bench/peers: what counts as forwarded rightly, how slices become figures, and what a plug file may say."""

import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench" / "lib"))

from pebench.peers import cases, dut, host, kernel, ovs, page, plug, report, runner  # noqa: E402

SOURCES = ROOT / "bench" / "sources" / "peers"
CASES = {case.identifier: case for case in cases.default_cases()}


def with_checksum(header):
    """An IPv4 header with its checksum in place."""
    header = header[:10] + b"\0\0" + header[12:]
    total = sum(int.from_bytes(header[i:i + 2], "big") for i in range(0, 20, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + (0xFFFF - total).to_bytes(2, "big") + header[12:]


def inner_frame(case, flow, size=64):
    """What should leave of a flow, written from the documentation of the testbed, not from the code."""
    length = size - 4
    index = flow % case.entries
    remote = bytes([2, 0xBB, 0, 0]) + (1 + (index if case.vary == "mac" else 0)).to_bytes(2, "big")
    host_mac, own, theirs = (bytes.fromhex(text) for text in ("02aa00000001", "02cc00000001", "02cc00000002"))
    address = 0xAC100001
    if case.decap:
        address, macs = 0xC0A8010A, host_mac + (own if case.layer == 3 else remote)
    elif case.layer == 3:
        macs = theirs + own
        address = 0xAC1F0000 + flow % 65536 if case.vary == "prefix" else 0xAC100001 + 8 * index
    else:
        macs = remote + host_mac
    ttl = 63 if case.layer == 3 else 64
    ip = with_checksum(bytes([0x45, 0]) + (length - 14).to_bytes(2, "big") + bytes([0, 0, 0, 0, ttl, 17, 0, 0])
                       + (0x0A800000 + flow).to_bytes(4, "big") + address.to_bytes(4, "big"))
    udp = (1024 + flow % 32768).to_bytes(2, "big") + b"\0\x09" + (length - 34).to_bytes(2, "big") + b"\0\0"
    return (macs + b"\x08\x00" + ip + udp + b"PDVP" + flow.to_bytes(4, "big")).ljust(length, b"\0")


def outer(inner, vni, port=49152):
    ip = with_checksum(bytes([0x45, 0]) + (len(inner) + 36).to_bytes(2, "big") + bytes([0, 0, 0x40, 0, 64, 17, 0, 0])
                       + bytes([10, 0, 0, 1, 10, 0, 0, 2]))
    udp = port.to_bytes(2, "big") + (4789).to_bytes(2, "big") + (len(inner) + 16).to_bytes(2, "big") + b"\0\0"
    return (bytes.fromhex("020000000002020000000001") + b"\x08\x00" + ip + udp + bytes([8, 0, 0, 0])
            + (vni << 8).to_bytes(4, "big") + inner)


def sampled(case, flows=range(40)):
    """Samples as a page would hold them of a device that forwards rightly."""
    frames = []
    for flow in flows:
        frame = inner_frame(case, flow % case.flows)
        if not case.decap:
            frame = outer(frame, 200 if case.layer == 3 else 100, 49152 + flow)
        frames.append((len(frame), 1 if case.decap else 0, frame))
    return frames


def changed(frame, at, value):
    return frame[:at] + bytes([value]) + frame[at + 1:]


class Verification(unittest.TestCase):
    def test_right_frames_pass_in_every_case(self):
        for case in CASES.values():
            if case.frame == "64":
                self.assertEqual(cases.verify(case, sampled(case)), 40, case.identifier)

    def test_every_changed_byte_that_matters_is_noticed(self):
        case = CASES["l3-encap/1000"]
        places = {"outer destination": 0, "outer source": 6, "outer length": 17, "checksum": 24, "protocol": 23,
                  "address": 33, "port": 37, "UDP length": 39, "flags": 42, "VNI": 48, "inner destination": 50,
                  "inner source": 56, "TTL": 72, "inner address": 83, "mark": 92, "flow": 99}
        for name, at in places.items():
            samples = sampled(case)
            length, port, frame = samples[3]
            samples[3] = (length, port, changed(frame, at, frame[at] ^ 0x0F))
            with self.assertRaises(cases.Wrong, msg=name):
                cases.verify(case, samples)

    def test_an_undecremented_ttl_is_wrong_even_with_its_checksum(self):
        case = CASES["l3-decap/1000"]
        samples = sampled(case)
        length, port, frame = samples[0]
        samples[0] = (length, port, frame[:14] + with_checksum(changed(frame[14:34], 8, 64)) + frame[34:])
        with self.assertRaisesRegex(cases.Wrong, "TTL 64, not 63"):
            cases.verify(case, samples)

    def test_the_wrong_port_a_wrong_length_or_too_few_frames_are_noticed(self):
        case = CASES["l2-decap/1000"]
        good = sampled(case)
        with self.assertRaisesRegex(cases.Wrong, "port 0"):
            cases.verify(case, [(length, 0, frame) for length, _, frame in good])
        with self.assertRaises(cases.Wrong):
            cases.verify(case, [(length + 1, port, frame) for length, port, frame in good])
        with self.assertRaisesRegex(cases.Wrong, "only 3 frames"):
            cases.verify(case, good[:3])

    def test_flows_must_differ_and_have_source_ports_of_their_own(self):
        case = CASES["l2-encap/1000"]
        with self.assertRaisesRegex(cases.Wrong, "one flow"):
            cases.verify(case, sampled(case, [7] * 40))
        samples = [(len(f), 0, f) for f in (outer(inner_frame(case, flow), 100) for flow in range(40))]
        with self.assertRaisesRegex(cases.Wrong, "one outer source port"):
            cases.verify(case, samples)


@unittest.skipUnless(shutil.which("gcc"), "gcc is not installed")
class GeneratedTraffic(unittest.TestCase):
    """The header in C against the same things in Python."""

    def compile_and_run(self, body):
        with tempfile.TemporaryDirectory() as folder:
            source, program = Path(folder) / "t.c", Path(folder) / "t"
            source.write_text('#include <stdio.h>\n#include <stddef.h>\n#include "traffic.h"\n'
                              "int main(void) {\n" + body + "\nreturn 0; }\n")
            subprocess.run(["gcc", "-w", f"-I{SOURCES}", "-o", program, source], check=True)
            return subprocess.run([program], check=True, capture_output=True, text=True).stdout.split()

    def test_the_page_has_the_same_layout(self):
        names = ["wanted", "case_serial", "run", "attached", "sample_count", "generated", "slices", "samples"]
        offsets = "".join(f'printf("%zu\\n", offsetof(struct traffic_page, {name}));' for name in names)
        found = self.compile_and_run(offsets + 'printf("%zu %zu %d %d\\n", sizeof(struct traffic_page), '
                                               "sizeof(struct traffic_slice), SPIN_CYCLES, PAGE_MAGIC);")
        expected = [getattr(page.Layout, name).offset for name in names]
        expected += [ctypes.sizeof(page.Layout), ctypes.sizeof(page.Slice), page.SPIN_CYCLES, page.MAGIC]
        self.assertEqual([int(text) for text in found], expected)

    def test_generated_frames_are_those_that_the_check_expects(self):
        for case in (CASES["l2-decap/1000"], CASES["l2-encap-50k/100000"]):
            wanted = case.on_page()
            set_up = (f"struct traffic_case c = {{{wanted.decap}, {wanted.layer}, {wanted.flows}, {wanted.entries}, "
                      f"{wanted.vary}, 1, {{64}}, {{0}}}}; struct traffic t; if (traffic_init(&t, &c)) return 1;\n")
            lines = self.compile_and_run(
                set_up + "uint8_t p[128]; for (int i = 0; i < 50; i++) { uint32_t n = traffic_write(&t, p);"
                "for (uint32_t j = 0; j < n; j++) printf(\"%02x\", p[j]); printf(\"\\n\"); }")
            offset = 50 if case.decap else 0
            for flow, line in enumerate(lines):
                frame = bytes.fromhex(line)
                self.assertEqual(frame[offset:], inner_frame(case, flow))
                if case.decap:
                    self.assertTrue(cases.checksum_is_good(frame[14:34]))

    def test_sizes_and_patterns_that_no_frame_has_are_refused(self):
        for case in ("{1,2,1,1,0,1,{63},{0}}", "{1,2,1,1,0,1,{1515},{0}}", "{1,2,0,1,0,1,{64},{0}}",
                     "{1,2,1,1,0,13,{64},{0}}", "{1,2,1,1,0,1,{64},{3}}", "{1,2,1,0,0,1,{64},{0}}"):
            body = f'struct traffic_case c = {case}; struct traffic t; printf("%d", traffic_init(&t, &c));'
            self.assertEqual(self.compile_and_run(body), ["-1"], case)


def one_slice(tsc, generated=20_000, sent=None, spin=12_000, cycles=0, instructions=0):
    return {"tsc": tsc, "generated": generated, "sent": generated if sent is None else sent, "polls": generated // 32,
            "idle_polls": generated // 16, "spin": spin, "cycles": cycles, "instructions": instructions}


class Slices(unittest.TestCase):
    def test_without_counters_the_undisturbed_slices_count_in_core_cycles(self):
        slices = [one_slice(1_000_000)] * 5 + [one_slice(9_000_000, spin=50_000)] * 15
        found = page.reduce_slices(slices, False)
        self.assertEqual((found["tsc"], found["clock"], found["cycles"]), (50, 2, 100))
        self.assertEqual((found["burst"], found["idlePolls"]), (32, 2))
        self.assertNotIn("instructions", found)

    def test_with_counters_the_median_slice_counts(self):
        slices = [one_slice(5_000_000, cycles=n * 20_000, instructions=n * 60_000) for n in (90, 100, 400)]
        found = page.reduce_slices(slices, True)
        self.assertEqual((found["cycles"], found["instructions"]), (100, 300))

    def test_what_did_not_come_out_is_loss(self):
        self.assertAlmostEqual(page.reduce_slices([one_slice(1_000_000, sent=15_000)] * 3, False)["loss"], 0.25)

    def test_too_few_slices_are_an_error(self):
        with self.assertRaisesRegex(ValueError, "only 2 slices"):
            page.reduce_slices([one_slice(1_000_000)] * 2 + [one_slice(0)], False)


class Outcome(unittest.TestCase):
    def course(self, found):
        course = runner.Runner(None, runner.Settings(), lambda text: None)
        course.measured = {"l2-encap/1000": {
            subject: [{"cycles": c, "tsc": c / 2} for c in values] for subject, values in found.items()}}
        course.details = {"l2-encap/1000": {"ovs-emc-off": {"verified": 64}}}
        return course

    def test_the_ratio_is_of_the_same_round_and_best_is_the_cheapest_setting(self):
        course = self.course({"pe-dp": [100, 200, 100], "ovs-default": [400, 800, 500], "ovs-emc-off": [300, 600, 300]})
        rows = {identifier: (metrics, details) for identifier, metrics, details in course.rows()}
        self.assertEqual(rows["l2-encap/1000/ovs-default"][0]["ratio"],
                         {"median": 4, "min": 4, "max": 5, "unit": "×"})
        metrics, details = rows["l2-encap/1000/ovs-best"]
        self.assertEqual((metrics["cycles"]["median"], metrics["ratio"]["median"]), (300, 3))
        self.assertEqual(details, {"verified": 64, "setting": "emc-off"})
        self.assertNotIn("ratio", rows["l2-encap/1000/pe-dp"][0])

    def test_without_pe_dp_there_is_no_ratio(self):
        rows = {identifier: metrics for identifier, metrics, _ in self.course({"kernel": [5000]}).rows()}
        self.assertNotIn("ratio", rows["l2-encap/1000/kernel"])

    def test_the_table_has_a_line_for_each_case(self):
        course = self.course({"pe-dp": [100], "kernel": [5000], "ovs-default": [400]})
        rows = [{"id": i, "metrics": m, **d} for i, m, d in course.rows()]
        text = report.peer_table({"rows": rows})
        self.assertIn("| l2-encap/1000 | 100 | 400 (4.00×) | 400 (4.00×) default | 5000 (50.00×) |", text)

    def test_a_name_that_matches_nothing_is_an_error(self):
        self.assertEqual(runner.choose(["a", "ovs-x", "ovs-y"], ["ovs-*"]), ["ovs-x", "ovs-y"])
        with self.assertRaisesRegex(ValueError, "nothing is called vpp"):
            runner.choose(["a", "b"], ["vpp"])

    def test_cases_have_names_of_their_own(self):
        self.assertEqual(len(CASES), len(cases.default_cases()))


class Plugs(unittest.TestCase):
    def good(self, **more):
        return {"name": "vpp", "mode": "in-core", "cmd": ["vpp", "{eal}", "-c", "{config}"], "ready": "^ready",
                "threads": "worker", **more}

    def refuse(self, text, remove=None, **more):
        wrong = self.good(**more)
        wrong.pop(remove, None)
        with self.assertRaisesRegex(plug.PlugError, text):
            plug.check(wrong, "vpp.json")

    def test_a_complete_plug_is_taken_with_its_defaults(self):
        checked = plug.check(self.good(config=["a {macs}", "b"], lists={"macs": "m {mac}"}), "vpp.json")
        self.assertEqual((checked["config"], checked["post"], checked["forwards"]), ("a {macs}\nb\n", [], True))

    def test_each_fault_names_its_place_and_what_is_expected(self):
        self.refuse('vpp.json: "ready" is missing', remove="ready")
        self.refuse('unknown field "command"; known are', command=["x"])
        self.refuse('"cmd" must be of type list', cmd="vpp -c")
        self.refuse('"cmd" must be a list of texts', cmd=["vpp", 1])
        self.refuse('"cmd" is empty', cmd=[])
        self.refuse('"cmd" uses {macs}', cmd=["{macs}"], lists={"macs": "x"})
        self.refuse("a word of its own", cmd=["vpp", "--dpdk={eal}"])
        self.refuse('"mode" must be one of in-core, memif, not "cross"', mode="cross")
        self.refuse('"ready" is not a regular expression', ready="(")
        self.refuse('"name" must be', name="VPP 1")
        self.refuse('"config" uses {mac}', config="{mac}")
        self.refuse('"lists" may have texts for', lists={"vnis": "x"})
        self.refuse("lists.routes\" uses {mac}", lists={"routes": "{mac}"})
        self.refuse(r'"post"\[0\] must be a command', post=["vppctl"])
        self.refuse(r'post\[1\]" uses {cli}', post=[["a"], ["b", "{cli}"]])
        self.refuse('"forwards" must be of type bool', forwards="yes")
        self.refuse('"readySeconds" must be of type', readySeconds=True)
        self.refuse('"environment" must map', environment={"A": 1})
        self.refuse('"entries" must be a list', entries=[0])
        self.refuse('"entries" must be a list', entries=[True])
        self.refuse('"readySeconds" must be above 0', readySeconds=-1)
        with self.assertRaisesRegex(plug.PlugError, "must be a JSON object"):
            plug.check([], "vpp.json")

    def test_broken_json_is_named_with_its_line(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "a.json").write_text('{\n "name": }')
            with self.assertRaisesRegex(plug.PlugError, r"a.json:2:\d+: not JSON"):
                plug.load(Path(folder))

    def test_a_file_or_folder_that_cannot_be_read_is_named(self):
        with tempfile.TemporaryDirectory() as folder:
            with self.assertRaisesRegex(plug.PlugError, "nowhere is no folder; --plugs"):
                plug.load(Path(folder) / "nowhere")
            (Path(folder) / "a.json").write_bytes(b"\xff")
            with self.assertRaisesRegex(plug.PlugError, "a.json: cannot be read"):
                plug.load(Path(folder))
            (Path(folder) / "a.json").unlink()
            (Path(folder) / "b.json").mkdir()
            with self.assertRaisesRegex(plug.PlugError, "b.json: cannot be read"):
                plug.load(Path(folder))

    def test_two_plugs_of_one_name_are_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("a.json", "b.json"):
                (Path(folder) / name).write_text(json.dumps(self.good()))
            with self.assertRaisesRegex(plug.PlugError, 'b.json: "name" vpp is another'):
                plug.load(Path(folder))

    def test_the_examples_are_right(self):
        examples = sorted((ROOT / "bench" / "peers.d").glob("*.example"))
        self.assertTrue(examples)
        for path in examples:
            plug.check(json.loads(path.read_text()), path.name)

    def test_templates_keep_braces_that_are_not_names(self):
        self.assertEqual(plug.fill("{a: {mac}, b: {x}}", {"mac": "02"}), "{a: 02, b: {x}}")


class Devices(unittest.TestCase):
    def test_pmd_counters_are_read_from_the_pmd_threads_part(self):
        text = ("main thread:\n  packets received: 9\npmd thread numa_id 0 core_id 1:\n  packets received: 27744\n"
                "  packet recirculations: 5\n  miss with success upcall: 1004\n"
                "  avg. packets per output batch: 32.00\n")
        found = ovs.counters(text)
        self.assertEqual((found["packets received"], found["miss with success upcall"]), (27744, 1004))

    def test_every_table_entry_is_in_every_configuration(self):
        rules = ovs.flows(3)
        self.assertEqual(rules.count("table=1,priority=10,in_port=access,dl_dst=02:bb:00:00:00:0"), 3)
        self.assertEqual(rules.count("priority=42,ip,nw_dst=172.16.0."), 3)

        class Here:
            main_core, core = 0, 1
        text = dut.pe_dp_configuration(3, Here, "/lib/g.so", "/run/x")
        self.assertEqual(text.count("vni: 100, mac: \"02:bb:"), 3)
        self.assertEqual(text.count("/32, nexthops: [{vtep: 10.0.0.2, routerMAC:"), 3)

    def test_the_kernel_has_every_entry_twice_and_its_ports_in_either_form(self):
        self.assertEqual(kernel.links(3).count("route add 172.16."), 3)
        self.assertEqual(kernel.macs(3).count("fdb add 02:bb:"), 6)
        self.assertEqual(kernel.ports().count("type ifb"), 2)
        self.assertEqual(kernel.ports("far").count("netns far"), 2)

    def test_frames_that_the_kernel_lost_in_a_turn_are_noticed(self):
        device = kernel.Kernel.__new__(kernel.Kernel)
        device.counted = (1000, 1000)

        class Page:
            class at:
                generated, sent = 101_000, 100_990
        device.page = Page
        device.pause()
        Page.at.generated, Page.at.sent = 201_000, 150_990
        with self.assertRaisesRegex(cases.Wrong, "50.0% of the frames"):
            device.pause()

    def test_cores_are_two_where_there_are_two(self):
        self.assertEqual(host.choose_cores(allowed={0, 1, 2}), (0, 2))
        self.assertEqual(host.choose_cores(core=0, allowed={0, 1}), (1, 0))
        self.assertEqual(host.choose_cores(allowed={3}), (3, 3))
        with self.assertRaisesRegex(ValueError, "core 9 is not one of"):
            host.choose_cores(core=9, allowed={0, 1})

    def test_a_plug_in_below_a_world_writable_folder_is_noticed(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)
            self.assertTrue(host.is_below_world_writable(Path(folder) / "x.so"))
        self.assertFalse(host.is_below_world_writable("/usr/lib/x.so"))


if __name__ == "__main__":
    unittest.main()
