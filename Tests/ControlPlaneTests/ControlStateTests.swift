// One test per rule of the control state, with events written by hand.

import Tables
import Testing
import Wire

@testable import ControlPlane

/// Messages as zebra and the kernel send them, in the recordings' default mode: vx100 is 6 on bridge 5
/// (VNI 10100), vx500 is 8 on bridge 7 (VNI 50000), u0 is 2.
enum Message {
    static func vxlan(_ interface: UInt32, _ vni: UInt32?, master: UInt32, isUp: Bool = true) -> NetlinkMessage {
        .link(
            LinkMessage(
                isDelete: false, interface: interface, name: "vx\(interface)", mac: MACAddress(rawValue: 1),
                isUp: isUp, master: master,
                kind: .vxlan(vni: vni, local: IPAddress("10.0.0.1"), port: 4789, collectMetadata: vni == nil)))
    }
    static func bridge(_ interface: UInt32) -> NetlinkMessage {
        .link(
            LinkMessage(
                isDelete: false, interface: interface, name: "br\(interface)", kind: .bridge(vlanFiltering: false)))
    }
    static func link(_ interface: UInt32, _ name: String, mac: String = "02:00:00:00:aa:01") -> NetlinkMessage {
        .link(LinkMessage(isDelete: false, interface: interface, name: name, mac: MACAddress(mac)))
    }
    static let links: [NetlinkMessage] = [
        link(2, "u0"), link(3, "u1", mac: "02:00:00:00:aa:02"), bridge(5), vxlan(6, 10100, master: 5), bridge(7),
        vxlan(8, 50000, master: 7), link(9, "att100"),
    ]
    static func mac(
        _ mac: String, _ vtep: String?, interface: UInt32 = 6, isDelete: Bool = false, isSticky: Bool = false,
        group: UInt32? = nil, vlan: UInt16? = nil, vni: UInt32? = nil
    ) -> NetlinkMessage {
        .neighbor(
            NeighborMessage(
                isDelete: isDelete, family: .bridge, interface: interface,
                state: isSticky ? [.reachable, .noARP] : .reachable,
                flags: isSticky ? [.`self`, .master, .sticky] : [.`self`, .master, .externallyLearned],
                destination: vtep.flatMap { IPAddress($0) }, mac: MACAddress(mac), vlan: vlan, vni: vni,
                nextHopID: group))
    }
    static func flood(_ vtep: String, interface: UInt32 = 6, isDelete: Bool = false) -> NetlinkMessage {
        .neighbor(
            NeighborMessage(
                isDelete: isDelete, family: .bridge, interface: interface, state: [.noARP, .permanent],
                flags: .`self`, destination: IPAddress(vtep), mac: .zero))
    }
    /// The bridge's row: on the attachment port our own, on the vxlan port zebra's.
    static func bridged(_ mac: String, _ interface: UInt32, isDelete: Bool = false) -> NetlinkMessage {
        .neighbor(
            NeighborMessage(
                isDelete: isDelete, family: .bridge, interface: interface, state: .noARP, mac: MACAddress(mac),
                master: 5))
    }
    static func neighbor(
        _ address: String, _ mac: String?, interface: UInt32, state: NeighborMessage.State = .reachable,
        isDelete: Bool = false
    ) -> NetlinkMessage {
        .neighbor(
            NeighborMessage(
                isDelete: isDelete, family: .ipv4, interface: interface, state: state,
                destination: IPAddress(address), mac: mac.flatMap { MACAddress($0) }))
    }
    static func route(
        _ prefix: String, table: UInt32 = 254, proto: UInt8 = 186, id: UInt32? = nil,
        hops: [RouteNextHop] = [], metric: UInt32 = 20, isDelete: Bool = false, port: UInt32 = 100,
        kind: RouteMessage.Kind = .unicast
    ) -> NetlinkMessage {
        guard let prefix = IPPrefix(prefix) else { return .done }
        return .route(
            RouteMessage(
                isDelete: isDelete, prefix: prefix, table: table,
                routeProtocol: proto, kind: kind, metric: metric, nextHopID: id, nextHops: hops, portID: port))
    }
    static func hop(_ gateway: String?, _ interface: UInt32, weight: UInt32 = 1, isOnlink: Bool = false) -> RouteNextHop {
        RouteNextHop(
            gateway: gateway.flatMap { IPAddress($0) }, interface: interface, weight: weight, isOnlink: isOnlink)
    }
    static func nextHop(_ id: UInt32, _ gateway: String?, _ interface: UInt32, isDelete: Bool = false) -> NetlinkMessage {
        .nextHop(
            NextHopMessage(
                isDelete: isDelete, id: id, gateway: gateway.flatMap { IPAddress($0) }, interface: interface))
    }
    static func group(_ id: UInt32, _ members: [(UInt32, UInt32)], isFDB: Bool = false) -> NetlinkMessage {
        .nextHop(
            NextHopMessage(
                isDelete: false, id: id, members: members.map { .init(id: $0.0, weight: $0.1) }, isFDB: isFDB))
    }
}

