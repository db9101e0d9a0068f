// Routing in the benchmark: VRFs, host routes and prefixes, and how what leaves must look.

import CBench
import FastPath
import Tables
import Wire

extension Scene {
    static let routerMAC = MACAddress(2, 0, 0, 0, 0x64, 1)
    static let gatewayMAC = MACAddress(0, 0xF3, 0, 0, 0, 1)
    /// Prefixes of all VRFs together.
    static let prefixes = 10_000

    static func remoteRouterMAC(_ vtep: Int) -> MACAddress {
        MACAddress(2, 0, 0, 0x65, UInt8(vtep >> 8), UInt8(vtep & 255))
    }
    /// Flow `flow`'s destination.
    static func target(_ flow: Int) -> IPv4Address { IPv4Address(rawValue: 0x0A80_0000 + UInt32(flow)) }
    /// The VTEP behind which it is: those of a VRF take turns.
    private func vtep(_ flow: Int) -> Int { flow / shape.vnis % shape.vteps }

    /// Each VRF: a subnet of hosts that send, another of hosts that receive, and an L3VNI.
    func fillRouted() throws {
        try fillPorts()
        let tunnels = try (0..<shape.vteps).map { index in
            let tunnel = try tables.tunnel(to: remote(index))
            let path = TunnelPath(
                port: Scene.underlay, sourceMAC: Scene.underlayMAC, nextHopMAC: Scene.nextHop, mtu: 9000)
            tables.setPaths(tunnel: tunnel, [path], unusable: nil)
            return tunnel
        }
        var vrfs: [UInt16] = []
        var first: [(domain: UInt16, circuit: UInt32)] = [], second = first
        for number in 0..<shape.vnis {
            guard let vni = VNI(Scene.firstVNI + UInt32(number)),
                let one = VNI(Scene.firstVNI + 0x1000 + UInt32(number)),
                let two = VNI(Scene.firstVNI + 0x2000 + UInt32(number))
            else { continue }
            let vrf = try tables.addVRF(VRFEntry(vni: vni, routerMAC: Scene.routerMAC))
            vrfs.append(vrf)
            for tunnel in tunnels { tables.setMember(vrf: vrf, tunnel: tunnel, true) }
            func subnet(_ vni: VNI, vlan: Int) throws -> (UInt16, UInt32) {
                let domain = try tables.addDomain(
                    BridgeDomain(vni: vni, vxlanPort: 4789, gatewayMAC: Scene.gatewayMAC, vrf: vrf))
                return (domain, try tables.addCircuit(port: Scene.access, vlan: UInt16(vlan), domain: domain))
            }
            first.append(try subnet(one, vlan: shape.vnis == 1 ? 0 : 1 + number))
            second.append(try subnet(two, vlan: 2048 + number))
        }
        tables.publish()
        try addSources(first)
        if shape.direction.isToFabric {
            try addRemote(vrfs, tunnels)
        } else {
            try addLocal(vrfs, second)
        }
        try addPrefixes(vrfs, tunnels)
        tables.publish()
    }

    private func addSources(_ subnets: [(domain: UInt16, circuit: UInt32)]) throws {
        for source in 0..<min(Scene.sources, shape.macs) {
            let mac = MACAddress(rawValue: bench_source(UInt32(source)))
            for number in stride(from: source % min(shape.vnis, Scene.sources), to: shape.vnis, by: Scene.sources) {
                try tables.setMAC(domain: subnets[number].domain, mac, .circuit(subnets[number].circuit))
            }
        }
    }

    private func addRemote(_ vrfs: [UInt16], _ tunnels: [UInt32]) throws {
        var hops: [Int: UInt32] = [:]
        for flow in 0..<shape.macs where shape.direction == .out {
            let (number, vtep) = (flow % shape.vnis, vtep(flow))
            let key = number * shape.vteps + vtep
            if hops[key] == nil { hops[key] = try addHop(number, vtep, tunnels) }
            guard let hop = hops[key], let prefix = IPPrefix(.v4(Scene.target(flow)), length: 32) else { continue }
            try tables.setRoute(vrf: vrfs[number], prefix, .hop(hop))
        }
    }
    private func addHop(_ number: Int, _ vtep: Int, _ tunnels: [UInt32]) throws -> UInt32? {
        guard let vni = VNI(Scene.firstVNI + UInt32(number)) else { return nil }
        return try tables.addHop(RouteHop(
            way: .tunnel(tunnels[vtep], l3vni: vni, vxlanPort: 4789), mac: Scene.remoteRouterMAC(vtep),
            sourceMAC: Scene.routerMAC))
    }

