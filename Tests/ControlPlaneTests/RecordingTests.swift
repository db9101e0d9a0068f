// Every recorded stream ends in the state that its events and the kernel's monitor describe.

import Testing
import Wire

@testable import ControlPlane

@Suite struct RecordingTests {
    /// The state at a recording's end.
    struct Outcome: Equatable {
        var macs: [String]
        var routerMACs: [String] = []
        var routes: [String]
        var groups: [String] = []
    }
    static func outcome(_ rig: ControlRig) -> Outcome {
        Outcome(
            macs: rig.state.macLines(at: rig.now),
            routerMACs: rig.state.routerMACLines,
            routes: rig.state.routeLines,
            groups: rig.state.groupLines
        )
    }

    /// One connection with the mode's links as the kernel's dump.
    static func run(_ directory: String, mode: String, vrf: String, cut: FPMRecording.Cut) throws
        -> ControlRig
    {
        let rig = try ControlRig(FPMRecording.configuration(vrf: vrf))
        rig.dump(try FPMRecording.links(mode))
        rig.apply(.fpmConnected(connection: 1))
        FPMRecording.feed(
            try FPMRecording.read("\(directory)/conn-1.bin"),
            cut: cut,
            connection: 1,
            into: rig
        )
        rig.wait(10)
        #expect(rig.state.counters.errorCount == 0)
        return rig
    }
    /// Underlay routes that every recording of a mode ends with.
    static func underlay(_ via: String, v4: String? = nil, proto: String = "bgp") -> [String] {
        ["10.0.0.2/32", "10.0.0.3/32", "10.0.0.100/32"].map {
            "default \($0) \(proto) via \(v4 ?? via) dev u0"
        }
            + ["fd00:0:0:1::2/128", "fd00:0:0:1::3/128"].map {
                "default \($0) \(proto) via \(via) dev u0"
            }
    }
    static let ownDefault = [
        "default 10.0.0.1/32 kernel dev lo", "default 192.168.100.0/24 kernel dev br100",
        "default fd00:0:0:1::1/128 kernel dev lo", "default fd00:100::/64 kernel dev br100",
        "default fe80::/64 kernel dev u0",
    ]
    /// FRR 10.7 sends local addresses as routes too.
    static let ownDefault10 =
        ownDefault + [
            "default 192.168.100.11/32 kernel dev br100",
            "default fd00:100::11/128 kernel dev br100",
        ]
    static func expect(_ rig: ControlRig, _ expected: Outcome) {
        var found = outcome(rig)
        var expected = expected
        // Order is tested elsewhere.
        found.routes.sort()
        expected.routes.sort()
        #expect(found.macs == expected.macs)
        #expect(found.routerMACs == expected.routerMACs)
        #expect(found.routes == expected.routes)
        #expect(found.groups == expected.groups)
    }
    static let learned = ["10100 02:00:00:aa:00:02 10.0.0.2", "10100 02:00:00:aa:00:03 10.0.0.3"]

    /// pe1's own relearn of 02:aa:..:06 is nothing to FPM: its row stays, as the kernel's `self` row does.
    @Test(arguments: FPMRecording.cuts) func a844DefaultVRFGroups(cut: FPMRecording.Cut) throws {
        let rig = try Self.run("A-844-default-nhg", mode: "default", vrf: "default", cut: cut)
        Self.expect(
            rig,
            Outcome(
                macs: Self.learned + ["10100 02:aa:00:00:00:06 10.0.0.2"],
                routes: Self.ownDefault + Self.underlay("fe80::28df:7ff:fec2:1865"),
                groups: ["39 23/28", "43 25/29"]
            )
        )
        #expect(rig.place(10100, "02:00:00:aa:00:03") == "10.0.0.3")
        #expect(rig.members(10100) == ["10.0.0.2", "10.0.0.3"])
        // The route is there, the neighbour fe80::28df:7ff:fec2:1865 of u0 is not.
        #expect(rig.paths("10.0.0.2") == "unresolvedNextHop")
    }