/// pe1 with two hosts, two underlay ports, the mode's links and the shadow of VNI 10100.
func makeRig(
    _ change: (inout Configuration) -> Void = { _ in }, shadow: Bool = true, links: Bool = true
) throws -> ControlRig {
    var configuration = FPMRecording.configuration(vrf: "default")
    var second = Configuration.Port(name: "u1", driver: .afPacket, device: "eth-u1")
    second.exception = Configuration.Exception()
    configuration.ports.append(second)
    configuration.ports.append(Configuration.Port(name: "host2", driver: .afPacket, device: "veth-h2"))
    configuration.underlays[0].interfaces = ["u0", "u1"]
    configuration.l2vnis[0].circuits.append(.init(port: "host2", vlan: 20))
    change(&configuration)
    let rig = try ControlRig(configuration)
    if links { rig.dump(Message.links) }
    if shadow {
        guard let vni = VNI(10100) else { return rig }
        rig.apply(.shadowAttached(vni: vni, bridge: 5, vxlan: 6, attachment: 9))
    }
    return rig
}

extension ControlRig {
    func frame(_ messages: NetlinkMessage..., connection: Int = 1) { apply(.fpmFrame(connection: connection, messages)) }
    func kernel(_ messages: NetlinkMessage...) { apply(.kernelNotified(messages)) }
    @discardableResult
    func learn(_ mac: String, circuit: UInt32 = 0) -> [ControlEffect] {
        apply(.learned(LearnEvent(mac: MACAddress(mac) ?? .zero, domain: 1, circuit: circuit)))
    }
    /// Connects, and makes the connection one that decides over L2 MACs.
    func connectFPM(_ connection: Int = 1, port: UInt32 = 100) {
        apply(.fpmConnected(connection: connection))
        frame(Message.route("192.0.2.0/24", proto: 196, hops: [Message.hop(nil, 2)], port: port), connection: connection)
    }
}

