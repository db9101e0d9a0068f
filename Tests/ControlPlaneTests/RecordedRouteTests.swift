// What the tables route at each point of the recorded streams' timelines.

import CLinux
import Tables
import Testing
import TestThreads
import Wire

@testable import ControlPlane

@Suite struct RecordedRouteTests {
    /// One look at the tables: after so many bytes of the stream.
    struct Look {
        var offset: Int
        /// Tenant routes, by prefix.
        var routes: [String: String]
    }
    static let first = "10.0.0.2 50000 02:00:00:50:00:02"
    static let second = "10.0.0.3 50000 02:00:00:50:00:03"
    static let both = "group of 64: \(first) x32 + \(second) x32"
    static let host4 = "192.168.100.201/32", host6 = "fd00:100::201/128"
    static let type5 = "172.16.1.0/24", type5v6 = "fd00:172:16:1::/64"

    /// The L2VNI is in the VRF, so that its SVI is a gateway's.
    static func makeRig(vrf: String, mode: String) throws -> ControlRig {
        var configuration = FPMRecording.configuration(vrf: vrf)
        configuration.l2vnis[0].vrf = vrf
        let rig = try ControlRig(configuration)
        rig.dump(try FPMRecording.links(mode))
        return rig
    }
    /// Routes through the L3VNI.
    static func overlay(_ rig: ControlRig, _ vrf: String) -> [String: String] {
        var found: [String: String] = [:]
        for line in rig.tableLines where line.contains(" 50000 ") {
            let words = line.split(separator: " ", maxSplits: 2).map(String.init)
            if words[0] == vrf { found[words[1]] = words[2] }
        }
        return found
    }
    static func run(
        _ name: String, mode: String, vrf: String, cut: FPMRecording.Cut, _ looks: [Look]
    ) throws {
        let rig = try makeRig(vrf: vrf, mode: mode)
        let bytes = try FPMRecording.read("\(name)/conn-1.bin")
        rig.apply(.fpmConnected(connection: 1))
        var done = 0
        for look in looks {
            FPMRecording.feed(Array(bytes[done..<look.offset]), cut: cut, connection: 1, into: rig)
            done = look.offset
            #expect(overlay(rig, vrf) == look.routes, "\(name) after \(look.offset) bytes")
        }
        FPMRecording.feed(Array(bytes[done...]), cut: cut, connection: 1, into: rig)
        #expect(rig.state.counters.errorCount == 0)
    }

    // MARK: Timelines (decoded.txt)

    @Test(arguments: FPMRecording.cuts) func a844(cut: FPMRecording.Cut) throws {
        try Self.run("A-844-default-nhg", mode: "default", vrf: "default", cut: cut, [
            Look(offset: 1284, routes: [:]),
            Look(offset: 1460, routes: [Self.host4: Self.first]),
            // An IPv6 host by a v4-mapped gateway.
            Look(offset: 1592, routes: [Self.host4: Self.first, Self.host6: Self.first]),
            Look(offset: 1836, routes: [:]),
            Look(offset: 2144, routes: [Self.host4: Self.second, Self.host6: Self.second]),
            Look(offset: 2388, routes: [:]),
            Look(offset: 3792, routes: [Self.type5: Self.first]),
            Look(offset: 3860, routes: [Self.type5: Self.first, Self.type5v6: Self.first]),
            // The first VTEP's router MAC was deleted although it is in use.
            Look(offset: 3996, routes: [Self.type5: Self.first, Self.type5v6: Self.first]),
            Look(offset: 4152, routes: [Self.type5: Self.both, Self.type5v6: Self.first]),
            Look(offset: 4468, routes: [Self.type5: Self.both, Self.type5v6: Self.both]),
            // And the one that is left, too.
            Look(offset: 4636, routes: [Self.type5: Self.second, Self.type5v6: Self.both]),
            Look(offset: 4896, routes: [Self.type5: Self.second, Self.type5v6: Self.second]),
            Look(offset: 4944, routes: [Self.type5v6: Self.second]),
            Look(offset: 5004, routes: [:]),
        ])
    }
    @Test(arguments: FPMRecording.cuts) func d844Inline(cut: FPMRecording.Cut) throws {
        try Self.run("D-844-default-nonhg", mode: "default", vrf: "default", cut: cut, [
            Look(offset: 1020, routes: [Self.host4: Self.first]),
            Look(offset: 1352, routes: [:]),
            Look(offset: 1572, routes: [Self.type5: Self.first, Self.type5v6: Self.first]),
            Look(offset: 1876, routes: [Self.type5: Self.both, Self.type5v6: Self.first]),
            Look(offset: 2228, routes: [Self.type5: Self.both, Self.type5v6: Self.both]),
            Look(offset: 2404, routes: [Self.type5: Self.second, Self.type5v6: Self.both]),
            Look(offset: 2684, routes: [Self.type5: Self.second, Self.type5v6: Self.second]),
            Look(offset: 2792, routes: [:]),
        ])
    }
    @Test(arguments: FPMRecording.cuts) func k1070(cut: FPMRecording.Cut) throws {
        try Self.run("K-1070-default-nhg", mode: "default", vrf: "default", cut: cut, [
            Look(offset: 2056, routes: [Self.host4: Self.first]),
            Look(offset: 4600, routes: [Self.type5: Self.first, Self.type5v6: Self.first]),
            Look(offset: 4788, routes: [Self.type5: Self.both, Self.type5v6: Self.first]),
            Look(offset: 4912, routes: [Self.type5: Self.both, Self.type5v6: Self.both]),
            Look(offset: 5112, routes: [Self.type5: Self.second, Self.type5v6: Self.second]),
            Look(offset: 5296, routes: [:]),
        ])
    }
    /// Table 1001 is the VRF's; the main table's routes are not in it.
    @Test(arguments: FPMRecording.cuts) func g844VRF(cut: FPMRecording.Cut) throws {
        let hosts = [Self.host4: Self.first, Self.host6: Self.first]
        let changed = "10.0.0.2 50000 02:00:00:50:ff:02"
        try Self.run("G-844-vrf-nhg", mode: "vrf", vrf: "red", cut: cut, [
            Look(offset: 1560, routes: [Self.host4: Self.first]),
            Look(offset: 1840, routes: hosts.merging([Self.type5: Self.first, Self.type5v6: Self.first]) { $1 }),
            Look(offset: 2132, routes: hosts.merging([Self.type5: Self.both, Self.type5v6: Self.first]) { $1 }),
            Look(offset: 2392, routes: hosts.merging([Self.type5: Self.both, Self.type5v6: Self.both]) { $1 }),
            Look(offset: 2852, routes: hosts.merging([Self.type5: Self.second, Self.type5v6: Self.second]) { $1 }),
            Look(offset: 2976, routes: hosts),
            Look(offset: 3172, routes: hosts.merging(["172.16.2.0/24": Self.first, "172.16.3.0/24": Self.second]) { $1 }),
            // The new router MAC was deleted in place of the old one.
            Look(offset: 3680, routes: [
                Self.host4: changed, Self.host6: changed, "172.16.2.0/24": changed, "172.16.3.0/24": Self.second,
            ]),
        ])
    }