    @Test(arguments: FPMRecording.cuts) func k1070DefaultVRFGroups(cut: FPMRecording.Cut) throws {
        let rig = try Self.run("K-1070-default-nhg", mode: "default", vrf: "default", cut: cut)
        let via = try #require(Self.gateway(rig))
        Self.expect(
            rig,
            Outcome(
                macs: Self.learned + ["10100 02:aa:00:00:00:06 10.0.0.2"],
                routes: Self.ownDefault10 + Self.underlay(via),
                groups: ["39 23/27", "43 25/29"]
            )
        )
    }
    /// The spine's link-local address, which differs per recording.
    static func gateway(_ rig: ControlRig) -> String? {
        rig.state.routeRows().first { $0.prefix == "fd00:0:0:1::2/128" }?.nextHops.first?.gateway
    }

    @Test(arguments: FPMRecording.cuts) func d844DefaultVRFInline(cut: FPMRecording.Cut) throws {
        let rig = try Self.run("D-844-default-nonhg", mode: "default", vrf: "default", cut: cut)
        Self.expect(
            rig,
            Outcome(
                macs: Self.learned,
                routes: Self.ownDefault
                    + Self.underlay("fe80::9429:66ff:fedc:348e", v4: "169.254.0.1")
            )
        )
    }

    @Test(arguments: FPMRecording.cuts) func l1070DefaultVRFInline(cut: FPMRecording.Cut) throws {
        let rig = try Self.run("L-1070-default-nonhg", mode: "default", vrf: "default", cut: cut)
        Self.expect(
            rig,
            Outcome(
                macs: Self.learned,
                routes: Self.ownDefault10 + Self.underlay("fe80::dcae:4fff:fed4:fc9e")
            )
        )
    }

    /// The router MAC changed, and 8.4.4 deleted the new one: the last NEWNEIGH holds.
    @Test(arguments: FPMRecording.cuts) func g844KernelVRF(cut: FPMRecording.Cut) throws {
        let rig = try Self.run("G-844-vrf-nhg", mode: "vrf", vrf: "red", cut: cut)
        let second = "vtep 10.0.0.2 50000 02:00:00:50:ff:02"
        Self.expect(
            rig,
            Outcome(
                macs: Self.learned + ["10100 02:aa:00:00:00:01 10.0.0.2"],
                routerMACs: [
                    "50000 10.0.0.2 02:00:00:50:ff:02", "50000 10.0.0.3 02:00:00:50:00:03",
                ],
                routes: [
                    "default 10.0.0.1/32 kernel dev lo", "default fd00:0:0:1::1/128 kernel dev lo",
                    "default fe80::/64 kernel dev u0", "red 192.168.100.0/24 kernel dev br100",
                    "red fd00:100::/64 kernel dev br100", "red fe80::/64 kernel dev br100",
                    "red 192.168.100.201/32 bgp \(second)", "red fd00:100::201/128 bgp \(second)",
                    "red 172.16.2.0/24 bgp \(second)",
                    "red 172.16.3.0/24 bgp vtep 10.0.0.3 50000 02:00:00:50:00:03",
                ] + Self.underlay("fe80::7485:d4ff:fe4b:d524"),
                groups: ["30 22/31", "35 24/36"]
            )
        )
    }

    @Test(arguments: FPMRecording.cuts) func r1070SingleDevice(cut: FPMRecording.Cut) throws {
        let rig = try Self.run("R-1070-svd-nonhg", mode: "svd", vrf: "red", cut: cut)
        let second = "vtep 10.0.0.2 50000 02:00:00:50:00:02"
        Self.expect(
            rig,
            Outcome(
                macs: Self.learned + ["10100 02:aa:00:00:00:01 10.0.0.2"],
                routerMACs: ["50000 10.0.0.2 02:00:00:50:00:02"],
                routes: [
                    "default 10.0.0.1/32 kernel dev lo", "default fd00:0:0:1::1/128 kernel dev lo",
                    "default fe80::/64 kernel dev u0", "red 192.168.100.0/24 kernel dev vlan100",
                    "red 192.168.100.11/32 kernel dev vlan100",
                    "red fd00:100::/64 kernel dev vlan100",
                    "red fd00:100::11/128 kernel dev vlan100", "red fe80::/64 kernel dev vlan100",
                    "red 192.168.100.201/32 bgp \(second)", "red fd00:100::201/128 bgp \(second)",
                ] + Self.underlay("fe80::5497:1ff:fe34:e593")
            )
        )
    }

