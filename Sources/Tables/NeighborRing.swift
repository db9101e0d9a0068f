// What workers and the control plane tell each other about IP neighbours.

public import CLinux
public import Wire

/// What a worker saw or needs.
public struct NeighborEvent: Hashable, Sendable {
    public enum Kind: UInt8, Sendable, Hashable, BitwiseCopyable {
        /// A host said that it has `address` (ARP, GARP, NS, NA, DHCP acknowledgement).
        case binding = 1
        /// As ``binding``, unasked and to all: GARP, unsolicited NA. It may have moved here.
        case announcement = 2
        /// A packet waits for `address`, which has no neighbour entry; `domain` is its subnet.
        case unresolved = 3
        /// A host announced its MAC alone (RARP): bindings of the MAC may have moved here.
        case macAnnouncement = 4
        /// Somebody claimed the gateway's address (refused).
        case gatewayClaim = 5
    }
    public var kind: Kind
    /// ``BridgeDomain`` index.
    public var domain: UInt16
    /// ``Circuit`` index; ``fromTunnel`` for a frame from the fabric.
    public var circuit: UInt32
    public var mac: MACAddress
    public var address: IPAddress
    public static let fromTunnel = UInt32.max
    public init(kind: Kind, domain: UInt16, circuit: UInt32, mac: MACAddress, address: IPAddress) {
        self.kind = kind
        self.domain = domain
        self.circuit = circuit
        self.mac = mac
        self.address = address
    }
}

/// An ARP request or neighbour solicitation that the control plane wants sent from the gateway.
public struct ProbeRequest: Hashable, Sendable {
    public var domain: UInt16
    public var address: IPAddress
    /// To this host alone; nil: to all of the domain (broadcast, solicited-node multicast).
    public var mac: MACAddress?
    public init(domain: UInt16, address: IPAddress, mac: MACAddress?) {
        self.domain = domain
        self.address = address
        self.mac = mac
    }
}

/// A ring of four-word cells with one producer and one consumer.
public struct CellRing: BitwiseCopyable, @unchecked Sendable {
    @usableFromInline let head: UnsafeMutablePointer<UInt64>
    @usableFromInline let tail: UnsafeMutablePointer<UInt64>
    @usableFromInline let cells: UnsafeMutablePointer<UInt64>
    @usableFromInline let mask: UInt64

    @inlinable @inline(__always) public var isEmpty: Bool { pe_load64_relaxed(tail) == pe_load64(head) }
    /// False when it is full.
    @inlinable
    public func push(_ a: UInt64, _ b: UInt64, _ c: UInt64, _ d: UInt64) -> Bool {
        let position = pe_load64_relaxed(head)
        if position &- pe_load64(tail) > mask { return false }
        let cell = cells + Int(truncatingIfNeeded: (position & mask) &* 4)
        cell[0] = a
        cell[1] = b
        cell[2] = c
        cell[3] = d
        pe_store64(head, position &+ 1)
        return true
    }
    @inlinable
    public func pop() -> (UInt64, UInt64, UInt64, UInt64)? {
        let position = pe_load64_relaxed(tail)
        if position == pe_load64(head) { return nil }
        let cell = cells + Int(truncatingIfNeeded: (position & mask) &* 4)
        let value = (cell[0], cell[1], cell[2], cell[3])
        pe_store64(tail, position &+ 1)
        return value
    }
}

/// One worker's ring towards the control plane.
public struct NeighborRing: BitwiseCopyable, Sendable {
    @usableFromInline let ring: CellRing

    /// Worker: reports; false when the ring is full. Addresses are in host order; IPv4 in `low`.
    @inlinable
    public func push(
        _ kind: NeighborEvent.Kind, domain: UInt16, circuit: UInt32, mac: UInt64, isIPv6: Bool, high: UInt64,
        low: UInt64
    ) -> Bool {
        ring.push(
            mac & 0xFFFF_FFFF_FFFF | UInt64(domain) &<< 48,
            UInt64(circuit) | UInt64(kind.rawValue) &<< 32 | (isIPv6 ? 1 &<< 40 : 0), high, low)
    }
    /// Control thread: the oldest event.
    public func pop() -> NeighborEvent? {
        guard let cell = ring.pop() else { return nil }
        let address: IPAddress = cell.1 >> 40 & 1 == 0
            ? .v4(IPv4Address(rawValue: UInt32(truncatingIfNeeded: cell.3)))
            : .v6(IPv6Address(high: cell.2, low: cell.3))
        return NeighborEvent(
            kind: NeighborEvent.Kind(rawValue: UInt8(truncatingIfNeeded: cell.1 >> 32)) ?? .unresolved,
            domain: UInt16(truncatingIfNeeded: cell.0 >> 48), circuit: UInt32(truncatingIfNeeded: cell.1),
            mac: MACAddress(rawValue: cell.0), address: address)
    }
}

/// The control plane's ring towards worker 0.
public struct ProbeRing: BitwiseCopyable, Sendable {
    @usableFromInline let ring: CellRing

    @inlinable @inline(__always) public var isEmpty: Bool { ring.isEmpty }
    /// Control thread: false when the ring is full; the neighbour is asked for again later.
    @discardableResult
    public func push(_ request: ProbeRequest) -> Bool {
        let words: (UInt64, UInt64)
        switch request.address {
        case .v4(let address): words = (0, UInt64(address.rawValue))
        case .v6(let address): words = (address.high, address.low)
        }
        return ring.push(
            (request.mac?.rawValue ?? 0) | UInt64(request.domain) << 48, request.address.isV4 ? 0 : 1, words.0,
            words.1)
    }
    /// Worker: the oldest request as words: MAC (0 for all) below the domain; 1 for IPv6; the
    /// address in host order.
    @inlinable
    public func pop() -> (macAndDomain: UInt64, isIPv6: Bool, high: UInt64, low: UInt64)? {
        guard let cell = ring.pop() else { return nil }
        return (cell.0, cell.1 != 0, cell.2, cell.3)
    }
}

/// Owns the neighbour rings of all workers and the probe ring.
public final class NeighborRings {
    public let workers: [NeighborRing]
    public let probes: ProbeRing
    private let memory: UnsafeMutableRawPointer
    private let byteCount: Int

    public init(workers count: Int) throws(TableError) {
        let perRing = 256 + TableLimits.neighborRing * 32
        byteCount = perRing * (count + 1)
        guard let memory = pe_pages(byteCount) else {
            throw .outOfMemory(table: "neighbour rings", byteCount: byteCount)
        }
        self.memory = memory
        let rings = (0...count).map { index in
            let base = memory + index * perRing
            return CellRing(
                head: base.assumingMemoryBound(to: UInt64.self),
                tail: (base + 128).assumingMemoryBound(to: UInt64.self),
                cells: (base + 256).assumingMemoryBound(to: UInt64.self),
                mask: UInt64(TableLimits.neighborRing - 1))
        }
        workers = rings.dropLast().map { NeighborRing(ring: $0) }
        probes = ProbeRing(ring: rings[count])
    }
    deinit { pe_pages_free(memory, byteCount) }
}
