// The streams of a fabric: what the kernel shows, and what zebra sends in each generation.

import Wire

/// Writes the configuration, the kernel's dump and zebra's streams of a ``Fabric``.
struct Streams {
    let fabric: Fabric
    // Message types (include/uapi/linux/rtnetlink.h).
    static let newLink: UInt16 = 16, newRoute: UInt16 = 24, delRoute: UInt16 = 25, newNeighbor: UInt16 = 28
    static let delNeighbor: UInt16 = 29, newNextHop: UInt16 = 104

    init(_ fabric: Fabric) { self.fabric = fabric }

    // MARK: Configuration

    /// A configuration of this fabric, as a user would write it.
    var configuration: String {
        var text = """
            dataplane:
              lcores: {main: 0, workers: [1]}
              limits: {macs: \(max(1024, fabric.macs + fabric.domains)), \
            routes: \(fabric.routes + fabric.prefixes + 4 * fabric.domains + 1024), \
            l2vnis: \(max(1, fabric.domains)), vrfs: \(fabric.vrfs + 8), vteps: \(max(64, fabric.vteps + 8)), \
            neighbors: 1024}
            ports:
            """
        for index in 0..<Fabric.gatewayCount {
            text += "\n  - {name: u\(index), driver: \"null\", device: \"null\(index)\", mtu: 1600, "
            text += "mac: \"02:00:00:00:aa:0\(index + 1)\", "
            text += "exception: {addresses: [10.254.\(index).1/24]}}"
        }
        text += "\nunderlays:\n  - {interfaces: [u0, u1], tunnelEndpoint: {addresses: [100.65.0.1]}}\nl3vnis:\n"
        for vrf in 0..<fabric.vrfs {
            text += "  - {vrf: t\(vrf), vni: \(fabric.l3vni(vrf)), routerMAC: \"02:50:ff:ff:00:01\"}\n"
        }
        text += "l2vnis:\n"
        for domain in 0..<fabric.domains {
            let vrf = domain % fabric.vrfs
            text += "  - {name: d\(domain), vni: \(fabric.l2vni(domain)), "
            text += "routingDomain: {type: L3VNI, l3vni: {name: t\(vrf)}}, "
            text += "gatewayIPs: [10.\(128 + domain / fabric.vrfs % 100).0.1/24]}\n"
        }
        return text + "control: {shadow: false, fpm: {listen: \"127.0.0.1:2620\"}}\n"
    }

    // MARK: The kernel

    /// A dump of the devices that FRR runs on.
    func links() -> StreamWriter {
        var out = StreamWriter()
        link(&out, 1, "lo", ethernet(0), master: nil) { _ in }
        for index in 0..<Fabric.gatewayCount {
            let mac = ethernet(0x0200_0000_AA01 + UInt64(index))
            link(&out, fabric.uplink(index), "u\(index)", mac, master: nil) { _ in }
        }
        for vrf in 0..<fabric.vrfs {
            let table = fabric.table(vrf)
            link(&out, fabric.vrfDevice(vrf), "t\(vrf)", ethernet(0x02FF_0000_0000 + UInt64(vrf)), master: nil) {
                Self.info(&$0, "vrf") { $0.attribute(1, u32: table) }
            }
            pair(
                &out, fabric.l3bridge(vrf), fabric.l3vxlan(vrf), fabric.l3vni(vrf), "l3",
                master: fabric.vrfDevice(vrf))
        }
        for domain in 0..<fabric.domains {
            pair(
                &out, fabric.l2bridge(domain), fabric.l2vxlan(domain), fabric.l2vni(domain), "l2",
                master: fabric.vrfDevice(domain % fabric.vrfs))
        }
        for index in 0..<Fabric.gatewayCount {
            out.message(Self.newNeighbor, flags: 0, port: 0) {
                $0.neighborHeader(family: 2, interface: fabric.uplink(index), state: 0x02, flags: 0)
                $0.attribute(1, fabric.spine(index))
                $0.attribute(2, ethernet(0x0200_0000_BB01 + UInt64(index)))
            }
        }
        return out
    }
    private func pair(
        _ out: inout StreamWriter, _ bridge: UInt32, _ vxlan: UInt32, _ vni: UInt32, _ name: String, master: UInt32
    ) {
        link(&out, bridge, "\(name)br\(vni)", ethernet(0x0250_FFFF_0001), master: master) {
            Self.info(&$0, "bridge") { _ in }
        }
        link(&out, vxlan, "\(name)vx\(vni)", ethernet(0x0250_FFFE_0001), master: bridge) {
            Self.info(&$0, "vxlan") {
                $0.attribute(1, u32: vni)
                $0.attribute(4, .v4(IPv4Address(rawValue: 0x6441_0001)))
            }
        }
    }
    private static func info(_ out: inout StreamWriter, _ kind: String, _ data: (inout StreamWriter) -> Void) {
        out.attribute(18) {
            $0.attribute(1, text: kind)
            $0.attribute(2) { data(&$0) }
        }
    }
    private func link(
        _ out: inout StreamWriter, _ interface: UInt32, _ name: String, _ mac: MACAddress, master: UInt32?,
        _ body: (inout StreamWriter) -> Void
    ) {
        out.message(Self.newLink, flags: 2, port: 0) {
            $0.put32(0)
            $0.put32(interface)
            $0.put32(0x1_1043)
            $0.put32(0)
            $0.attribute(3, text: name)
            $0.attribute(1, mac)
            $0.attribute(4, u32: 1600)
            if let master { $0.attribute(10, u32: master) }
            body(&$0)
        }
    }