    /// NDA_NH_ID: the group is on rtnetlink only; what its monitor showed is given as notifications.
    @Test(arguments: FPMRecording.cuts) func y1070Multihoming(cut: FPMRecording.Cut) throws {
        let rig = try Self.run("Y-1070-vlan-mh", mode: "vlan", vrf: "red", cut: cut)
        #expect(rig.place(10100, "02:ee:00:00:00:01") == nil)
        let second = NextHopMessage(
            isDelete: false,
            id: 268_435_458,
            gateway: IPAddress("10.0.0.2"),
            isFDB: true
        )
        let third = NextHopMessage(
            isDelete: false,
            id: 268_435_459,
            gateway: IPAddress("10.0.0.3"),
            isFDB: true
        )
        func group(_ ids: UInt32...) -> NetlinkMessage {
            .nextHop(
                NextHopMessage(
                    isDelete: false,
                    id: 536_870_913,
                    members: ids.map { .init(id: $0, weight: 1) },
                    isFDB: true
                )
            )
        }
        rig.apply(.kernelNotified([.nextHop(second), .nextHop(third), group(second.id, third.id)]))
        #expect(["10.0.0.2", "10.0.0.3"].contains(rig.place(10100, "02:ee:00:00:00:01") ?? ""))
        var gone = third
        gone.isDelete = true
        rig.apply(.kernelNotified([group(second.id), .nextHop(gone)]))
        let via = try #require(Self.gateway(rig))
        Self.expect(
            rig,
            Outcome(
                macs: [
                    "10100 02:00:00:10:00:02 10.0.0.2", "10100 02:00:00:10:00:03 10.0.0.3",
                    Self.learned[0], Self.learned[1], "10100 02:ee:00:00:00:01 10.0.0.2",
                ],
                routes: [
                    "default 10.0.0.1/32 kernel dev lo", "default fd00:0:0:1::1/128 kernel dev lo",
                    "default fe80::/64 kernel dev u0", "red 192.168.100.0/24 kernel dev vlan100",
                    "red 192.168.100.11/32 kernel dev vlan100",
                    "red fd00:100::/64 kernel dev vlan100",
                    "red fd00:100::11/128 kernel dev vlan100", "red fe80::/64 kernel dev vlan100",
                ] + Self.underlay(via),
                groups: ["75757571 23", "75757572 24", "536870913 268435458"]
            )
        )
        #expect(rig.place(10100, "02:ee:00:00:00:01") == "10.0.0.2")
    }

