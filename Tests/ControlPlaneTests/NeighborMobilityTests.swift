// Hosts that move between this node and others with their addresses; zebra's rows and our own.

import Tables
import Testing
import Wire

@testable import ControlPlane

@Suite("Mobility of IP neighbours")
struct NeighborMobilityTests {
    /// hostA behind 10.0.0.2, as zebra tells it.
    static func remoteRig() throws -> ControlRig {
        let rig = try makeGatewayRig()
        rig.connectFPM()
        rig.frame(Message.mac(macA, "10.0.0.2"))
        rig.kernel(Message.binding(hostA, macA, isZebra: true))
        rig.effects = []
        return rig
    }

    @Test("zebra's row on the SVI is a remote binding, which serves suppression")
    func remote() throws {
        let rig = try Self.remoteRig()
        #expect(rig.hop(hostA) == "\(macA) remote")
        let row = try #require(rig.row(hostA))
        #expect(row.type == "remote" && row.vtep == "10.0.0.2" && row.source == "kernel" && row.exported == nil)
        rig.kernel(Message.binding(hostA, macA, isZebra: true, isDelete: true))
        #expect(rig.hop(hostA) == nil && rig.row(hostA) == nil)
    }
    @Test("a remote binding counts while its MAC has a place, whichever comes first")
    func macFirst() throws {
        let rig = try makeGatewayRig()
        rig.connectFPM()
        rig.kernel(Message.binding(hostA, macA, isZebra: true))
        #expect(rig.hop(hostA) == nil && rig.row(hostA)?.state == "waiting")
        rig.frame(Message.mac(macA, "10.0.0.2"))
        #expect(rig.hop(hostA) == "\(macA) remote")
        rig.frame(Message.mac(macA, "10.0.0.2", isDelete: true))
        #expect(rig.hop(hostA) == nil)
    }
    @Test("zebra's rows for the gateway's address, or a group, are no bindings")
    func remoteGateway() throws {
        let rig = try makeGatewayRig()
        rig.frame(Message.mac(macA, "10.0.0.2"))
        for address in ["192.0.2.1", "224.0.0.9", "2001:db8::1", "ff02::2"] {
            rig.kernel(Message.binding(address, macA, isZebra: true))
            #expect(rig.hop(address) == nil)
        }
        #expect(rig.claims.gatewayClaims == 0)
    }
    @Test("rows of other VNIs' SVIs and of other interfaces are no bindings of this domain")
    func otherInterfaces() throws {
        let rig = try makeGatewayRig()
        rig.frame(Message.mac(macA, "10.0.0.2"))
        rig.kernel(Message.binding(hostA, macA, interface: 7, isZebra: true))
        rig.kernel(Message.binding(hostA, macA, interface: 77, isZebra: true))
        #expect(rig.hop(hostA) == nil && rig.state.ipNeighbors.count == 0)
    }
    @Test("an administrator's row on the SVI is taken while nothing better is there")
    func foreign() throws {
        let rig = try makeGatewayRig()
        rig.kernel(Message.binding(hostA, macB, state: .permanent))
        #expect(rig.hop(hostA) == macB && rig.row(hostA)?.source == "kernel")
        rig.see(.announcement, hostA, macA)
        #expect(rig.hop(hostA) == macA)
        rig.kernel(Message.binding(hostB, nil, state: .failed))
        #expect(rig.hop(hostB) == nil)
    }

    // MARK: Remote to local