    // MARK: zebra

    /// Next-hop objects, underlay routes and router MACs.
    func base() -> StreamWriter {
        var out = StreamWriter()
        if fabric.style == .frr10 {
            for index in 0..<Fabric.gatewayCount {
                nextHop(&out, underlay(index), fabric.spine(index), fabric.uplink(index), onlink: false)
            }
        }
        reachability(&out, generation: 0)
        for vrf in 0..<fabric.vrfs {
            for choice in 0..<fabric.spread {
                let vtep = fabric.vtep(ofVRF: vrf, choice: choice)
                neighbor(
                    &out, fabric.l3vxlan(vrf), fabric.l3bridge(vrf), fabric.l3vni(vrf),
                    fabric.routerMAC(vrf, vtep), vtep)
                guard fabric.style == .frr10 else { continue }
                nextHop(&out, object(vrf, vtep, false), fabric.vtep(vtep), fabric.l3bridge(vrf), onlink: true)
                nextHop(&out, object(vrf, vtep, true), fabric.mapped(vtep), fabric.l3bridge(vrf), onlink: true)
            }
            guard fabric.style == .frr10, fabric.groupEvery > 0 else { continue }
            for choice in 0..<fabric.spread {
                let vtep = fabric.vtep(ofVRF: vrf, choice: choice)
                for isIPv6 in [false, true] { group(&out, vrf, vtep, isIPv6) }
            }
        }
        return out
    }
    /// Every route, prefix and MAC once: generation 0.
    func install() -> StreamWriter {
        var out = StreamWriter()
        out.reserve((fabric.routes + fabric.macs) * 76)
        let total = max(fabric.routes, fabric.macs)
        var mac = 0
        for route in 0..<total {
            if route < fabric.routes, let vtep = fabric.vtep(ofRoute: route, touch: 1) {
                addRoute(&out, route, vtep, isUpdate: false)
            }
            // MACs come among routes, evenly.
            while mac < fabric.macs, mac * total <= route * fabric.macs {
                touchMAC(&out, mac, 1)
                mac += 1
            }
        }
        while mac < fabric.macs {
            touchMAC(&out, mac, 1)
            mac += 1
        }
        for index in 0..<fabric.prefixes {
            let (vrf, prefix) = fabric.prefix(index)
            let vtep = fabric.vtep(ofVRF: vrf, choice: index)
            out.frame { route(&$0, vrf, prefix, vtep, second: nil) }
        }
        return out
    }
    /// One more prefix, as the route that somebody waits for.
    func extraPrefix(_ index: Int) -> StreamWriter {
        var out = StreamWriter()
        let (vrf, prefix) = fabric.prefix(index)
        out.frame { route(&$0, vrf, prefix, fabric.vtep(ofVRF: vrf, choice: index), second: nil) }
        return out
    }
    /// One generation: moves, changes, withdrawals and returns of the keys that it touches, and another
    /// way to every VTEP.
    func generation(_ number: Int) -> StreamWriter {
        var out = StreamWriter()
        let first = (number - 1) % fabric.stride
        for route in stride(from: first, to: fabric.routes, by: fabric.stride) {
            let touch = fabric.touches(route, through: number)
            let before = fabric.vtep(ofRoute: route, touch: touch - 1)
            if let vtep = fabric.vtep(ofRoute: route, touch: touch) {
                addRoute(&out, route, vtep, isUpdate: before != nil)
            } else if before != nil {
                out.frame { delete(&$0, fabric.vrf(ofRoute: route), IPPrefix(host: fabric.host(route))) }
            }
        }
        for mac in stride(from: first, to: fabric.macs, by: fabric.stride) {
            touchMAC(&out, mac, fabric.touches(mac, through: number))
        }
        reachability(&out, generation: number)
        return out
    }
    /// Takes everything back that is there after a generation.
    func withdrawal(after generation: Int) -> StreamWriter {
        var out = StreamWriter()
        out.reserve((fabric.routes + fabric.macs) * 64)
        for route in 0..<fabric.routes
        where fabric.vtep(ofRoute: route, touch: fabric.touches(route, through: generation)) != nil {
            out.frame { delete(&$0, fabric.vrf(ofRoute: route), IPPrefix(host: fabric.host(route))) }
        }
        for index in 0..<fabric.prefixes {
            let (vrf, prefix) = fabric.prefix(index)
            out.frame { delete(&$0, vrf, prefix) }
        }
        for mac in 0..<fabric.macs {
            let touch = fabric.touches(mac, through: generation)
            if let vtep = fabric.vtep(ofMAC: mac, touch: touch) { macRow(&out, mac, vtep, isDelete: true) }
        }
        return out
    }

