// Rules of FPM connections and router MACs, one test each.

import Tables
import Testing
import Wire

@testable import ControlPlane

@Suite struct ConnectionRules {
    @Test func connectAsksForAKernelDump() throws {
        let rig = try makeRig()
        #expect(rig.apply(.fpmConnected(connection: 1)).contains(.dumpKernel))
    }
    @Test func lostConnectionIsHeldThenSwept() throws {
        let rig = try makeRig { $0.control.staleHoldSeconds = 30 }
        rig.connectFPM()
        rig.frame(Message.mac(macA, "10.0.0.2"))
        rig.kernel(Message.flood("10.0.0.2"), Message.mac(macA, "10.0.0.2"))
        rig.apply(.fpmDisconnected(connection: 1))
        rig.wait(29)
        #expect(rig.place(10100, macA) == "10.0.0.2")
        rig.wait(2)
        #expect(rig.place(10100, macA) == nil)
        #expect(rig.flood(10100) == ["host", "host2"])
        #expect(rig.state.routeLines.isEmpty)
    }
    @Test func sameZebraAfterTheHoldRevivesItsRows() throws {
        for port in [UInt32(100), 200] {
            let rig = try makeRig { $0.control.staleHoldSeconds = 30 }
            rig.connectFPM()
            rig.kernel(Message.mac(macA, "10.0.0.2"), Message.flood("10.0.0.2"))
            rig.apply(.fpmDisconnected(connection: 1))
            rig.wait(31)
            #expect(rig.place(10100, macA) == nil)
            rig.connectFPM(2, port: port)
            rig.dump(Message.links + [Message.mac(macA, "10.0.0.2"), Message.flood("10.0.0.2")])
            rig.wait(10)
            #expect(rig.flood(10100).contains("10.0.0.2"))
            #expect(rig.place(10100, macA) == (port == 100 ? "10.0.0.2" : nil))
        }
    }
    @Test func reconnectReplacesWhatIsReplayedAndSweepsTheRest() throws {
        let rig = try makeRig()
        rig.connectFPM()
        rig.frame(
            Message.nextHop(7, "10.1.0.1", 2),
            Message.route("10.0.0.2/32", id: 7),
            Message.route("10.0.0.3/32", id: 7)
        )
        rig.apply(.fpmDisconnected(connection: 1))
        rig.connectFPM(2)
        // Ids are numbered anew: the old route still finds its old next hop.
        rig.frame(
            Message.nextHop(7, "10.1.0.9", 2),
            Message.route("10.0.0.2/32", id: 7),
            connection: 2
        )
        #expect(rig.state.routeLines.contains("default 10.0.0.3/32 bgp via 10.1.0.1 dev u0"))
        #expect(rig.state.routeLines.contains("default 10.0.0.2/32 bgp via 10.1.0.9 dev u0"))
        rig.wait(8)
        #expect(!rig.state.routeLines.contains { $0.contains("10.0.0.3/32") })
        #expect(rig.state.routeLines.contains("default 10.0.0.2/32 bgp via 10.1.0.9 dev u0"))
    }
    @Test func anotherModulesRoutesOutliveTheFirstOnes() throws {
        let rig = try makeRig { $0.control.staleHoldSeconds = 10 }
        rig.connectFPM(1)
        rig.connectFPM(2)
        rig.frame(Message.route("10.0.0.2/32", hops: [Message.hop("10.1.0.1", 2)]), connection: 2)
        rig.frame(Message.route("10.0.0.2/32", hops: [Message.hop("10.1.0.1", 2)]), connection: 1)
        rig.apply(.fpmDisconnected(connection: 1))
        rig.wait(15)
        #expect(rig.state.routeLines.contains("default 10.0.0.2/32 bgp via 10.1.0.1 dev u0"))
        rig.frame(Message.route("10.0.0.2/32", isDelete: true), connection: 2)
        #expect(!rig.state.routeLines.contains { $0.contains("10.0.0.2/32") })
    }
    @Test func macsOfALostConnectionAreConfirmedByTheDump() throws {
        let rig = try makeRig()
        rig.connectFPM()
        rig.frame(Message.mac(macA, "10.0.0.2"), Message.mac(macB, "10.0.0.2"))
        rig.apply(.fpmDisconnected(connection: 1))
        rig.connectFPM(2)
        rig.dump(Message.links + [Message.mac(macA, "10.0.0.3")])
        rig.wait(8)
        // It moved meanwhile: the kernel's word is the newer one.
        #expect(rig.place(10100, macA) == "10.0.0.3")
        #expect(rig.place(10100, macB) == nil)
    }
    @Test func newZebraHasToNameItsMACsAgain() throws {
        let rig = try makeRig()
        rig.connectFPM()
        rig.learn("02:bb:00:00:00:01")
        rig.frame(
            Message.mac(macA, "10.0.0.2"),
            Message.mac(macB, "10.0.0.2"),
            Message.route("10.0.0.2/32", hops: [Message.hop("10.1.0.1", 2)])
        )
        rig.kernel(Message.mac(macA, "10.0.0.2"), Message.mac(macB, "10.0.0.2"))
        rig.apply(.fpmDisconnected(connection: 1))
        let before = rig.effects.count
        rig.connectFPM(2, port: 200)
        // Local MACs are published again: the new zebra knows nothing.
        #expect(rig.effects.dropFirst(before).contains(added("02:bb:00:00:00:01")))
        rig.dump(
            Message.links + [
                Message.mac(macA, "10.0.0.2"), Message.mac(macB, "10.0.0.2"),
                Message.bridged("02:bb:00:00:00:01", 9),
            ]
        )
        rig.wait(10)
        // bgpd is not back: nothing is swept yet.
        #expect(rig.place(10100, macB) == "10.0.0.2")
        rig.frame(
            Message.route("10.0.0.2/32", hops: [Message.hop("10.1.0.1", 2)], port: 200),
            Message.mac(macA, "10.0.0.2"),
            connection: 2
        )
        rig.wait(10)
        #expect(rig.place(10100, macA) == "10.0.0.2")
        // What only the old zebra's kernel row says is held, then not believed, nor in a later dump.
        #expect(rig.place(10100, macB) == "10.0.0.2")
        rig.wait(rig.state.configuration.control.staleHoldSeconds)
        #expect(rig.place(10100, macA) == "10.0.0.2")
        #expect(rig.place(10100, macB) == nil)
        rig.dump(
            Message.links + [
                Message.mac(macA, "10.0.0.2"), Message.mac(macB, "10.0.0.2"),
                Message.bridged("02:bb:00:00:00:01", 9),
            ]
        )
        #expect(rig.place(10100, macB) == nil)
        #expect(rig.place(10100, "02:bb:00:00:00:01") == "host")
    }
    /// The new zebra writes its MACs into the kernel before it connects: nothing comes over FPM.
    @Test(arguments: [true, false])
    func newZebraMayNameItsMACsToTheKernelAlone(isHoldOver: Bool) throws {
        let rig = try makeRig { $0.control.staleHoldSeconds = 60 }
        let macC = "02:aa:00:00:00:03"
        rig.connectFPM()
        for mac in [macA, macB, macC] {
            rig.frame(Message.mac(mac, "10.0.0.2"))
            rig.kernel(Message.mac(mac, "10.0.0.2"), Message.bridged(mac, 6))
        }
        rig.wait(30)
        rig.apply(.fpmDisconnected(connection: 1))
        rig.wait(isHoldOver ? 70 : 10)
        rig.connectFPM(2, port: 200)
        // A was written again two seconds ago, B not since the old zebra, C is not there any more.
        let age: UInt32 = isHoldOver ? 9000 : 3000
        rig.dump(
            Message.links + [
                Message.bridged(macA, 6, age: 200), Message.mac(macA, "10.0.0.2"),
                Message.bridged(macB, 6, age: age), Message.mac(macB, "10.0.0.2"),
            ])
        rig.wait(10)
        #expect(rig.place(10100, macA) == "10.0.0.2")
        #expect(rig.place(10100, macB) == (isHoldOver ? nil : "10.0.0.2"))
        #expect(rig.place(10100, macC) == nil)
        rig.wait(70)
        #expect(rig.place(10100, macA) == "10.0.0.2")
        #expect(rig.place(10100, macB) == nil)
        rig.kernel(Message.mac(macA, "10.0.0.2", isDelete: true))
        #expect(rig.place(10100, macA) == nil)
    }
    @Test func heldRowIsConfirmedByWhateverComesFirst() throws {
        for confirmation in 0..<3 {
            let rig = try makeRig { $0.control.staleHoldSeconds = 30 }
            rig.connectFPM()
            rig.kernel(Message.mac(macA, "10.0.0.2"), Message.bridged(macA, 6))
            rig.apply(.fpmDisconnected(connection: 1))
            rig.connectFPM(2, port: 200)
            let rows = [Message.bridged(macA, 6, age: 3000), Message.mac(macA, "10.0.0.2")]
            rig.dump(Message.links + rows)
            // A dump that began after the sweep tells of rows that were written late.
            #expect(rig.wait(10).contains(.dumpKernel))
            switch confirmation {
            case 0: rig.frame(Message.mac(macA, "10.0.0.2"), connection: 2)
            case 1: rig.kernel(Message.bridged(macA, 6))
            default: rig.dump(Message.links + [Message.bridged(macA, 6, age: 0), Message.mac(macA, "10.0.0.2")])
            }
            rig.wait(40)
            #expect(rig.place(10100, macA) == "10.0.0.2", "\(confirmation)")
        }
    }
    @Test func frameWithoutAConnectOpensItsConnection() throws {
        let rig = try makeRig()
        rig.frame(Message.mac(macA, "10.0.0.2"), connection: 5)
        #expect(rig.place(10100, macA) == "10.0.0.2")
    }
    @Test func faultsAreKeptBoundedAndCounted() throws {
        let rig = try makeRig()
        rig.connectFPM()
        for index in 0..<100 { rig.apply(.fpmError(connection: 1, "fault \(index)")) }
        #expect(rig.state.counters.errorCount == 100)
        #expect(rig.state.counters.errors.count == ControlCounters.keptErrors)
        #expect(rig.state.counters.errors.last?.contains("fault 99") == true)
        #expect(
            rig.effects.filter { if case .log(.warning, _) = $0 { true } else { false } }.count == 1
        )
    }
}

