// Rules of local MACs: one test each for learning, ageing, moving, yielding.

import Tables
import Testing
import Wire

@testable import ControlPlane

@Suite struct LearningRules {
    @Test func learnedMACIsPlacedOnItsCircuitAndGivenToZebra() throws {
        let rig = try makeRig()
        #expect(rig.learn(macA).contains(added(macA)))
        #expect(rig.place(10100, macA) == "host")
    }
    @Test func moveBetweenCircuitsOfADomainIsOnlyATableChange() throws {
        let rig = try makeRig()
        rig.learn(macA)
        #expect(rig.learn(macA, circuit: 1).isEmpty)
        #expect(rig.place(10100, macA) == "host2.20")
    }
    @Test func gatewayMACIsNeverLearned() throws {
        let rig = try makeRig {
            $0.l2vnis[0].gatewayIPs = [IPPrefix("192.168.100.1/24")].compactMap { $0 }
        }
        let gateway = try #require(rig.state.configuration.l2vnis[0].effectiveGatewayMAC)
        #expect(gateway == MACAddress("00:f3:00:00:27:75"))
        #expect(rig.learn(gateway.description).isEmpty)
        rig.connectFPM()
        rig.frame(Message.mac(gateway.description, "10.0.0.2"))
        #expect(rig.place(10100, gateway.description) == "gateway")
    }
    @Test func eventOfAnUnknownCircuitOrDomainIsIgnored() throws {
        let rig = try makeRig()
        rig.apply(.learned(LearnEvent(mac: MACAddress(rawValue: 0x0200), domain: 7, circuit: 0)))
        rig.apply(.learned(LearnEvent(mac: MACAddress(rawValue: 0x0200), domain: 1, circuit: 99)))
        rig.apply(.learned(LearnEvent(mac: .broadcast, domain: 1, circuit: 0)))
        #expect(rig.tables.macCount == 0)
    }
    @Test func silentLocalMACAgesAndIsWithdrawn() throws {
        let rig = try makeRig()
        rig.learn(macA)
        rig.learn(macB)
        rig.wait(200, step: 10)
        let key = FDBKey.make(domain: 1, mac: MACAddress(macB)?.rawValue ?? 0)
        rig.apply(.seen([key]))
        let effects = rig.wait(150, step: 10)
        #expect(effects.contains(deleted(macA)) && !effects.contains(deleted(macB)))
        #expect(rig.place(10100, macA) == nil)
        #expect(rig.place(10100, macB) == "host")
    }
    @Test func workersMarksBecomeSeenEvents() throws {
        let rig = try makeRig()
        rig.learn(macA)
        let mac = try #require(MACAddress(macA))
        let slot = try #require(rig.tables.slot(domain: 1, mac))
        let ring = rig.tables.learning.workers[0]
        ring.mark(slot, ring.currentPeriod)
        guard case .seen(let keys) = rig.compiler.endAgeingPeriod() else { return }
        #expect(keys == [FDBKey.make(domain: 1, mac: mac.rawValue)])
    }
    @Test func localMACsAreGivenToAShadowThatAppearsLater() throws {
        let rig = try makeRig(shadow: false)
        #expect(rig.learn(macA).isEmpty)
        let vni = try #require(VNI(10100))
        #expect(
            rig.apply(.shadowAttached(vni: vni, bridge: 5, vxlan: 6, attachment: 9)).contains(
                added(macA)
            )
        )
    }
    @Test func refusedExportIsTriedAgain() throws {
        let rig = try makeRig()
        rig.learn(macA)
        rig.apply(.kernelRequestFailed(added(macA), errno: 19))
        #expect(rig.wait(2).filter { $0 == added(macA) }.count == 1)
    }
    @Test func fullTableRefusesALearnedMACAndKeepsTheRest() throws {
        let rig = try makeRig { $0.dataplane.limits.macs = 16 }
        for index in 0..<40 {
            rig.learn("02:00:00:00:01:\(index < 16 ? "0" : "")" + String(index, radix: 16))
        }
        #expect(rig.tables.macCount == 16)
        #expect(rig.state.counters.learnRejected == 24)
        #expect(
            rig.effects.filter { if case .log(.error, _) = $0 { true } else { false } }.count == 1
        )
        #expect(rig.place(10100, "02:00:00:00:01:00") == "host")
    }
}