    // MARK: Routes

    /// The /32 of every VTEP in the main table, through one of the two spines.
    private func reachability(_ out: inout StreamWriter, generation: Int) {
        for vtep in 0..<fabric.vteps {
            let uplink = fabric.uplink(ofVTEP: vtep, generation: generation)
            let prefix = IPPrefix(host: fabric.vtep(vtep))
            out.frame {
                if fabric.style == .frr8 && generation > 0 { delete(&$0, nil, prefix) }
                $0.message(Self.newRoute, flags: StreamWriter.replace, port: StreamWriter.port) {
                    $0.routeHeader(prefix, table: 254, type: 1, flags: 0)
                    if fabric.style == .frr10 {
                        $0.attribute(30, u32: underlay(uplink))
                    } else {
                        $0.attribute(5, fabric.spine(uplink))
                        $0.attribute(4, u32: fabric.uplink(uplink))
                    }
                }
            }
        }
    }
    private func addRoute(_ out: inout StreamWriter, _ route: Int, _ vtep: Int, isUpdate: Bool) {
        let vrf = fabric.vrf(ofRoute: route)
        let prefix = IPPrefix(host: fabric.host(route))
        out.frame {
            if fabric.style == .frr8 && isUpdate { delete(&$0, vrf, prefix) }
            self.route(&$0, vrf, prefix, vtep, second: fabric.isGroup(route) ? fabric.second(of: vtep, vrf: vrf) : nil)
        }
    }
    private func route(_ out: inout StreamWriter, _ vrf: Int, _ prefix: IPPrefix, _ vtep: Int, second: Int?) {
        let isV4 = prefix.address.isV4
        out.message(Self.newRoute, flags: StreamWriter.replace, port: StreamWriter.port) {
            let flags: UInt32 = fabric.style == .frr8 && second == nil ? 4 : 0
            $0.routeHeader(prefix, table: fabric.table(vrf), type: 1, flags: flags)
            if fabric.style == .frr10 {
                $0.attribute(30, u32: second == nil ? object(vrf, vtep, !isV4) : groupID(vrf, vtep, !isV4))
                return
            }
            let svi = fabric.l3bridge(vrf)
            guard let second else {
                $0.attribute(5, isV4 ? fabric.vtep(vtep) : fabric.mapped(vtep))
                $0.attribute(4, u32: svi)
                return
            }
            $0.attribute(9 | 0x8000) {
                for member in [vtep, second] {
                    $0.put16(isV4 ? 16 : 28)
                    $0.put16(4)
                    $0.put32(svi)
                    $0.attribute(5, isV4 ? fabric.vtep(member) : fabric.mapped(member))
                }
            }
            for _ in 0..<2 {
                $0.attribute(21) { $0.put16(100) }
                $0.attribute(22 | 0x8000) { $0.attribute(0, u32: fabric.l3vni(vrf)) }
            }
        }
    }
    /// - Parameter vrf: nil for the main table.
    private func delete(_ out: inout StreamWriter, _ vrf: Int?, _ prefix: IPPrefix) {
        out.message(Self.delRoute, flags: StreamWriter.create, port: StreamWriter.port) {
            $0.routeHeader(prefix, table: vrf.map { fabric.table($0) } ?? 254, type: 0, flags: 0)
        }
    }

    // MARK: Next hops

