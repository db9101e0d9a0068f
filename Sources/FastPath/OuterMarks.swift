// What outer and inner IP headers tell each other: ECN (RFC 6040), DSCP (RFC 2983) and TTL.

import Tables
import Wire

/// Writes into the outer IP header at `header + 14` what it takes over from the frame at `inner`, of
/// which `available` bytes can be read (at least 14): always ECN; DSCP and TTL where the underlay's
/// options say so.
@inline(never)
func markOuter(
    _ header: UnsafeMutableRawPointer, _ adjacency: Adjacency, inner: UnsafeMutableRawPointer,
    available: Int
) {
    guard let marks = InnerMarks(inner, available) else { return }
    let template = adjacency.isIPv6
        ? IPv6Header(at: header + EthernetHeader.byteCount).trafficClass
        : IPv4Header(at: header + EthernetHeader.byteCount).trafficClass
    let dscp = (adjacency.copiesDSCP ? marks.trafficClass : template) & 0xFC
    let trafficClass = dscp | marks.trafficClass & 3
    // A TTL of zero would be no packet at all.
    let timeToLive = max(1, marks.timeToLive)
    if adjacency.isIPv6 {
        let ip = IPv6Header(at: header + EthernetHeader.byteCount)
        ip.setTrafficClass(trafficClass)
        if adjacency.copiesTTL { ip.setHopLimit(timeToLive) }
    } else {
        let ip = IPv4Header(at: header + EthernetHeader.byteCount)
        ip.setTrafficClass(trafficClass)
        if adjacency.copiesTTL { ip.setTimeToLive(timeToLive) }
    }
}

/// Traffic class and TTL of the IP header in a frame, behind up to two VLAN tags.
struct InnerMarks {
    let ip: UnsafeMutableRawPointer
    let isIPv6: Bool

    /// Nil when the frame carries no IP. `available` bytes can be read, at least 14.
    init?(_ frame: UnsafeMutableRawPointer, _ available: Int) {
        var offset = 12
        while offset < 20, offset &+ 6 <= available, VLANTag.isTag(raw: frame[raw16: offset]) {
            offset = offset &+ VLANTag.byteCount
        }
        let type = frame[raw16: offset]
        let start = offset &+ 2
        ip = frame + start
        if type == EtherType.ipv4.bigEndian {
            guard start &+ IPv4Header.byteCount <= available, ip[byte: 0] &>> 4 == 4 else { return nil }
            isIPv6 = false
        } else if type == EtherType.ipv6.bigEndian {
            guard start &+ IPv6Header.byteCount <= available, ip[byte: 0] &>> 4 == 6 else { return nil }
            isIPv6 = true
        } else {
            return nil
        }
    }

    var trafficClass: UInt8 {
        isIPv6 ? IPv6Header(at: ip).trafficClass : IPv4Header(at: ip).trafficClass
    }
    var timeToLive: UInt8 { isIPv6 ? IPv6Header(at: ip).hopLimit : IPv4Header(at: ip).timeToLive }
}

/// The ECN field of the outer IP header of a frame that ``termination(of:on:_:)`` accepted.
@inline(__always)
func outerECN(_ frame: UnsafeMutableRawPointer) -> UInt8 {
    let shift: UInt8 = frame[raw16: 12] == EtherType.ipv4.bigEndian ? 0 : 4
    return frame[byte: 15] &>> shift & 3
}

/// Combines the outer ECN field with that of the frame at `inner`, of which `available` bytes can be
/// read; false when the packet must be dropped: congestion was met, and it cannot say so (RFC 6040
/// section 4.2). What is no IP counts as not ECN-capable.
@inline(never)
func combineECN(
    outer: UInt8, inner: UnsafeMutableRawPointer, available: Int
) -> Bool {
    guard available >= EthernetHeader.byteCount, let marks = InnerMarks(inner, available) else {
        return outer != ECN.congestion
    }
    let old = marks.trafficClass
    guard let ecn = ECN.decapsulated(inner: old, outer: outer) else { return false }
    if ecn == old & 3 { return true }
    let new = old & 0xFC | ecn
    if marks.isIPv6 {
        IPv6Header(at: marks.ip).setTrafficClass(new)
    } else {
        IPv4Header(at: marks.ip).setTrafficClass(new)
    }
    return true
}