@Suite struct MobilityRules {
    @Test func fpmMovesLocalToRemoteAndWeYield() throws {
        let rig = try makeRig()
        rig.connectFPM()
        rig.learn(macA)
        let before = rig.effects.count
        rig.frame(Message.mac(macA, "10.0.0.2"))
        #expect(rig.place(10100, macA) == "10.0.0.2")
        rig.wait(3)
        #expect(!rig.effects.dropFirst(before).contains(added(macA)))
    }
    @Test func rowThatTheKernelAddedAfterZebrasIsTakenBack() throws {
        let rig = try makeRig()
        rig.connectFPM()
        rig.learn(macA)
        rig.frame(Message.mac(macA, "10.0.0.2"))
        #expect(rig.effects.contains(deleted(macA)))
        // The addition took effect after zebra's row: zebra has it for local and forgot 10.0.0.2.
        #expect(rig.apply(.kernelNotified([Message.bridged(macA, 9)])).contains(deleted(macA)))
        #expect(rig.place(10100, macA) == nil)
        // zebra puts its row back when ours goes.
        rig.frame(Message.mac(macA, "10.0.0.2"))
        #expect(rig.place(10100, macA) == "10.0.0.2")
    }
    @Test func learningMovesRemoteToLocal() throws {
        let rig = try makeRig()
        rig.connectFPM()
        rig.frame(Message.mac(macA, "10.0.0.2"))
        #expect(rig.learn(macA).contains(added(macA)))
        #expect(rig.place(10100, macA) == "host")
        #expect(rig.members(10100).isEmpty)
    }
    @Test func stickyMACDoesNotMove() throws {
        let rig = try makeRig()
        rig.connectFPM()
        rig.frame(Message.mac(macA, "10.0.0.2", isSticky: true))
        #expect(rig.learn(macA).isEmpty)
        #expect(rig.place(10100, macA) == "10.0.0.2 sticky")
        rig.frame(Message.mac(macA, "10.0.0.2", isDelete: true))
        #expect(rig.place(10100, macA) == nil)
        #expect(rig.learn(macA).contains(added(macA)))
    }
    @Test func remoteMoveIsANewVTEPWithoutADelete() throws {
        let rig = try makeRig()
        rig.connectFPM()
        rig.frame(Message.mac(macA, "10.0.0.2"))
        rig.frame(Message.mac(macA, "10.0.0.3"))
        #expect(rig.place(10100, macA) == "10.0.0.3")
        #expect(rig.members(10100) == ["10.0.0.3"])
        // A late delete for the VTEP that it left is old news.
        rig.frame(Message.mac(macA, "10.0.0.2", isDelete: true))
        #expect(rig.place(10100, macA) == "10.0.0.3")
    }
    @Test func withFPMLiveAKernelRowNeverOverridesALocalMAC() throws {
        let rig = try makeRig()
        rig.connectFPM()
        rig.learn(macA)
        rig.kernel(Message.mac(macA, "10.0.0.2"))
        #expect(rig.place(10100, macA) == "host")
        // And it does not come back from below when the MAC ages out.
        rig.wait(400, step: 10)
        #expect(rig.place(10100, macA) == nil)
    }
    @Test func withoutFPMTheKernelMovesLocalToRemote() throws {
        let rig = try makeRig { $0.control.routes = .netlink }
        rig.learn(macA)
        rig.kernel(Message.mac(macA, "10.0.0.2"))
        #expect(rig.place(10100, macA) == "10.0.0.2")
    }
    @Test func withoutFPMTheBridgesRowTellsAMoveBackToTheSameVTEP() throws {
        let rig = try makeRig { $0.control.routes = .netlink }
        rig.kernel(Message.mac(macA, "10.0.0.2"), Message.bridged(macA, 6))
        rig.learn(macA)
        #expect(rig.place(10100, macA) == "host")
        rig.kernel(Message.bridged(macA, 9))
        // The vxlan driver's row was never deleted, so only the bridge speaks.
        rig.kernel(Message.bridged(macA, 6))
        #expect(rig.place(10100, macA) == "10.0.0.2")
    }
    @Test func oldModuleAloneDoesNotDecideOverMACs() throws {
        let rig = try makeRig()
        rig.apply(.fpmConnected(connection: 1))
        rig.frame(
            Message.route("10.0.0.2/32", proto: 11, hops: [Message.hop("10.1.0.1", 2)], metric: 0)
        )
        rig.learn(macA)
        rig.kernel(Message.mac(macA, "10.0.0.2"))
        #expect(rig.place(10100, macA) == "10.0.0.2")
    }
    @Test func fromADumpLocalWinsWhileTheBridgeShowsItOnOurPort() throws {
        let rig = try makeRig()
        rig.connectFPM()
        rig.learn(macA)
        rig.kernel(Message.bridged(macA, 9))
        rig.wait(3)
        rig.dump(Message.links + [Message.mac(macA, "10.0.0.2"), Message.bridged(macA, 9)])
        #expect(rig.place(10100, macA) == "host")
    }
    @Test func fromADumpATakenOverMACIsYielded() throws {
        let rig = try makeRig()
        rig.connectFPM()
        rig.learn(macA)
        rig.kernel(Message.bridged(macA, 9))
        rig.wait(3)
        let before = rig.effects.count
        rig.dump(Message.links + [Message.mac(macA, "10.0.0.2"), Message.bridged(macA, 6)])
        #expect(rig.place(10100, macA) == "10.0.0.2")
        #expect(!rig.effects.dropFirst(before).contains(added(macA)))
    }
    @Test func localMACIsGivenAgainAfterADumpThatLacksIt() throws {
        let rig = try makeRig()
        rig.learn(macA)
        rig.wait(3)
        let before = rig.effects.count
        rig.dump(Message.links)
        #expect(rig.effects.dropFirst(before).contains(added(macA)))
        #expect(rig.place(10100, macA) == "host")
    }
    @Test func staleKernelRowOfAMACThatWasLocalIsNotBelieved() throws {
        let rig = try makeRig()
        rig.connectFPM()
        rig.kernel(Message.mac(macA, "10.0.0.2"))
        rig.learn(macA)
        rig.wait(400, step: 10)
        rig.dump(Message.links + [Message.mac(macA, "10.0.0.2")])
        #expect(rig.place(10100, macA) == nil)
        // Until zebra says so again.
        rig.frame(Message.mac(macA, "10.0.0.2"))
        #expect(rig.place(10100, macA) == "10.0.0.2")
    }
}