    private func underlay(_ index: Int) -> UInt32 { UInt32(20 + index) }
    private func object(_ vrf: Int, _ vtep: Int, _ isIPv6: Bool) -> UInt32 {
        UInt32((vrf * fabric.vteps + vtep) * 2 + (isIPv6 ? 1 : 0) + 1000)
    }
    private func groupID(_ vrf: Int, _ vtep: Int, _ isIPv6: Bool) -> UInt32 { object(vrf, vtep, isIPv6) | 0x0400_0000 }
    private func nextHop(
        _ out: inout StreamWriter, _ id: UInt32, _ gateway: IPAddress, _ interface: UInt32, onlink: Bool
    ) {
        out.frame {
            $0.message(Self.newNextHop, flags: StreamWriter.replace, port: StreamWriter.port) {
                $0.nextHopHeader(family: gateway.isV4 ? 2 : 10, flags: onlink ? 4 : 0)
                $0.attribute(1, u32: id)
                $0.attribute(6, gateway)
                $0.attribute(5, u32: interface)
            }
        }
    }
    private func group(_ out: inout StreamWriter, _ vrf: Int, _ vtep: Int, _ isIPv6: Bool) {
        out.frame {
            $0.message(Self.newNextHop, flags: StreamWriter.replace, port: StreamWriter.port) {
                $0.nextHopHeader(family: 0, flags: 0)
                $0.attribute(1, u32: groupID(vrf, vtep, isIPv6))
                $0.attribute(2) {
                    for member in [vtep, fabric.second(of: vtep, vrf: vrf)] {
                        $0.put32(object(vrf, member, isIPv6))
                        $0.put32(0)
                    }
                }
            }
        }
    }

    // MARK: MACs

    private func touchMAC(_ out: inout StreamWriter, _ mac: Int, _ touch: Int) {
        let before = touch > 1 ? fabric.vtep(ofMAC: mac, touch: touch - 1) : nil
        if let vtep = fabric.vtep(ofMAC: mac, touch: touch) {
            macRow(&out, mac, vtep, isDelete: false)
        } else if let before {
            macRow(&out, mac, before, isDelete: true)
        }
    }
    private func macRow(_ out: inout StreamWriter, _ mac: Int, _ vtep: Int, isDelete: Bool) {
        let domain = fabric.domain(ofMAC: mac)
        neighbor(
            &out, fabric.l2vxlan(domain), fabric.l2bridge(domain), fabric.l2vni(domain), fabric.mac(mac), vtep,
            isDelete: isDelete)
    }
    private func neighbor(
        _ out: inout StreamWriter, _ vxlan: UInt32, _ bridge: UInt32, _ vni: UInt32, _ mac: MACAddress, _ vtep: Int,
        isDelete: Bool = false
    ) {
        out.frame {
            $0.message(
                isDelete ? Self.delNeighbor : Self.newNeighbor,
                flags: isDelete ? StreamWriter.create : StreamWriter.replace, port: 0
            ) {
                $0.neighborHeader(family: 7, interface: vxlan, state: isDelete ? 0 : 0x02, flags: 0x16)
                $0.attribute(12) { $0.put8(11) }
                $0.attribute(2, mac)
                $0.attribute(1, fabric.vtep(vtep))
                if fabric.style == .frr10 { $0.attribute(11, u32: vni) }
                $0.attribute(9, u32: bridge)
            }
        }
    }
}

extension StreamWriter {
    /// struct rtmsg, RTA_DST, RTA_PRIORITY, and RTA_TABLE for a table beyond 255.
    fileprivate mutating func routeHeader(_ prefix: IPPrefix, table: UInt32, type: UInt8, flags: UInt32) {
        put8(prefix.address.isV4 ? 2 : 10)
        put8(UInt8(prefix.length))
        put16(0)
        put8(table > 255 ? 0 : UInt8(table))
        put8(186)
        put8(0)
        put8(type)
        put32(flags)
        attribute(1, prefix.address)
        attribute(6, u32: 20)
        if table > 255 { attribute(15, u32: table) }
    }
    /// struct ndmsg.
    fileprivate mutating func neighborHeader(family: UInt8, interface: UInt32, state: UInt16, flags: UInt8) {
        put32(UInt32(family))
        put32(interface)
        put16(state)
        put8(flags)
        put8(0)
    }
    /// struct nhmsg of zebra.
    fileprivate mutating func nextHopHeader(family: UInt8, flags: UInt32) {
        put8(family)
        put8(0)
        put8(11)
        put8(0)
        put32(flags)
    }
}