    @Test("a GARP takes over at once, whatever zebra said, in one batch")
    func takeOver() throws {
        let rig = try Self.remoteRig()
        // The worker reports the MAC, then the announcement.
        let effects = rig.batch([
            .learned(LearnEvent(mac: MACAddress(macA) ?? .zero, domain: 1, circuit: 0)),
            .neighborSeen(NeighborEvent(
                kind: .announcement, domain: 1, circuit: 0, mac: MACAddress(macA) ?? .zero,
                address: IPAddress(hostA) ?? .v4(IPv4Address(rawValue: 0)))),
        ])
        #expect(effects == [added(macA), asked(hostA, macA), bound(hostA, macA)])
        #expect(rig.hop(hostA) == macA && rig.place(10100, macA) == "host" && rig.claims.takenOver == 1)
        rig.echo(effects)
        #expect(rig.row(hostA)?.type == "local" && rig.hop(hostA) == macA)
    }
    @Test("a neighbour event that comes before its learn event is enough")
    func learnLost() throws {
        let rig = try Self.remoteRig()
        let effects = rig.see(.announcement, hostA, macA)
        #expect(effects == [added(macA), asked(hostA, macA), bound(hostA, macA)])
        #expect(rig.place(10100, macA) == "host")
    }
    @Test("RARP, or a frame of a host that moved silently, has its addresses asked for at once")
    func silentMove() throws {
        let rig = try Self.remoteRig()
        rig.kernel(Message.binding(hostSix, macA, isZebra: true))
        #expect(rig.learn(macA) == [added(macA), asked(hostA, macA), asked(hostSix, macA)])
        // Until it answers, packets follow the MAC, and its ARP is not answered for it.
        #expect(rig.hop(hostA) == macA)
        // Asked once a second at most.
        #expect(rig.see(.macAnnouncement, "0.0.0.0", macA) == [])
        #expect(rig.see(.binding, hostA, macA) == [bound(hostA, macA)])
        rig.wait(1, step: 0.1)
        #expect(rig.see(.macAnnouncement, "0.0.0.0", macA) == [asked(hostA, macA), asked(hostSix, macA)])
    }
    @Test("a sticky MAC's addresses stay where zebra says")
    func sticky() throws {
        let rig = try makeGatewayRig()
        rig.frame(Message.mac(macA, "10.0.0.2", isSticky: true))
        rig.kernel(Message.binding(hostA, macA, isZebra: true))
        #expect(rig.see(.announcement, hostA, macA) == [])
        #expect(rig.hop(hostA) == "\(macA) remote")
    }

    // MARK: Local to remote