let macA = "02:aa:00:00:00:01"
let macB = "02:aa:00:00:00:02"
func added(_ mac: String) -> ControlEffect { .addLocalMAC(interface: 9, mac: MACAddress(mac) ?? .zero) }
func deleted(_ mac: String) -> ControlEffect { .deleteLocalMAC(interface: 9, mac: MACAddress(mac) ?? .zero) }

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
        let rig = try makeRig { $0.l2vnis[0].gatewayIPs = [IPPrefix("192.168.100.1/24")].compactMap { $0 } }
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
        #expect(rig.apply(.shadowAttached(vni: vni, bridge: 5, vxlan: 6, attachment: 9)).contains(added(macA)))
    }
    @Test func refusedExportIsTriedAgain() throws {
        let rig = try makeRig()
        rig.learn(macA)
        rig.apply(.kernelRequestFailed(added(macA), errno: 19))
        #expect(rig.wait(2).filter { $0 == added(macA) }.count == 1)
    }
    @Test func fullTableRefusesALearnedMACAndKeepsTheRest() throws {
        let rig = try makeRig { $0.dataplane.limits.macs = 16 }
        for index in 0..<40 { rig.learn("02:00:00:00:01:\(index < 16 ? "0" : "")" + String(index, radix: 16)) }
        #expect(rig.tables.macCount == 16)
        #expect(rig.state.counters.learnRejected == 24)
        #expect(rig.effects.filter { if case .log(.error, _) = $0 { true } else { false } }.count == 1)
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
        rig.frame(Message.route("10.0.0.2/32", proto: 11, hops: [Message.hop("10.1.0.1", 2)], metric: 0))
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

@Suite struct KernelRules {
    @Test func dumpedRowWithoutItsBridgeRowIsNotBelieved() throws {
        let rig = try makeRig()
        rig.dump(
            Message.links + [
                Message.mac(macA, "10.0.0.2"), Message.bridged(macA, 6), Message.mac(macB, "10.0.0.2"),
            ])
        #expect(rig.place(10100, macA) == "10.0.0.2")
        #expect(rig.place(10100, macB) == nil)
        // Where no bridge rows are shown at all, nothing follows from their absence.
        rig.dump(Message.links + [Message.mac(macA, "10.0.0.2"), Message.mac("02:aa:00:00:00:03", "10.0.0.2")])
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
        rig.kernel(Message.mac(macA, "10.0.0.2"), Message.mac(macB, "10.0.0.2"), Message.flood("10.0.0.2"))
        rig.dump(Message.links + [Message.mac(macB, "10.0.0.2")])
        #expect(rig.place(10100, macA) == nil)
        #expect(rig.place(10100, macB) == "10.0.0.2")
        #expect(rig.flood(10100) == ["host", "host2"])
    }
    @Test func notificationDuringADumpWinsOverItsRows() throws {
        let rig = try makeRig()
        rig.kernel(Message.mac(macA, "10.0.0.2"))
        rig.apply(
            .kernelDumpBegan, .kernelNotified([Message.mac(macA, "10.0.0.2", isDelete: true)]),
            .kernelNotified([Message.mac(macB, "10.0.0.3")]),
            .kernelDumped(Message.links + [Message.mac(macA, "10.0.0.2")]), .kernelDumpEnded)
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
            Message.mac(macA, "10.0.0.2"), Message.mac("02:00:00:50:00:02", "10.0.0.2", interface: 8))
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
        rig.apply(.kernelNotified([.link(LinkMessage(isDelete: true, isBridgeFamily: true, interface: 6))]))
        #expect(rig.place(10100, macA) == "10.0.0.2")
        #expect(rig.state.links.vni(ofSVI: 5) == nil)
    }
    @Test func rowsWaitForTheirLink() throws {
        let rig = try makeRig(links: false)
        rig.connectFPM()
        rig.frame(Message.mac(macA, "10.0.0.2"), Message.mac(macA, "10.0.0.3"), Message.mac(macB, "10.0.0.2"))
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
        rig.frame(Message.mac(macA, nil, isDelete: true), Message.mac(macB, "0.0.0.0", isDelete: true))
        #expect(rig.place(10100, macA) == nil)
        #expect(rig.state.macLines(at: rig.now).isEmpty)
    }
    @Test func rowsOfASingleDeviceGoByTheirVNIOrVLAN() throws {
        let rig = try makeRig(shadow: false, links: false)
        let port = LinkMessage(
            isDelete: false, isBridgeFamily: true, interface: 20, name: "vx0", master: 21,
            bridgeTunnels: [.init(vlan: 100, vni: 10100), .init(vlan: 500, vni: 50000)])
        rig.apply(.kernelNotified([Message.vxlan(20, nil, master: 21), .link(port)]))
        rig.connectFPM()
        rig.frame(
            Message.mac(macA, "10.0.0.2", interface: 20, vlan: 100, vni: 10100),
            Message.mac(macB, "10.0.0.2", interface: 20, vlan: 100),
            Message.mac("02:00:00:50:00:02", "10.0.0.2", interface: 20, vlan: 500))
        #expect(rig.place(10100, macA) == "10.0.0.2")
        #expect(rig.place(10100, macB) == "10.0.0.2")
        #expect(rig.state.routerMACLines == ["50000 10.0.0.2 02:00:00:50:00:02"])
    }
}
