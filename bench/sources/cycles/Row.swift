// What one row of the benchmark measures, and the id that says so.

/// The way of a packet through a worker.
enum Journey: String, CaseIterable {
    /// The source and the sink alone, which every other journey includes.
    case null
    /// Bridged: from a circuit into a tunnel, and back.
    case l2Encap = "l2-encap", l2Decap = "l2-decap"
    /// Routed: from a circuit into the fabric by host route and by prefix, from the fabric to a host,
    /// between two subnets of the node.
    case l3Encap = "l3-encap", l3Prefix = "l3-prefix", l3Decap = "l3-decap", interSubnet = "inter-subnet"
    /// A broadcast from a circuit to every other circuit and VTEP; counted in copies.
    case floodCopy = "flood-copy"
    /// An ARP request that is answered instead of flooded.
    case arpReply = "arp-reply"
    /// A packet on the underlay port that is the host's.
    case punt
    case drop

    var isRouted: Bool { [.l3Encap, .l3Prefix, .l3Decap, .interSubnet].contains(self) }
    var isFromFabric: Bool { [.l2Decap, .l3Decap, .drop].contains(self) }
    /// Frames that leave are encapsulated.
    var isToFabric: Bool { [.l2Encap, .l3Encap, .l3Prefix].contains(self) }
    /// Whether the inner packets are UDP in IPv4, one flow beside the other.
    var hasInnerUDP: Bool { self != .arpReply && self != .punt }

    /// What may follow the burst in an id, beside `vnis=`, `vrfs=` and checksums; "" is nothing.
    var specials: [String] {
        switch self {
        case .null: ["", "outer", "pool"]
        case .arpReply: ["", "gateway"]
        case .drop: ["unknown-vni", "unknown-vtep"]
        case .l2Encap, .l3Encap: ["", "offload"]
        default: [""]
        }
    }
}

/// Sizes of frames, with the FCS that they have on the wire and not in memory.
enum FrameSize: Hashable {
    case fixed(Int)
    /// Seven of 64 bytes, four of 570, one of 1518.
    case imix

    static let fcs = 4
    /// Sizes in memory, without FCS, and the order in which they come.
    var lengths: [Int] {
        switch self {
        case .fixed(let size): [size - FrameSize.fcs]
        case .imix: [64, 570, 1518].map { $0 - FrameSize.fcs }
        }
    }
    var pattern: [Int] {
        switch self {
        case .fixed: [0]
        case .imix: [0, 1, 0, 0, 1, 0, 2, 0, 1, 0, 1, 0]
        }
    }
    var name: String {
        switch self {
        case .fixed(let size): "\(size)"
        case .imix: "imix"
        }
    }
}

/// One row: `journey/underlay/entries/frame/burst`, then what is unusual.
struct Row: Hashable {
    /// The same path in C, over the same tables: `twin/` before the id.
    var isTwin = false
    var journey: Journey
    var isIPv6 = false
    /// MACs, host routes, prefixes or neighbours, by journey; of flood-copy the copies of one frame.
    var entries: Int
    var frame = FrameSize.fixed(64)
    var burst = 32
    /// Bridge domains, routed: VRFs, a power of two. With more than one, frames on the access port are tagged.
    var domains = 1
    /// Whether inner UDP packets have a checksum.
    var hasChecksum = false
    /// Whether packets come from the fabric with an outer UDP checksum; IPv6.
    var hasOuterChecksum = false
    var special = ""

    /// The underlay port adds the outer UDP checksum up.
    var isOffloaded: Bool { special == "offload" }

    static let largestEntries = 1_000_000, largestDomains = 1024, largestCopies = 4096

    var id: String {
        var parts = isTwin ? ["twin"] : []
        parts += [journey.rawValue, isIPv6 ? "ipv6" : "ipv4", "\(entries)", frame.name, "\(burst)"]
        if domains > 1 { parts.append("\(journey.isRouted ? "vrfs" : "vnis")=\(domains)") }
        if hasChecksum { parts.append("checksum") }
        if hasOuterChecksum { parts.append("outer-checksum") }
        if !special.isEmpty { parts.append(special) }
        return parts.joined(separator: "/")
    }
    /// What the tables of this row have in common with those of others.
    var tables: Row {
        var result = swift
        result.frame = .fixed(64)
        result.burst = 32
        result.hasChecksum = false
        result.hasOuterChecksum = false
        return result
    }

