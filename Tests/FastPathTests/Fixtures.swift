// Names and addresses that all journeys share.

import FastPath
import Tables
import TestSupport
import Testing
import Wire

let hostMAC = MACAddress(2, 0xAA, 0, 0, 0, 1)
let otherMAC = MACAddress(2, 0xAA, 0, 0, 0, 2)
let remoteMAC = MACAddress(2, 0xBB, 0, 0, 0, 1)

/// The two families that the underlay may have.
enum Family: String, CaseIterable, Sendable {
    case v4, v6
    var local: IPAddress { self == .v4 ? World.local4 : World.local6 }
    func remote(_ number: UInt32 = 2) -> IPAddress {
        self == .v4
            ? .v4(IPv4Address(rawValue: 0x6441_0000 + number))
            : .v6(IPv6Address(high: 0xFD00_0065 << 32, low: UInt64(number)))
    }
    var headerByteCount: Int { self == .v4 ? 50 : 70 }
    func vxlan(vni: UInt32 = 110, from number: UInt32 = 2) -> Frame.VXLAN {
        Frame.VXLAN(from: remote(number), to: local, vni: vni)
    }
}

/// A world with one circuit (port 2), one VTEP, and a MAC behind each.
struct Pair {
    let world: World
    let circuit: UInt32
    let tunnel: UInt32
    let family: Family
    init(_ family: Family = .v4, _ options: World.Options = World.Options()) throws {
        world = try World(options)
        self.family = family
        circuit = try world.addCircuit(port: 2)
        tunnel = try world.addVTEP(family.remote())
        try world.addMAC(hostMAC, .circuit(circuit))
        try world.addMAC(remoteMAC, .tunnel(tunnel))
        try world.setFlood(circuits: [circuit], tunnels: [tunnel])
    }
}

/// Every test ends with this: each packet ended once, and every buffer is back.
func expectBalanced(_ world: World, sourceLocation: SourceLocation = #_sourceLocation) {
    #expect(world.imbalance == nil, sourceLocation: sourceLocation)
}
func expectFrame(
    _ got: Sent?, port: UInt16, _ bytes: [UInt8], sourceLocation: SourceLocation = #_sourceLocation
) {
    guard let got else {
        Issue.record("nothing was sent", sourceLocation: sourceLocation)
        return
    }
    #expect(got.port == port, sourceLocation: sourceLocation)
    if let difference = FrameMatcher.difference(got.bytes, bytes) {
        Issue.record("\(difference)", sourceLocation: sourceLocation)
    }
}
