// What a writer does in its windows: streams at full speed, or the very entries that the worker reads.

import CLinux
import ControlPlane
import Tables
import Wire

enum StallLoad: String { case feed, hammer }

/// Work that goes on where it stopped, window after window.
protocol WriterLoad: AnyObject {
    /// Works until the time stamp counter says `end`; returns messages or changes.
    func run(until end: UInt64) -> Int
}

/// The streams of the fabric's generations, then the installation, again and again: as zebra sends them.
final class FeedLoad: WriterLoad {
    private let plane: Plane
    private let streams: [StreamWriter]
    private var stream = 0
    private var offset = 0

    /// - Parameter streams: at least one.
    init(_ plane: Plane, _ streams: [StreamWriter]) {
        self.plane = plane
        self.streams = streams
    }
    func run(until end: UInt64) -> Int {
        var messages = 0
        repeat {
            if offset >= streams[stream].bytes.count {
                stream = (stream + 1) % streams.count
                offset = 0
            }
            messages += streams[stream].bytes.withUnsafeBytes { plane.feed($0, at: &offset) }
        } while pe_tsc() < end
        return messages
    }
}

/// Changes the same few entries as fast as the tables take it: values in place, deletions and insertions,
/// nodes of the prefix trie, next hops, and the published root. The worker reads those and no others.
final class HammerLoad: WriterLoad {
    private let fabric: Fabric
    private let tables: ForwardingTables
    private let macValues: [FDBValue]
    private let routeValues: [RouteValue]
    private let hops: [UInt32]
    private let tunnel: UInt32
    private var round = 0
    /// Changes that found no room, because entries still rested.
    private(set) var refused = 0
    /// Entries of each kind.
    static let reach = 32

    init(_ fabric: Fabric, _ tables: ForwardingTables) {
        self.fabric = fabric
        self.tables = tables
        macValues = (0..<min(Self.reach, fabric.macs)).compactMap {
            tables.mac(domain: UInt16(fabric.domain(ofMAC: $0) + 1), fabric.mac($0))
        }
        routeValues = (0..<min(Self.reach, fabric.routes)).compactMap {
            tables.route(vrf: UInt16(fabric.vrf(ofRoute: $0) + 1), IPPrefix(host: fabric.host($0)))
        }
        hops = routeValues.filter(\.isHop).map(\.index)
        tunnel = macValues.first { $0.isTunnel }?.index ?? 0
        guard !macValues.isEmpty, !hops.isEmpty, fabric.prefixes > 0 else {
            fail("stall --load hammer needs MACs, routes and prefixes")
        }
    }

    func run(until end: UInt64) -> Int {
        var changes = 0
        repeat {
            for index in 0..<Self.reach {
                do { changes += try change(index) } catch { refused += 1 }
            }
            if round % 64 == 0 {
                let way = tables.paths(of: tunnel)
                tables.setPaths(tunnel: tunnel, way.paths, unusable: way.unusable)
            }
            tables.publish()
            round += 1
        } while pe_tsc() < end
        return changes
    }

    /// One step in the life of the entries with this number; returns how many changes that was.
    private func change(_ index: Int) throws(TableError) -> Int {
        let mac = index % fabric.macs
        let domain = UInt16(fabric.domain(ofMAC: mac) + 1)
        let route = index % fabric.routes
        let vrf = UInt16(fabric.vrf(ofRoute: route) + 1)
        let host = IPPrefix(host: fabric.host(route))
        let (prefixVRF, prefix) = fabric.prefix(index % fabric.prefixes)
        let inner = IPPrefix(prefix.address, length: 25) ?? prefix
        let value = routeValues[(round + index) % routeValues.count]
        let number = UInt16(prefixVRF + 1)
        switch (round + index) & 3 {
        case 0:
            tables.removeMAC(domain: domain, fabric.mac(mac))
            tables.removeRoute(vrf: vrf, host)
            tables.removeRoute(vrf: number, prefix)
            return 3
        case 1:
            try tables.setMAC(domain: domain, fabric.mac(mac), macValues[(round + index) % macValues.count])
            try tables.setRoute(vrf: vrf, host, value)
            try tables.setRoute(vrf: number, prefix, value)
            return 3
        case 2:
            try tables.setMAC(domain: domain, fabric.mac(mac), macValues[(round + index) % macValues.count])
            try tables.setRoute(vrf: vrf, host, value)
            try tables.setRoute(vrf: number, inner, value)
            return 3
        default:
            let hop = hops[(round + index) % hops.count]
            if let found = tables.hop(hop) {
                tables.updateHop(hop, mac: found.mac, state: found.state, isRemote: found.isRemote)
                tables.updateHop(hop, sourceMAC: found.sourceMAC)
            }
            tables.removeRoute(vrf: number, inner)
            return 3
        }
    }
}