    /// The row that a twin is compared with.
    var swift: Row {
        var result = self
        result.isTwin = false
        return result
    }

    /// - Throws: ``RowFault`` that says what an id looks like.
    init(_ id: String, largestBurst: Int) throws(RowFault) {
        var parts = id.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        let isTwin = parts[0] == "twin"
        if isTwin { parts.removeFirst() }
        guard parts.count >= 5, let journey = Journey(rawValue: parts[0]) else {
            throw RowFault(id, "is not journey/underlay/entries/frame/burst; journeys are "
                + Journey.allCases.map(\.rawValue).joined(separator: ", "))
        }
        guard parts[1] == "ipv4" || parts[1] == "ipv6" else { throw RowFault(id, "the underlay is ipv4 or ipv6") }
        let limit = journey == .floodCopy ? Row.largestCopies : Row.largestEntries
        guard let entries = Int(parts[2]), 1...limit ~= entries else { throw RowFault(id, "entries are 1...\(limit)") }
        let frame: FrameSize
        if parts[3] == "imix" {
            frame = .imix
        } else if let size = Int(parts[3]), 64...1518 ~= size {
            frame = .fixed(size)
        } else {
            throw RowFault(id, "a frame is imix or 64...1518 bytes")
        }
        guard let burst = Int(parts[4]), 1...largestBurst ~= burst else {
            throw RowFault(id, "a burst is 1...\(largestBurst) packets: a worker takes no more at once")
        }
        self.init(journey: journey, isIPv6: parts[1] == "ipv6", entries: entries, frame: frame, burst: burst)
        for part in parts.dropFirst(5) { try add(part, id) }
        self.isTwin = isTwin
        if isTwin, ![.l2Encap, .l2Decap, .l3Encap, .l3Decap, .interSubnet].contains(journey) {
            throw RowFault(id, "there is a twin of l2-encap, l2-decap, l3-encap, l3-decap and inter-subnet alone")
        }
        guard journey.specials.contains(special) else {
            throw RowFault(id, "needs one of: " + journey.specials.joined(separator: ", "))
        }
        guard !isOffloaded || isIPv6 && !isTwin else {
            throw RowFault(id, "there is offload over ipv6 alone, and the twin has none")
        }
        guard !hasOuterChecksum || isFromFabric else { throw RowFault(id, "there is no outer checksum without /outer") }
        guard self.id == id else { throw RowFault(id, "is written \(self.id)") }
    }
    private mutating func add(_ part: String, _ id: String) throws(RowFault) {
        let isTabled = journey.isRouted || journey == .l2Encap || journey == .l2Decap
        if isTabled, part.hasPrefix(journey.isRouted ? "vrfs=" : "vnis=") {
            guard let count = Int(part.dropFirst(5)), 2...Row.largestDomains ~= count, count & (count - 1) == 0
            else { throw RowFault(id, "VNIs and VRFs are powers of two, 2...\(Row.largestDomains)") }
            domains = count
        } else if part == "checksum", journey.hasInnerUDP {
            hasChecksum = true
        } else if part == "outer-checksum", isIPv6, isFromFabric || journey == .null {
            hasOuterChecksum = true
        } else if journey.specials.contains(part), !part.isEmpty {
            special = part
        } else {
            throw RowFault(id, "\(journey.rawValue) knows no \(part)")
        }
    }
    private init(journey: Journey, isIPv6: Bool, entries: Int, frame: FrameSize, burst: Int) {
        self.journey = journey
        self.isIPv6 = isIPv6
        self.entries = entries
        self.frame = frame
        self.burst = burst
    }
}

/// Why a text is no row's id.
struct RowFault: Error, CustomStringConvertible {
    let description: String
    init(_ id: String, _ fault: String) { description = "\(id): \(fault)" }
}