@Suite struct RouterMACRules {
    static let mac2 = "02:00:00:50:00:02"
    func rig() throws -> ControlRig {
        let rig = try makeRig()
        rig.connectFPM()
        rig.frame(
            Message.mac(Self.mac2, "10.0.0.2", interface: 8),
            Message.nextHop(23, "10.0.0.2", 7),
            Message.route("172.16.1.0/24", id: 23)
        )
        return rig
    }
    @Test func routeFindsVNIAndRouterMACThroughItsInterface() throws {
        let rig = try rig()
        #expect(
            rig.state.routeLines.contains(
                "default 172.16.1.0/24 bgp vtep 10.0.0.2 50000 \(Self.mac2)"
            )
        )
    }
    @Test func deleteInUseIsOnlyAHint() throws {
        let rig = try rig()
        rig.frame(Message.mac(Self.mac2, "10.0.0.2", interface: 8, isDelete: true))
        #expect(rig.state.routerMACLines == ["50000 10.0.0.2 \(Self.mac2)"])
        rig.frame(Message.route("172.16.1.0/24", isDelete: true))
        #expect(rig.state.routerMACLines.isEmpty)
    }
    @Test func deleteInUseThroughAGroupIsOnlyAHint() throws {
        let rig = try rig()
        rig.frame(
            Message.group(39, [(23, 1), (28, 1)]),
            Message.route("172.16.1.0/24", isDelete: true),
            Message.route("172.16.1.0/24", id: 39)
        )
        rig.frame(Message.mac(Self.mac2, "10.0.0.2", interface: 8, isDelete: true))
        #expect(rig.state.routerMACLines == ["50000 10.0.0.2 \(Self.mac2)"])
        rig.frame(Message.nextHop(28, "10.0.0.3", 7), Message.route("172.16.1.0/24", id: 28))
        #expect(rig.state.routerMACLines.isEmpty)
    }
    @Test func deleteOfAnotherMACIsOldNews() throws {
        let rig = try rig()
        rig.frame(Message.mac("02:00:00:50:ff:02", "10.0.0.2", interface: 8))
        rig.frame(Message.mac(Self.mac2, "::ffff:10.0.0.2", interface: 8, isDelete: true))
        rig.frame(Message.route("172.16.1.0/24", isDelete: true))
        #expect(rig.state.routerMACLines == ["50000 10.0.0.2 02:00:00:50:ff:02"])
    }
    @Test func newRouterMACUndoesADelete() throws {
        let rig = try rig()
        rig.frame(Message.mac(Self.mac2, "10.0.0.2", interface: 8, isDelete: true))
        rig.frame(Message.mac(Self.mac2, "10.0.0.2", interface: 8))
        rig.frame(Message.route("172.16.1.0/24", isDelete: true))
        #expect(rig.state.routerMACLines == ["50000 10.0.0.2 \(Self.mac2)"])
    }
    @Test func kernelKnowsBetterThanTheOldModule() throws {
        let rig = try makeRig()
        rig.apply(.fpmConnected(connection: 1))
        rig.frame(Message.mac(Self.mac2, "10.0.0.2", interface: 8, vni: 50000))
        rig.kernel(Message.mac("02:00:00:50:ff:02", "10.0.0.2", interface: 8))
        #expect(rig.state.routerMACLines == ["50000 10.0.0.2 02:00:00:50:ff:02"])
    }
}
