// The outer header template of a tunnel, byte by byte (RFC 7348 section 5), and its checksum base.

import Testing
import Wire

@testable import Tables

@Suite("Tunnel template")
struct TunnelTemplateTests {
    private static let path = TunnelPath(
        port: 0x1234, sourceMAC: MACAddress(2, 0, 0, 0, 0, 1), nextHopMAC: MACAddress(2, 0, 0, 0, 0, 0xFE),
        mtu: 1600)

    private static func record(
        _ local: String, _ remote: String, _ options: OuterHeaderOptions = OuterHeaderOptions()
    ) throws -> (bytes: [UInt8], checksumBase: UInt16, isIPv6: Bool, hasZeroChecksum: Bool, port: UInt16, mtu: UInt16) {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: Adjacency.byteCount, alignment: 64)
        defer { memory.deallocate() }
        memory.initializeMemory(as: UInt8.self, repeating: 0xA5, count: Adjacency.byteCount)
        let source = try #require(IPAddress(local)), destination = try #require(IPAddress(remote))
        Adjacency.write(at: memory, path: path, local: source, remote: destination, options: options)
        let adjacency = Adjacency(at: memory)
        let bytes = (0..<adjacency.headerByteCount).map { adjacency.header.load(fromByteOffset: $0, as: UInt8.self) }
        return (
            bytes, adjacency.checksumBase, adjacency.isIPv6, adjacency.hasZeroChecksum, adjacency.port, adjacency.mtu
        )
    }

    /// RFC 1071, over big-endian words.
    private static func sum(_ bytes: [UInt8]) -> UInt16 {
        var sum: UInt32 = 0
        for index in stride(from: 0, to: bytes.count, by: 2) {
            sum += UInt32(bytes[index]) << 8 | (index + 1 < bytes.count ? UInt32(bytes[index + 1]) : 0)
        }
        while sum > 0xFFFF { sum = (sum & 0xFFFF) + sum >> 16 }
        return UInt16(sum)
    }

    @Test("IPv4: 50 bytes; lengths, source port, UDP checksum and VNI left for the packet")
    func ipv4() throws {
        var options = OuterHeaderOptions()
        options.trafficClass = 0xB8
        let record = try Self.record("192.0.2.1", "198.51.100.2", options)
        #expect(record.bytes == [
            0x02, 0x00, 0x00, 0x00, 0x00, 0xFE, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00,
            0x45, 0xB8, 0x00, 0x00, 0x00, 0x00, 0x40, 0x00, 64, 17, 0x00, 0x00,
            192, 0, 2, 1, 198, 51, 100, 2,
            0x00, 0x00, 0x12, 0xB5, 0x00, 0x00, 0x00, 0x00,
            0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        ])
        #expect(!record.isIPv6 && !record.hasZeroChecksum && record.port == 0x1234 && record.mtu == 1600)
        // Its checksum base is the header's sum without length and checksum, as it lies in memory.
        #expect(record.checksumBase.bigEndian == Self.sum(Array(record.bytes[14..<34])))
    }

    @Test("a total length added to the base gives a header whose sum is all ones")
    func ipv4Checksum() throws {
        for length in [50, 1550, 65535] as [UInt16] {
            var record = try Self.record("255.255.255.255", "255.255.255.254")
            record.bytes[16] = UInt8(length >> 8)
            record.bytes[17] = UInt8(length & 0xFF)
            var sum = UInt32(record.checksumBase) + UInt32(length.bigEndian)
            sum = (sum & 0xFFFF) + sum >> 16
            let checksum = ~UInt16(truncatingIfNeeded: sum)
            record.bytes[24] = UInt8(truncatingIfNeeded: checksum)
            record.bytes[25] = UInt8(checksum >> 8)
            #expect(Self.sum(Array(record.bytes[14..<34])) == 0xFFFF)
        }
    }

    @Test("IPv6: 70 bytes, traffic class across the nibbles, hop limit, next header UDP")
    func ipv6() throws {
        var options = OuterHeaderOptions()
        options.trafficClass = 0xB8
        options.ttl = 9
        let record = try Self.record("2001:db8::1", "2001:db8:0:1::ffff", options)
        #expect(record.bytes == [
            0x02, 0x00, 0x00, 0x00, 0x00, 0xFE, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x86, 0xDD,
            0x6B, 0x80, 0x00, 0x00, 0x00, 0x00, 17, 9,
            0x20, 0x01, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
            0x20, 0x01, 0x0D, 0xB8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF,
            0x00, 0x00, 0x12, 0xB5, 0x00, 0x00, 0x00, 0x00,
            0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        ])
        #expect(record.isIPv6 && !record.hasZeroChecksum)
        // The pseudo-header of RFC 8200 section 8.1 without its length.
        #expect(record.checksumBase.bigEndian == Self.sum(Array(record.bytes[22..<54]) + [0, 17]))
    }

    @Test("checksum zero is asked for by option")
    func zeroChecksum() throws {
        var options = OuterHeaderOptions()
        options.zeroChecksumIPv6 = true
        #expect(try Self.record("2001:db8::1", "2001:db8::2", options).hasZeroChecksum)
    }

    @Test("published tunnels: the local address of the remote's family, an ECMP path per slot")
    func published() throws {
        let tables = try ForwardingTablesTests.tables()
        let v4 = try #require(IPAddress("192.0.2.1")), v6 = try #require(IPAddress("2001:db8::1"))
        try tables.setEndpoints([v6, v4], vxlanPorts: [4789])
        let far4 = try #require(IPAddress("192.0.2.2")), far6 = try #require(IPAddress("2001:db8::2"))
        let tunnel4 = try tables.tunnel(to: far4), tunnel6 = try tables.tunnel(to: far6)
        tables.publish()
        #expect(ForwardingTablesTests.state(tables).tunnels[Int(tunnel4)].unusable == .noUnderlayRoute)
        var second = Self.path
        second.nextHopMAC = MACAddress(2, 0, 0, 0, 0, 0xFD)
        let ports = [Self.path, second].map { path in
            var path = path
            path.port = 3
            return path
        }
        tables.setPaths(tunnel: tunnel4, ports, unusable: nil)
        tables.setPaths(tunnel: tunnel6, [], unusable: .unresolvedNextHop)
        tables.publish()
        let state = ForwardingTablesTests.state(tables)
        #expect(state.tunnels[Int(tunnel6)].unusable == .unresolvedNextHop)
        var counts: [UInt8: Int] = [:]
        for hash in 0..<64 as Range<UInt32> {
            let header = state.adjacency(of: state.tunnels + Int(tunnel4), hash: hash).header
            #expect(header.load(fromByteOffset: 29, as: UInt8.self) == 1)
            counts[header.load(fromByteOffset: 5, as: UInt8.self), default: 0] += 1
        }
        #expect(counts == [0xFE: 32, 0xFD: 32])
        tables.setPaths(tunnel: tunnel6, [ports[0]], unusable: nil)
        tables.publish()
        let later = ForwardingTablesTests.state(tables)
        #expect(later.adjacency(of: later.tunnels + Int(tunnel6), hash: 5).isIPv6)
        try tables.setEndpoints([v4], vxlanPorts: [4789])
        tables.publish()
        #expect(
            ForwardingTablesTests.state(tables).tunnels[Int(tunnel6)].unusable == .noUnderlayRoute,
            "no local address of its family")
    }

    @Test("two VTEPs are told apart, IPv6 ones by their full address")
    func vtepIndex() throws {
        let tables = try ForwardingTablesTests.tables()
        let a = try #require(IPAddress("2001:db8::1")), b = try #require(IPAddress("2001:db8::2"))
        let first = try tables.tunnel(to: a), second = try tables.tunnel(to: b)
        #expect(first != second)
        #expect(try tables.tunnel(to: a) == first)
        let state = ForwardingTablesTests.state(tables)
        let high = UInt64(0x2001_0DB8_0000_0000).bigEndian
        #expect(state.vtep(ipv6: high, UInt64(1).bigEndian) == first)
        #expect(state.vtep(ipv6: high, UInt64(2).bigEndian) == second)
        #expect(state.vtep(ipv6: high, UInt64(3).bigEndian) == BucketView.miss)
        #expect(tables.remote(of: second) == b && tables.remote(of: 63) == nil)
    }
}
