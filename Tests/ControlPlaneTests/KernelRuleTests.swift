// Rules of the kernel's dumps and notifications, one test each.

import Tables
import Testing
import Wire

@testable import ControlPlane

@Suite struct KernelRules {
    @Test func dumpedRowWithoutItsBridgeRowIsNotBelieved() throws {
        let rig = try makeRig()
        rig.dump(
            Message.links + [
                Message.mac(macA, "10.0.0.2"), Message.bridged(macA, 6),
                Message.mac(macB, "10.0.0.2"),
            ]
        )
        #expect(rig.place(10100, macA) == "10.0.0.2")
        #expect(rig.place(10100, macB) == nil)
        // Where no bridge rows are shown at all, nothing follows from their absence.
        rig.dump(
            Message.links + [
                Message.mac(macA, "10.0.0.2"), Message.mac("02:aa:00:00:00:03", "10.0.0.2"),
            ]
        )
        #expect(rig.place(10100, "02:aa:00:00:00:03") == "10.0.0.2")
    }
    @Test func zeroMACRowsAreTheFloodList() throws {
        let rig = try makeRig()
        rig.kernel(Message.flood("10.0.0.3"), Message.flood("10.0.0.2"))
        #expect(rig.flood(10100) == ["host", "host2", "10.0.0.2", "10.0.0.3"])
        #expect(rig.members(10100) == ["10.0.0.2", "10.0.0.3"])
        rig.kernel(Message.flood("10.0.0.2", isDelete: true))
        #expect(rig.flood(10100) == ["host", "host2", "10.0.0.3"])
        #expect(rig.members(10100) == ["10.0.0.3"])
        #expect(rig.tables.tunnelCount == 1)
    }
    @Test func ownAddressIsNoFloodTarget() throws {
        let rig = try makeRig()
        rig.kernel(Message.flood("10.0.0.1"))
        #expect(rig.flood(10100) == ["host", "host2"])
    }
    @Test func dumpSweepsWhatItDoesNotShow() throws {
        let rig = try makeRig()
        rig.kernel(
            Message.mac(macA, "10.0.0.2"),
            Message.mac(macB, "10.0.0.2"),
            Message.flood("10.0.0.2")
        )
        rig.dump(Message.links + [Message.mac(macB, "10.0.0.2")])
        #expect(rig.place(10100, macA) == nil)
        #expect(rig.place(10100, macB) == "10.0.0.2")
        #expect(rig.flood(10100) == ["host", "host2"])
    }
    @Test func notificationDuringADumpWinsOverItsRows() throws {
        let rig = try makeRig()
        rig.kernel(Message.mac(macA, "10.0.0.2"))
        rig.apply(
            .kernelDumpBegan,
            .kernelNotified([Message.mac(macA, "10.0.0.2", isDelete: true)]),
            .kernelNotified([Message.mac(macB, "10.0.0.3")]),
            .kernelDumped(Message.links + [Message.mac(macA, "10.0.0.2")]),
            .kernelDumpEnded
        )
        #expect(rig.place(10100, macA) == nil)
        #expect(rig.place(10100, macB) == "10.0.0.3")
    }
    @Test func overrunAsksForADumpOnce() throws {
        let rig = try makeRig()
        let effects = rig.apply(.kernelOverrun, .kernelOverrun)
        #expect(effects.filter { $0 == .dumpKernel }.count == 1)
        rig.apply(.kernelDumpBegan)
        #expect(!rig.apply(.kernelOverrun).contains(.dumpKernel))
        #expect(rig.apply(.kernelDumped(Message.links), .kernelDumpEnded).contains(.dumpKernel))
    }
    @Test func failedDumpIsAskedForAgainAndSweepsNothing() throws {
        let rig = try makeRig()
        rig.kernel(Message.mac(macA, "10.0.0.2"))
        rig.apply(.kernelOverrun)
        rig.apply(.kernelDumpBegan, .kernelRequestFailed(.dumpKernel, errno: 4), .kernelDumpEnded)
        #expect(rig.place(10100, macA) == "10.0.0.2")
        #expect(rig.wait(6).contains(.dumpKernel))
    }
    @Test func downVXLANDeviceFlushesWhatDependsOnIt() throws {
        let rig = try makeRig()
        rig.connectFPM()
        rig.dump(Message.links)
        rig.frame(
            Message.mac(macA, "10.0.0.2"),
            Message.mac("02:00:00:50:00:02", "10.0.0.2", interface: 8)
        )
        rig.kernel(Message.flood("10.0.0.2"))
        rig.learn(macB)
        rig.kernel(Message.vxlan(6, 10100, master: 5, isUp: false))
        #expect(rig.place(10100, macA) == nil)
        #expect(rig.flood(10100) == ["host", "host2"])
        // Local forwarding goes on, and the other VNI is not touched.
        #expect(rig.place(10100, macB) == "host")
        #expect(rig.state.routerMACLines == ["50000 10.0.0.2 02:00:00:50:00:02"])
        let effects = rig.apply(.kernelNotified([Message.vxlan(6, 10100, master: 5)]))
        #expect(effects.contains(.dumpKernel))
    }
    @Test func deletedVXLANDeviceFlushesWhatDependsOnIt() throws {
        let rig = try makeRig()
        rig.connectFPM()
        rig.frame(Message.mac(macA, "10.0.0.2"))
        rig.apply(.kernelNotified([.link(LinkMessage(isDelete: true, interface: 6))]))
        #expect(rig.place(10100, macA) == nil)
    }
    @Test func leavingABridgeIsNotADeletedLink() throws {
        let rig = try makeRig()
        rig.connectFPM()
        rig.frame(Message.mac(macA, "10.0.0.2"))
        rig.apply(
            .kernelNotified([.link(LinkMessage(isDelete: true, isBridgeFamily: true, interface: 6))]
            )
        )
        #expect(rig.place(10100, macA) == "10.0.0.2")
        #expect(rig.state.links.vni(ofSVI: 5) == nil)
    }
    @Test func rowsWaitForTheirLink() throws {
        let rig = try makeRig(links: false)
        rig.connectFPM()
        rig.frame(
            Message.mac(macA, "10.0.0.2"),
            Message.mac(macA, "10.0.0.3"),
            Message.mac(macB, "10.0.0.2")
        )
        rig.frame(Message.mac(macB, "10.0.0.2", isDelete: true))
        #expect(rig.tables.macCount == 0)
        rig.apply(.kernelNotified(Message.links))
        #expect(rig.place(10100, macA) == "10.0.0.3")
        #expect(rig.place(10100, macB) == nil)
    }
    @Test func mappedDestinationIsTheIPv4VTEP() throws {
        let rig = try makeRig()
        rig.connectFPM()
        rig.frame(Message.mac(macA, "::ffff:10.0.0.2"))
        #expect(rig.place(10100, macA) == "10.0.0.2")
        rig.frame(Message.mac(macA, "::ffff:10.0.0.2", isDelete: true))
        #expect(rig.place(10100, macA) == nil)
    }
    @Test func deleteWithoutADestinationRemovesTheRow() throws {
        let rig = try makeRig()
        rig.connectFPM()
        rig.frame(Message.mac(macA, "10.0.0.2"), Message.mac(macB, nil, group: 7))
        rig.frame(
            Message.mac(macA, nil, isDelete: true),
            Message.mac(macB, "0.0.0.0", isDelete: true)
        )
        #expect(rig.place(10100, macA) == nil)
        #expect(rig.state.macLines(at: rig.now).isEmpty)
    }
    @Test func rowsOfASingleDeviceGoByTheirVNIOrVLAN() throws {
        let rig = try makeRig(shadow: false, links: false)
        let port = LinkMessage(
            isDelete: false,
            isBridgeFamily: true,
            interface: 20,
            name: "vx0",
            master: 21,
            bridgeTunnels: [.init(vlan: 100, vni: 10100), .init(vlan: 500, vni: 50000)]
        )
        rig.apply(.kernelNotified([Message.vxlan(20, nil, master: 21), .link(port)]))
        rig.connectFPM()
        rig.frame(
            Message.mac(macA, "10.0.0.2", interface: 20, vlan: 100, vni: 10100),
            Message.mac(macB, "10.0.0.2", interface: 20, vlan: 100),
            Message.mac("02:00:00:50:00:02", "10.0.0.2", interface: 20, vlan: 500)
        )
        #expect(rig.place(10100, macA) == "10.0.0.2")
        #expect(rig.place(10100, macB) == "10.0.0.2")
        #expect(rig.state.routerMACLines == ["50000 10.0.0.2 02:00:00:50:00:02"])
    }
}