    @Test("zebra takes an address over: we let go at once, and do not touch its row")
    func yields() throws {
        let rig = try makeGatewayRig()
        rig.connectFPM()
        rig.echo(rig.see(.binding, hostA, macA))
        rig.effects = []
        rig.frame(Message.mac(macA, "10.0.0.2"))
        // Packets follow the MAC while zebra has not said it of the address.
        #expect(rig.hop(hostA) == "\(macA) remote")
        rig.kernel(Message.binding(hostA, macA, isZebra: true))
        #expect(rig.hop(hostA) == "\(macA) remote")
        rig.wait(5, step: 0.05)
        #expect(rig.requests == [deleted(macA)] && rig.hop(hostA) == "\(macA) remote")
    }
    @Test("an address that goes to another host elsewhere, while its old MAC stays here")
    func addressMoves() throws {
        let rig = try makeGatewayRig()
        rig.connectFPM()
        rig.echo(rig.see(.binding, hostA, macA))
        rig.wait(2)
        rig.effects = []
        rig.frame(Message.mac(macB, "10.0.0.2"))
        rig.kernel(Message.binding(hostA, macB, isZebra: true))
        #expect(rig.hop(hostA) == "\(macB) remote" && rig.claims.yielded == 1 && rig.requests == [])
    }
    @Test("only the MAC moved: our row is taken back after a moment, the address forgotten soon")
    func macAlone() throws {
        let rig = try makeGatewayRig()
        rig.connectFPM()
        rig.echo(rig.see(.binding, hostA, macA))
        rig.effects = []
        rig.frame(Message.mac(macA, "10.0.0.2"))
        #expect(rig.requests == [deleted(macA)])
        rig.wait(0.25, step: 0.05)
        #expect(rig.requests == [deleted(macA), unbound(hostA)])
        #expect(rig.hop(hostA) == "\(macA) remote")
        rig.wait(2, step: 0.1)
        #expect(rig.hop(hostA) == nil)
    }
    @Test("local, remote, local: each within its event, and what crosses on the way does no harm")
    func backAndForth() throws {
        let rig = try makeGatewayRig()
        rig.connectFPM()
        rig.echo(rig.see(.announcement, hostA, macA))
        for _ in 0..<3 {
            rig.wait(0.2, step: 0.01)
            rig.frame(Message.mac(macA, "10.0.0.2"))
            rig.kernel(Message.binding(hostA, macA, isZebra: true))
            #expect(rig.hop(hostA) == "\(macA) remote")
            rig.wait(0.1, step: 0.01)
            let effects = rig.see(.announcement, hostA, macA)
            #expect(effects.suffix(1) == [bound(hostA, macA)] && rig.hop(hostA) == macA)
            rig.echo(effects)
        }
        rig.effects = []
        rig.wait(5, step: 0.1)
        #expect(rig.requests == [] && rig.hop(hostA) == macA)
    }
    @Test("zebra's row that crossed our own is not the last word: the host is asked")
    func crossing() throws {
        let rig = try Self.remoteRig()
        rig.see(.announcement, hostA, macA)
        rig.effects = []
        rig.kernel(Message.binding(hostA, macA, isZebra: true))
        #expect(rig.requests == [asked(hostA, macA)])
        #expect(rig.see(.binding, hostA, macA) == [bound(hostA, macA)])
    }
    @Test("a row of ours that nobody wants any more is deleted, not zebra's that replaced it")
    func lateEcho() throws {
        let rig = try makeGatewayRig()
        rig.connectFPM()
        rig.frame(Message.mac(macA, "10.0.0.2"))
        rig.kernel(Message.binding(hostA, macA, isOwn: true), Message.binding(hostB, macA, isOwn: true))
        rig.wait(0.1, step: 0.05)
        rig.kernel(Message.binding(hostB, macA, isZebra: true))
        let effects = rig.wait(1, step: 0.05)
        #expect(effects == [unbound(hostA)])
        #expect(rig.hop(hostB) == "\(macA) remote")
    }

    // MARK: The kernel's and zebra's ups and downs

