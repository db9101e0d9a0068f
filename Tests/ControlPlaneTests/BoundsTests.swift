// Bounds on hostile nesting, counts of requests, devices that go away and come back.

import Tables
import Testing
import Wire

@testable import ControlPlane

@Suite struct BoundsAndCounts {
    /// Groups of groups of nothing: as many paths as members to the power of the depth.
    @Test(.timeLimit(.minutes(1))) func nestedGroupsOfNothingEnd() throws {
        let rig = try makeRig()
        rig.connectFPM()
        for level in UInt32(0)..<4 {
            let ids = (0..<1000).map { (level == 3 ? 1_000_000 + UInt32($0) : 500 + level + 1, UInt32(1)) }
            rig.frame(Message.group(500 + level, ids))
        }
        rig.kernel(Message.flood("10.0.0.2"))
        rig.frame(Message.route("10.0.0.2/32", id: 500))
        #expect(rig.paths("10.0.0.2") == "noUnderlayRoute")
    }
    @Test func kernelRequestsAndTheirFailuresAreCounted() throws {
        let rig = try makeRig()
        rig.learn(macA)
        rig.apply(.kernelRequestFailed(added(macA), errno: 19))
        let row = rig.state.controlRow(at: rig.now)
        #expect(row.kernel.requests == 1 && row.kernel.requestsFailed == 1)
    }
    @Test func exceptionTAPThatIsMadeAnewIsFoundByItsName() throws {
        let rig = try makeRig()
        rig.apply(.exceptionAttached(port: 0, interface: 2, name: "u0"))
        rig.connectFPM()
        rig.kernel(Message.flood("10.0.0.2"))
        rig.apply(.kernelNotified([.link(LinkMessage(isDelete: true, interface: 2, name: "u0"))]))
        rig.kernel(Message.link(22, "u0"), Message.neighbor("10.1.0.1", "02:00:00:00:fe:01", interface: 22))
        rig.frame(Message.route("10.0.0.2/32", hops: [Message.hop("10.1.0.1", 22)]))
        #expect(rig.paths("10.0.0.2") == "u0 02:00:00:00:fe:01")
    }
    @Test func singleVXLANDeviceThatGoesDownLosesItsMACs() throws {
        let rig = try makeRig(links: false)
        var device = LinkMessage(
            isDelete: false, interface: 6, name: "vx0", isUp: true, master: 5,
            kind: .vxlan(vni: nil, local: IPAddress("10.0.0.1"), port: 4789, collectMetadata: true),
            bridgeTunnels: [.init(vlan: 100, vni: 10100)])
        rig.dump([Message.bridge(5), .link(device)])
        rig.kernel(Message.mac(macA, "10.0.0.2", vlan: 100))
        #expect(rig.place(10100, macA) == "10.0.0.2")
        device.isUp = false
        rig.kernel(.link(device))
        #expect(rig.place(10100, macA) == nil)
    }
    @Test func macBehindAGroupShowsTheGroup() throws {
        let rig = try makeRig()
        rig.kernel(
            .nextHop(NextHopMessage(isDelete: false, id: 11, gateway: IPAddress("10.0.0.2"), isFDB: true)),
            Message.group(77, [(11, 1)], isFDB: true), Message.mac(macA, nil, group: 77))
        let row = try #require(rig.state.fdbRows(at: rig.now).first)
        #expect(row.group == 77 && row.vtep == "10.0.0.2")
    }
}
