// Neighbour events towards the control plane: an address as events carry it, and their rate limit.

import CLinux
import Tables
import Wire

/// An address in host order, as rings and tables have it: IPv4 in the lower word.
struct HostAddress: Equatable {
    let isIPv6: Bool
    let high: UInt64
    let low: UInt64
    @inline(__always) init(isIPv6: Bool, high: UInt64, low: UInt64) {
        self.isIPv6 = isIPv6
        self.high = high
        self.low = low
    }
    /// As loaded from a packet.
    @inline(__always) init(ipv4 raw: UInt32) {
        self.init(isIPv6: false, high: 0, low: UInt64(UInt32(bigEndian: raw)))
    }
    @inline(__always) init(ipv6 raw: RawIPv6) {
        self.init(isIPv6: true, high: UInt64(bigEndian: raw.first), low: UInt64(bigEndian: raw.second))
    }
    /// The destination of an IP packet.
    @inline(__always) init(destinationOf ip: UnsafeMutableRawPointer, isIPv6: Bool) {
        if isIPv6 {
            self.init(ipv6: RawIPv6(at: ip + 24))
        } else {
            self.init(ipv4: ip[raw32: 16])
        }
    }
    /// fe80::/10: of one link, and never announced.
    @inline(__always) var isLinkLocalIPv6: Bool { isIPv6 && high &>> 54 == 0x3FA }
    @inline(__always) var hash: UInt32 { pe_crc32c(pe_crc32c(isIPv6 ? 6 : 4, high), low) }
}

extension Pipeline {
    /// Tells the control plane about a neighbour, unless it was told the same a moment ago.
    @inline(never)
    func report(
        _ kind: NeighborEvent.Kind, domain: UInt16, circuit: UInt32, mac: MACAddress, _ address: HostAddress
    ) {
        if address.isLinkLocalIPv6, kind != .gatewayClaim { return }
        if memory.pointee.usesClock {
            memory.pointee.stamp = UInt32(truncatingIfNeeded: pe_tsc() &>> WorkerMemory.stampShift)
        }
        let kept = memory.pointee.kept
        let place = pe_crc32c(address.hash, UInt64(domain))
        let slot = Int(place & UInt32(truncatingIfNeeded: KeptState.recentCount &- 1))
        let low = pe_crc32c(pe_crc32c(place, mac.rawValue), UInt64(circuit) &<< 8 | UInt64(kind.rawValue))
        let seal = UInt64(low) &<< 32 | UInt64(pe_crc32c(memory.pointee.stamp, address.low ^ mac.rawValue))
        if kept.pointee.recent[slot] == seal { return }
        let isReported = kept.pointee.neighborRing.push(
            kind, domain: domain, circuit: circuit, mac: mac.rawValue, isIPv6: address.isIPv6,
            high: address.high, low: address.low)
        if isReported {
            kept.pointee.recent[slot] = seal
            memory.pointee.counters.add(.neighborEvents, 1)
        } else {
            // Not noted: the next packet brings it again.
            memory.pointee.counters.add(.neighborRingFull, 1)
        }
    }
}