    /// Four connections: the listener was killed, bgpd was killed, all of FRR was killed. The new zebra
    /// did not name 02:aa:00:00:00:01 again.
    @Test(arguments: FPMRecording.cuts) func c844Restarts(cut: FPMRecording.Cut) throws {
        let rig = try ControlRig(FPMRecording.configuration(vrf: "default"))
        rig.dump(try FPMRecording.links("default"))
        for (number, pauses) in [
            (1, (9.0, 6.0)), (2, (9.0, 3.0)), (3, (5.0, 5.0)), (4, (10.0, 0.0)),
        ] {
            rig.apply(.fpmConnected(connection: number))
            FPMRecording.feed(
                try FPMRecording.read("C-844-default-nhg-restarts/conn-\(number).bin"),
                cut: cut,
                connection: number,
                into: rig
            )
            rig.wait(pauses.0)
            if number < 4 { rig.apply(.fpmDisconnected(connection: number)) }
            rig.wait(pauses.1)
            // Forwarding never stops: what the lost connection said is there until it is replaced.
            if number == 1 { #expect(rig.place(10100, "02:aa:00:00:00:01") == "10.0.0.3") }
            if number == 3 { #expect(rig.place(10100, "02:00:00:aa:00:02") == "10.0.0.2") }
        }
        Self.expect(
            rig,
            Outcome(
                macs: Self.learned,
                routes: Self.ownDefault + Self.underlay("fe80::a89c:deff:fe6c:149b")
            )
        )
    }

    /// L2 MACs are not replayed; the kernel's dump tells that 02:aa:00:00:00:01 went and 05 came.
    @Test(arguments: FPMRecording.cuts) func m21070ListenerRestart(cut: FPMRecording.Cut) throws {
        let rig = try ControlRig(FPMRecording.configuration(vrf: "default"))
        let links = try FPMRecording.links("default")
        rig.dump(links)
        rig.apply(.fpmConnected(connection: 1))
        let directory = "M2-1070-default-l2restart"
        FPMRecording.feed(
            try FPMRecording.read("\(directory)/conn-1.bin"),
            cut: cut,
            connection: 1,
            into: rig
        )
        rig.wait(5)
        rig.apply(.fpmDisconnected(connection: 1))
        rig.wait(5)
        #expect(
            rig.apply(.fpmConnected(connection: 2)).contains(.dumpKernel)
                || rig.effects.contains(.dumpKernel)
        )
        func row(_ mac: String, _ vtep: String, isDelete: Bool = false) -> NetlinkMessage {
            .neighbor(
                NeighborMessage(
                    isDelete: isDelete,
                    family: .bridge,
                    interface: 6,
                    state: .reachable,
                    flags: [.`self`, .externallyLearned],
                    destination: IPAddress(vtep),
                    mac: MACAddress(mac)
                )
            )
        }
        rig.dump(
            links + [
                row("02:00:00:aa:00:02", "10.0.0.2"), row("02:00:00:aa:00:03", "10.0.0.3"),
                row("02:aa:00:00:00:05", "10.0.0.3"),
            ]
        )
        #expect(rig.place(10100, "02:aa:00:00:00:05") == "10.0.0.3")
        FPMRecording.feed(
            try FPMRecording.read("\(directory)/conn-2.bin"),
            cut: cut,
            connection: 2,
            into: rig
        )
        rig.apply(.kernelNotified([row("02:aa:00:00:00:05", "10.0.0.3", isDelete: true)]))
        rig.wait(10)
        let via = try #require(Self.gateway(rig))
        Self.expect(
            rig,
            Outcome(macs: Self.learned, routes: Self.ownDefault10 + Self.underlay(via))
        )
    }

    /// The same without a kernel: nobody says that the old MACs went, so they stay.
    @Test func listenerRestartWithoutKernelKeepsMACs() throws {
        let rig = try ControlRig(FPMRecording.configuration(vrf: "default"))
        rig.dump(try FPMRecording.links("default"))
        let directory = "M2-1070-default-l2restart"
        for number in 1...2 {
            rig.apply(.fpmConnected(connection: number))
            FPMRecording.feed(
                try FPMRecording.read("\(directory)/conn-\(number).bin"),
                cut: .whole,
                connection: number,
                into: rig
            )
            if number == 1 { rig.apply(.fpmDisconnected(connection: 1)) }
        }
        rig.wait(10)
        #expect(
            rig.state.macLines(at: rig.now) == Self.learned + ["10100 02:aa:00:00:00:01 10.0.0.3"]
        )
    }

    /// The old module: NDA_VNI, VNI in every next hop, router MACs first in the replay.
    @Test(arguments: FPMRecording.cuts) func q2844OldModuleRestart(cut: FPMRecording.Cut) throws {
        let rig = try ControlRig(FPMRecording.configuration(vrf: "default"))
        rig.dump(try FPMRecording.links("default"))
        let directory = "Q2-844-oldfpm-restart"
        for number in 1...2 {
            rig.apply(.fpmConnected(connection: number))
            FPMRecording.feed(
                try FPMRecording.read("\(directory)/conn-\(number).bin"),
                cut: cut,
                connection: number,
                into: rig
            )
            rig.wait(5)
            if number == 1 {
                rig.apply(.fpmDisconnected(connection: 1))
                rig.wait(4)
                #expect(rig.state.routeLines.contains { $0.hasPrefix("default 172.16.3.0/24") })
            }
        }
        rig.wait(5)
        Self.expect(
            rig,
            Outcome(
                macs: [],
                routerMACs: [
                    "50000 10.0.0.2 02:00:00:50:00:02", "50000 10.0.0.3 02:00:00:50:00:03",
                ],
                routes: Self.ownDefault + [
                    "default 172.16.2.0/24 zebra vtep 10.0.0.2 50000 02:00:00:50:00:02",
                    "default 172.16.4.0/24 zebra vtep 10.0.0.3 50000 02:00:00:50:00:03",
                ] + Self.underlay("fe80::a8c0:ecff:fe9d:f063", v4: "169.254.0.1", proto: "zebra")
            )
        )
    }
}
