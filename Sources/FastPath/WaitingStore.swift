// Packets that wait for a neighbour, by what they wait for: fixed memory, bounded in every direction.

import CDPDK
import Tables

/// What packets wait for.
struct WaitingTarget {
    /// The subnet's domain, with ``address``; or 0, with ``hop``.
    var domain: UInt16
    var count: UInt16
    /// First and last packet; see ``WaitingStore/next``.
    var first: UInt16
    var last: UInt16
    /// A next hop that is being resolved; ``BucketView/miss`` when nothing is known.
    var hop: UInt32
    var address: HostAddress
    /// When to give up, and when to tell the control plane again; nanoseconds.
    var deadline: UInt64
    var nextReport: UInt64
}

/// Where the waiting packets are.
struct WaitingStore {
    static var packetCapacity: Int { TableLimits.waitingPackets }
    static var perTarget: UInt16 { TableLimits.waitingPerTarget }
    static var targetCapacity: Int { TableLimits.waitingTargets }
    static var none: UInt16 { UInt16.max }
    /// Longest wait; the control plane gives up earlier, and says so in the neighbour's state.
    static var patience: UInt64 { 5_000_000_000 }
    /// Between two reports of one target.
    static var reportInterval: UInt64 { 1_000_000_000 }

    let packets: UnsafeMutablePointer<RoutedContext>
    /// The packet behind each, of its target or of the free list.
    let next: UnsafeMutablePointer<UInt16>
    let targets: UnsafeMutablePointer<WaitingTarget>
    private(set) var targetCount = 0
    private(set) var packetCount = 0
    private var freeFirst: UInt16 = 0

    init() {
        packets = .allocate(capacity: Self.packetCapacity)
        next = .allocate(capacity: Self.packetCapacity)
        targets = .allocate(capacity: Self.targetCapacity)
        for index in 0..<Self.packetCapacity {
            next[index] = index + 1 == Self.packetCapacity ? Self.none : UInt16(index + 1)
        }
    }
    func free() {
        for index in 0..<targetCount {
            var packet = targets[index].first
            while packet != Self.none {
                pe_mbuf_free(packets[Int(packet)].packet.mbuf)
                packet = next[Int(packet)]
            }
        }
        packets.deallocate()
        next.deallocate()
        targets.deallocate()
    }

    /// The target with this hop, or this address in a domain; -1 when nothing waits for it.
    func find(domain: UInt16, hop: UInt32, _ address: HostAddress) -> Int {
        var index = 0
        while index < targetCount {
            let target = targets[index]
            if target.domain == domain, target.hop == hop, domain == 0 || target.address == address {
                return index
            }
            index = index &+ 1
        }
        return -1
    }
    /// A new target; -1 when there are too many.
    mutating func addTarget(domain: UInt16, hop: UInt32, _ address: HostAddress, now: UInt64) -> Int {
        guard targetCount < Self.targetCapacity else { return -1 }
        targets[targetCount] = WaitingTarget(
            domain: domain, count: 0, first: Self.none, last: Self.none, hop: hop, address: address,
            deadline: now &+ Self.patience, nextReport: 0)
        targetCount = targetCount &+ 1
        return targetCount &- 1
    }
    /// Keeps a packet behind the others of its target; false when there is no room.
    mutating func add(_ context: RoutedContext, to index: Int) -> Bool {
        let slot = freeFirst
        guard slot != Self.none, targets[index].count < Self.perTarget else { return false }
        freeFirst = next[Int(slot)]
        packets[Int(slot)] = context
        next[Int(slot)] = Self.none
        if targets[index].last == Self.none {
            targets[index].first = slot
        } else {
            next[Int(targets[index].last)] = slot
        }
        targets[index].last = slot
        targets[index].count &+= 1
        packetCount = packetCount &+ 1
        return true
    }
    /// Takes the oldest packet of a target out; nil when there is none.
    mutating func takeFirst(of index: Int) -> RoutedContext? {
        let slot = targets[index].first
        if slot == Self.none { return nil }
        targets[index].first = next[Int(slot)]
        if targets[index].first == Self.none { targets[index].last = Self.none }
        targets[index].count &-= 1
        next[Int(slot)] = freeFirst
        freeFirst = slot
        packetCount = packetCount &- 1
        return packets[Int(slot)]
    }
    /// Removes a target without packets; the last one takes its place.
    mutating func removeTarget(_ index: Int) {
        targetCount = targetCount &- 1
        targets[index] = targets[targetCount]
    }
}