    @Test("bindings are given again when zebra restarts, and when the shadow appears")
    func again() throws {
        let rig = try makeGatewayRig(shadow: false)
        rig.connectFPM(1, port: 100)
        #expect(rig.see(.binding, hostA, macA) == [])
        #expect(rig.row(hostA)?.exported == false)
        let vni = try #require(VNI(10100))
        let attached = rig.apply(.shadowAttached(vni: vni, bridge: 5, vxlan: 6, attachment: 9))
        #expect(attached == [added(macA), bound(hostA, macA)])
        rig.apply(.fpmDisconnected(connection: 1))
        rig.effects = []
        rig.connectFPM(2, port: 200)
        #expect(rig.effects.filter { $0.isKernelRequest && $0 != .dumpKernel } == [added(macA), bound(hostA, macA)])
    }
    @Test("a row that somebody deleted is put back, at most once a second")
    func putBack() throws {
        let rig = try makeGatewayRig()
        rig.echo(rig.see(.binding, hostA, macA))
        rig.wait(2)
        rig.effects = []
        let gone = Message.binding(hostA, macA, isDelete: true)
        rig.kernel(gone)
        #expect(rig.requests == [bound(hostA, macA)])
        rig.kernel(gone, gone, gone)
        #expect(rig.requests == [bound(hostA, macA)])
        rig.wait(1.5, step: 0.1)
        #expect(rig.requests == [bound(hostA, macA), bound(hostA, macA)])
    }
    @Test("a request that failed is made again a second later")
    func retry() throws {
        let rig = try makeGatewayRig()
        rig.see(.binding, hostA, macA)
        rig.effects = []
        rig.apply(.kernelRequestFailed(bound(hostA, macA), errno: 100))
        #expect(rig.row(hostA)?.exported == false)
        rig.wait(1.5, step: 0.1)
        #expect(rig.requests == [bound(hostA, macA)] && rig.row(hostA)?.exported == true)
    }
    @Test("a dump that no longer shows zebra's row, or ours, is believed unless it is older")
    func dumps() throws {
        let rig = try Self.remoteRig()
        rig.dump(Message.links + [Message.mac(macA, "10.0.0.2"), Message.binding(hostA, macA, isZebra: true)])
        #expect(rig.hop(hostA) == "\(macA) remote")
        rig.dump(Message.links + [Message.mac(macA, "10.0.0.2")])
        #expect(rig.hop(hostA) == nil)
        // Ours: given before the dump began, and not there.
        rig.echo(rig.see(.binding, hostB, macB))
        rig.wait(2)
        rig.effects = []
        rig.dump(Message.links + [Message.bridged(macB, 9)])
        #expect(rig.requests == [bound(hostB, macB)])
        // Given while it runs: zebra's row in it is older.
        rig.apply(.kernelDumpBegan)
        rig.see(.binding, hostA, macB)
        rig.apply(.kernelDumped([Message.binding(hostA, macA, isZebra: true)]), .kernelDumpEnded)
        #expect(rig.hop(hostA) == macB)
        // Confirmed before it began: zebra's row in it is newer.
        rig.echo([bound(hostA, macB)])
        rig.wait(2)
        rig.dump(Message.links + [Message.mac(macA, "10.0.0.2"), Message.binding(hostA, macA, isZebra: true)])
        #expect(rig.hop(hostA) == "\(macA) remote")
    }
    @Test("rows that come before their SVI is known are placed when it is")
    func linksLater() throws {
        let rig = try makeGatewayRig(shadow: false) { _ in }
        let fresh = try makeRig({ $0.l2vnis[0].gatewayIPs = [IPPrefix("192.0.2.1/24")].compactMap { $0 } }, shadow: false, links: false)
        fresh.kernel(Message.binding(hostA, macA, isZebra: true))
        fresh.frame(Message.mac(macA, "10.0.0.2"))
        #expect(fresh.hop(hostA) == nil)
        fresh.apply(.kernelNotified(Message.links))
        #expect(fresh.hop(hostA) == "\(macA) remote")
        // The bridge is another VNI's now.
        fresh.kernel(Message.vxlan(6, 999, master: 5))
        #expect(fresh.hop(hostA) == nil)
        _ = rig
    }
    @Test("a MAC that ages out takes its bindings with it, without a gateway's probes to keep them")
    func ageing() throws {
        let rig = try makeGatewayRig {
            $0.dataplane.macAgeingSeconds = 20
            $0.dataplane.neighborTimeoutSeconds = 0
        }
        rig.see(.binding, hostA, macA)
        rig.effects = []
        rig.wait(30, step: 0.5)
        #expect(rig.requests == [unbound(hostA), deleted(macA)] && rig.hop(hostA) == nil)
    }
    @Test("configured bindings are there from the start; remote when their MAC is")
    func fixed() throws {
        let rig = try makeGatewayRig { configuration in
            guard let vni = VNI(10100), let vtep = IPAddress("10.0.0.9"), let a = MACAddress(macA), let b = MACAddress(macB),
                let first = IPAddress(hostA), let second = IPAddress(hostSix)
            else { return }
            configuration.static.macs = [.init(vni: vni, mac: a, vtep: vtep)]
            configuration.static.neighbors = [.init(vni: vni, ip: first, mac: a), .init(vni: vni, ip: second, mac: b)]
        }
        #expect(rig.hop(hostA) == "\(macA) remote" && rig.hop(hostSix) == macB)
        // Nobody takes it away.
        rig.see(.announcement, hostSix, macA)
        rig.kernel(Message.binding(hostSix, macA, isZebra: true))
        rig.wait(500, step: 1)
        #expect(rig.hop(hostSix) == macB && rig.row(hostSix)?.type == "static")
        #expect(rig.state.tableCounts.neighbors == 2)
    }
}