    private func addLocal(_ vrfs: [UInt16], _ subnets: [(domain: UInt16, circuit: UInt32)]) throws {
        for flow in 0..<shape.macs {
            let number = flow % shape.vnis
            let mac = MACAddress(rawValue: bench_destination(UInt32(flow)))
            try tables.setMAC(domain: subnets[number].domain, mac, .circuit(subnets[number].circuit))
            let hop = try tables.addHop(RouteHop(
                way: .bridge(domain: subnets[number].domain), mac: mac, sourceMAC: Scene.gatewayMAC))
            guard let prefix = IPPrefix(.v4(Scene.target(flow)), length: 32) else { continue }
            try tables.setRoute(vrf: vrfs[number], prefix, .hop(hop))
        }
    }

    /// Prefixes around all destinations, as long as their number allows, and others up to that number.
    private func addPrefixes(_ vrfs: [UInt16], _ tunnels: [UInt32]) throws {
        let share = max(2, Scene.prefixes / shape.vnis)
        let length = share >= 512 ? 24 : 16
        for (number, vrf) in vrfs.enumerated() {
            let hops = try (0..<min(share, shape.vteps)).compactMap { try addHop(number, $0, tunnels) }
            for index in 0..<share {
                let isAround = index < (131_072 >> (32 - length))
                let base: UInt32 = isAround ? 0x0A80_0000 : 0x2000_0000
                let address = IPv4Address(rawValue: base + UInt32(index) << UInt32(32 - length))
                guard let prefix = IPPrefix(.v4(address), length: length), !hops.isEmpty else { continue }
                try tables.setRoute(vrf: vrf, prefix, .hop(hops[index % hops.count]))
            }
        }
    }
    private func prefixVTEP(_ flow: Int) -> Int {
        let share = max(2, Scene.prefixes / shape.vnis)
        let index = flow >> (share >= 512 ? 8 : 16)
        return index % min(share, shape.vteps)
    }

    /// What is wrong with a routed frame that left; nil when nothing is.
    func routedFault(of frame: [UInt8], length: Int, port: UInt16, flow: Int) -> String? {
        let number = flow % shape.vnis
        var start = 0
        var addresses: [UInt8]
        if shape.direction.isToFabric {
            start = shape.isIPv6 ? 70 : 50
            guard port == Scene.underlay, length == shape.frame + start else { return "length \(length)" }
            let vtep = shape.direction == .out ? vtep(flow) : prefixVTEP(flow)
            let vni = Int(Scene.firstVNI) + number
            if let fault = outerFault(of: frame, length: length, vtep: vtep, vni: vni) { return fault }
            addresses = Scene.remoteRouterMAC(vtep).bytes + Scene.routerMAC.bytes
        } else {
            guard port == Scene.access, length == shape.frame + 4 else { return "length \(length)" }
            guard frame[12..<16].elementsEqual([0x81, 0] + Scene.be16(2048 + number)) else { return "tag" }
            start = 4
            addresses = MACAddress(rawValue: bench_destination(UInt32(flow))).bytes + Scene.gatewayMAC.bytes
        }
        let at = shape.direction.isToFabric ? start : 0
        guard frame[at..<(at + 12)].elementsEqual(addresses) else { return "addresses" }
        let ip = start + 14
        guard frame[ip + 8] == 63, Self.sum(frame[ip..<(ip + 20)]) == 0xFFFF else { return "TTL or its checksum" }
        return frame[(ip + 16)..<(ip + 20)].elementsEqual(Scene.target(flow).bytes) ? nil : "inner packet"
    }
}