    // MARK: All streams

    /// What each stream ends with, beside the underlay and own routes.
    static let ends: [(name: String, mode: String, vrf: String, routes: [String: String])] = [
        ("A-844-default-nhg", "default", "default", [:]), ("D-844-default-nonhg", "default", "default", [:]),
        ("K-1070-default-nhg", "default", "default", [:]), ("L-1070-default-nonhg", "default", "default", [:]),
        ("C-844-default-nhg-restarts", "default", "default", [:]),
        ("M2-1070-default-l2restart", "default", "default", [:]),
        (
            "G-844-vrf-nhg", "vrf", "red",
            [
                host4: "10.0.0.2 50000 02:00:00:50:ff:02", host6: "10.0.0.2 50000 02:00:00:50:ff:02",
                "172.16.2.0/24": "10.0.0.2 50000 02:00:00:50:ff:02", "172.16.3.0/24": second,
            ]
        ),
        ("R-1070-svd-nonhg", "svd", "red", [host4: first, host6: first]),
        ("Y-1070-vlan-mh", "vlan", "red", [:]),
        (
            "Q2-844-oldfpm-restart", "default", "default", ["172.16.2.0/24": first, "172.16.4.0/24": second]
        ),
    ]
    @Test(arguments: ends.indices) func everyStreamEndsWithItsRoutes(index: Int) throws {
        let (name, mode, vrf, routes) = Self.ends[index]
        for cut in [FPMRecording.Cut.whole, .random(3)] {
            let rig = try Self.makeRig(vrf: vrf, mode: mode)
            let connections = try Recording.connections(name)
            for (number, bytes) in connections {
                rig.apply(.fpmConnected(connection: number))
                FPMRecording.feed(bytes, cut: cut, connection: number, into: rig)
                // Each of the restarts takes longer than a quiet period.
                rig.wait(9)
                if number < connections.count {
                    rig.apply(.fpmDisconnected(connection: number))
                    rig.wait(3)
                }
            }
            rig.wait(20)
            #expect(Self.overlay(rig, vrf) == routes, "\(name)")
            // The subnet of the SVI, whatever FRR calls the interface.
            #expect(rig.route(vrf, "192.168.100.0/24") == "subnet 1")
            #expect(rig.route(vrf, "fd00:100::/64") == "subnet 1")
            #expect(rig.route(vrf, "192.168.100.11/32") == "local 1")
            // Nothing is left over.
            let used = Set(rig.tableLines.flatMap { line in
                ["10.0.0.2", "10.0.0.3"].filter { line.contains(" \($0) 50000") }
            })
            let known = rig.state.routerMACs.rows.keys.map(\.vtep.description)
            #expect(rig.members(ofVRF: vrf) == used.union(known).sorted())
            #expect(rig.tables.groupCount == 0)
        }
    }
    /// Through all of FRR 8.4.4's wrong deletes, no route through the fabric ever lacks its router MAC.
    @Test(arguments: ends.indices) func noRouteInUseEverLosesItsRouterMAC(index: Int) throws {
        let (name, mode, vrf, _) = Self.ends[index]
        let rig = try Self.makeRig(vrf: vrf, mode: mode)
        for (number, bytes) in try Recording.connections(name) {
            rig.apply(.fpmConnected(connection: number))
            var seen = 0
            for payload in Recording.payloads(bytes) {
                rig.apply(.fpmFrame(connection: number, NetlinkDecoder.decode(payload).messages))
                let routes = Self.overlay(rig, vrf).values
                seen += routes.count
                #expect(!routes.contains { $0.contains("noRouterMAC") || $0.contains("none") })
            }
            if "ADGKLQR".contains(name.prefix(1)) && number == 1 { #expect(seen > 0) }
            rig.apply(.fpmDisconnected(connection: number))
        }
    }

    // MARK: No gap

    /// DEL and NEW in one frame, members that come and go, a router MAC that changes: a reader that
    /// looks up all the time always finds a way.
    @Test func aReaderNeverSeesAGap() throws {
        let rig = try Self.makeRig(vrf: "default", mode: "default")
        rig.connectFPM()
        let one = Message.nextHop(23, "10.0.0.2", 7), other = Message.nextHop(28, "10.0.0.3", 7)
        func rmac(_ vtep: String, _ mac: String) -> NetlinkMessage { Message.mac(mac, vtep, interface: 8) }
        let prefixes = ["172.16.1.0/24", "172.16.2.7/32", "fd00:172:16:1::/64", "fd00::7/128"]
        rig.frame(rmac("10.0.0.2", rmac2), rmac("10.0.0.3", rmac3), one, other)
        for prefix in prefixes { rig.frame(Message.route(prefix, id: 23)) }
        let done = Flag(), wrong = Tally(), looked = Tally()
        let thread = Self.reader(rig, done, wrong, looked)
        var round: UInt32 = 0
        while round < 300 || looked.count < 100_000 && round < 100_000 {
            round += 1
            let group = 40 + round % 2
            rig.frame(Message.group(group, [(23, 1), (28, 1)]))
            for prefix in prefixes {
                rig.frame(Message.route(prefix, isDelete: true), Message.route(prefix, id: group))
            }
            rig.frame(Message.group(group, [(28, 1), (23, 2)]))
            rig.frame(rmac("10.0.0.2", round % 2 == 0 ? rmac2 : rmac3))
            for prefix in prefixes {
                rig.frame(Message.route(prefix, isDelete: true), Message.route(prefix, id: round % 3 == 0 ? 23 : 28))
            }
            // Inline, as with `no fpm use-next-hop-groups`.
            let hops = [Message.hop("10.0.0.2", 7), Message.hop("10.0.0.3", 7)]
            for prefix in prefixes where prefix.contains(".") {
                rig.frame(Message.route(prefix, isDelete: true), Message.route(prefix, hops: hops))
            }
        }
        done.set()
        thread.join()
        #expect(looked.count >= 100_000)
        #expect(wrong.count == 0)
    }
    private static func reader(_ rig: ControlRig, _ done: Flag, _ wrong: Tally, _ looked: Tally) -> TestThread {
        let worker = rig.tables.reader(worker: 0)
        let vrf = rig.vrf("default")
        let addresses = ["172.16.1.9", "172.16.2.7", "fd00:172:16:1::9", "fd00::7"].compactMap { IPAddress($0) }
        return TestThread {
            var hash: UInt32 = 1
            while !done.isSet {
                worker.quiescent()
                let view = worker.current.assumingMemoryBound(to: ForwardingState.self).pointee
                for address in addresses {
                    hash = hash &* 1_664_525 &+ 1_013_904_223
                    let key = HostKey.make(vrf, address)
                    let bucket = view.hosts.table.bucket(of: key)
                    let value =
                        switch address {
                        case .v4(let v4): view.route(vrf: vrf, ipv4: v4.rawValue, key: key, in: bucket)
                        case .v6(let v6): view.route(vrf: vrf, ipv6: v6.high, v6.low, key: key, in: bucket)
                        }
                    let hop = value.isGroup ? view.hop(ofGroup: value.index, hash: hash >> 8) : value.index
                    let isRight = (value.isHop || value.isGroup) && hop != BucketView.miss
                        && view.hop(hop).head.isTunnel && view.hop(hop).head.isUsable
                        && [rmac2, rmac3].contains(MACAddress(rawValue: view.hop(hop).head.mac).description)
                    if !isRight { wrong.add() }
                    looked.add()
                }
            }
            worker.offline()
        }
    }
}
