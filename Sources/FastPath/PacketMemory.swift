// Which pages packet buffers lie in: reserved huge pages, transparent ones, or small ones.

import CDPDK
import Glibc

/// The pages that DPDK's memory lies in.
public struct PacketMemory: Sendable, Equatable {
    public enum Pages: String, Sendable {
        /// Of hugetlbfs: set aside by the administrator.
        case reserved
        /// At least nine tenths of what is in use lies in transparent huge pages.
        case transparent
        /// 4 KiB.
        case small
    }
    public var pages: Pages
    /// MB in transparent huge pages, of those in use.
    public var transparentMegabytes = 0
    public var usedMegabytes = 0
    /// Why ``pages`` are small.
    public var reason: String?

    public static let reserved = PacketMemory(pages: .reserved)

    /// Why there are no transparent huge pages for packets; nil: there may be.
    ///
    /// - Parameters:
    ///   - enabled: what `/sys/kernel/mm/transparent_hugepage/enabled` says; nil where there is none.
    ///   - shared: what `shmem_enabled` beside it says.
    ///   - hasNICs: whether a driver of the PCI bus has pinned all memory when EAL is up.
    public static func obstacle(enabled: String?, shared: String?, hasNICs: Bool) -> String? {
        if hasNICs { return "a NIC's memory stays where it is" }
        guard let enabled else { return "this kernel has no transparent huge pages" }
        // The administrator's word holds, though MADV_COLLAPSE would not ask.
        if enabled.contains("[never]") { return "transparent_hugepage/enabled says never" }
        if shared?.contains("[deny]") == true { return "transparent_hugepage/shmem_enabled says deny" }
        return nil
    }

    /// For logs and status.
    public var text: String {
        switch pages {
        case .reserved: "reserved huge pages"
        case .transparent: "transparent huge pages: \(transparentMegabytes) of \(usedMegabytes) MB"
        case .small:
            (transparentMegabytes == 0
                ? "4 KB pages" : "transparent huge pages: \(transparentMegabytes) of \(usedMegabytes) MB")
                + (reason.map { " (\($0))" } ?? "")
        }
    }
}

/// How large EAL's memory without reserved pages is to be, so that huge pages fit it.
///
/// The kernel maps a huge page of a file only where address and position in the file are the same modulo 2 MiB, and
/// EAL puts its file behind tables of its own, whose size depends on that of the memory. Of the sizes above the
/// wanted one the first is taken whose tables end on such an address, or so few pages before it that EAL, which
/// tries the next page where one is taken, gets there. What is more than wanted is address space, never touched.
struct MemoryPlan: Equatable {
    var megabytes: Int
    /// Addresses that must be taken while EAL starts.
    var occupied: Range<UInt64>

    static let hugePage: UInt64 = 2 << 20
    static let page: UInt64 = 4096
    /// How often EAL tries the next page.
    static let tries: UInt64 = 5

    /// - Parameters:
    ///   - wanted: MB, at least.
    ///   - base: where EAL's address space begins.
    ///   - tables: bytes before memory of so many bytes.
    /// - Returns: nil when no size up to 512 MB more fits.
    init?(wanted: Int, base: UInt64, tables: (UInt64) -> UInt64) {
        guard wanted > 0, wanted <= 1 << 24 else { return nil }
        let even = (wanted + 1) & ~1
        for megabytes in stride(from: even, through: even + 512, by: 2) {
            let end = base &+ tables(UInt64(megabytes) << 20)
            let aligned = (end &+ Self.hugePage &- 1) & ~(Self.hugePage &- 1)
            if aligned &- end <= Self.tries * Self.page, end % Self.page == 0 {
                self.megabytes = megabytes
                occupied = end..<aligned
                return
            }
        }
        return nil
    }
}

/// Makes EAL's memory lie in transparent huge pages.
///
/// `MADV_COLLAPSE` is used: it works on EAL's shared memory whatever `shmem_enabled` says, changes no address and no
/// content, and refuses pages that a device has pinned.
struct PageGatherer {
    /// Address and size, both in whole huge pages, to 0 or -errno.
    typealias Collapse = (_ start: UInt64, _ size: UInt64) -> Int32

    /// What huge pages can cover.
    let range: Range<UInt64>
    let collapse: Collapse
    /// Huge pages, from the range's start on.
    private(set) var isGathered: [Bool]
    private(set) var failure: Int32 = 0
    private var failures = 0

    /// As one call costs: the kernel empties lists of every processor first.
    static let chunk: UInt64 = 32 << 20
    /// Then there are no huge pages, or not for this memory.
    static let failuresAllowed = 4

    init(range: Range<UInt64>, collapse: @escaping Collapse) {
        self.range = range
        self.collapse = collapse
        isGathered = Array(repeating: false, count: (range.upperBound - range.lowerBound).hugePages)
    }

    /// The part of memory that huge pages can cover; nil where they cannot.
    static func coverable(_ memory: pe_memory_range) -> Range<UInt64>? {
        let huge = MemoryPlan.hugePage
        let (end, overflow) = memory.start.addingReportingOverflow(memory.size)
        guard !overflow, end <= UInt64.max - huge else { return nil }
        if memory.is_file != 0, (memory.start &- memory.offset) % huge != 0 { return nil }
        let first = (memory.start + huge - 1) / huge * huge, last = end / huge * huge
        return first < last ? first..<last : nil
    }

    var megabytes: Int { isGathered.count(where: { $0 }) * 2 }

    /// Gathers those huge pages of the range whose place is wanted and that are not gathered yet.
    mutating func gather(_ isWanted: (Int) -> Bool) {
        var first = 0
        while first < isGathered.count, failures < Self.failuresAllowed {
            guard !isGathered[first], isWanted(first) else {
                first += 1
                continue
            }
            var end = first + 1
            let limit = min(isGathered.count, first + Self.chunk.hugePages)
            while end < limit, !isGathered[end], isWanted(end) { end += 1 }
            gather(first..<end)
            first = end
        }
    }

    /// Together; where that fails one by one, since one that fails does not keep the others from it.
    private mutating func gather(_ places: Range<Int>) {
        if collapse(address(places.lowerBound), UInt64(places.count) * MemoryPlan.hugePage) == 0 {
            for place in places { isGathered[place] = true }
            return
        }
        for place in places where failures < Self.failuresAllowed {
            let rc = collapse(address(place), MemoryPlan.hugePage)
            isGathered[place] = rc == 0
            if rc != 0 {
                failure = -rc
                failures += 1
            }
        }
    }

    private func address(_ place: Int) -> UInt64 { range.lowerBound + UInt64(place) * MemoryPlan.hugePage }
}

extension UInt64 {
    fileprivate var hugePages: Int { Int(self / MemoryPlan.hugePage) }
}

/// EAL's memory of this process while it starts.
struct TransparentMemory {
    private var gatherer: PageGatherer?
    private var memory = pe_memory_range()
    private var reason: String?

    /// Why this system or these options have no transparent huge pages for packets; nil: they may.
    static func obstacle(_ options: EnvironmentOptions) -> String? {
        let folder = "/sys/kernel/mm/transparent_hugepage"
        if sysconf(Int32(_SC_PAGESIZE)) != Int(MemoryPlan.page) { return "pages are not of 4 KB" }
        return PacketMemory.obstacle(
            enabled: readSmallFile("\(folder)/enabled"), shared: readSmallFile("\(folder)/shmem_enabled"),
            hasNICs: !options.pciAddresses.isEmpty)
    }

    /// After EAL has started and before the pools are made: the last `megabytes` of memory, which EAL gives away first,
    /// so that they are filled in huge pages at once; a fault for every small page would take ten times as long.
    init(_ options: EnvironmentOptions) {
        reason = Self.obstacle(options)
        guard reason == nil else { return }
        guard pe_memory_range_get(&memory) == 0, let range = PageGatherer.coverable(memory) else {
            let isGiven = options.memoryMegabytes != nil
            reason = isGiven ? "huge pages do not fit the size that was given" : "huge pages do not fit its addresses"
            return
        }
        var gatherer = PageGatherer(range: range, collapse: pe_memory_collapse)
        let count = min(gatherer.isGathered.count, (options.poolMegabytes + 1) / 2)
        let first = gatherer.isGathered.count - count
        gatherer.gather { place in
            guard place >= first else { return false }
            pe_memory_touch(range.lowerBound + UInt64(place) * MemoryPlan.hugePage)
            return true
        }
        self.gatherer = gatherer
    }

    /// After the pools are made: whatever is in use and not in huge pages yet; what there is then.
    mutating func finish() -> PacketMemory {
        guard var gatherer else { return PacketMemory(pages: .small, reason: reason) }
        let pages = Self.resident(gatherer.range)
        let perHugePage = Int(MemoryPlan.hugePage / MemoryPlan.page)
        gatherer.gather { place in
            pages[(place * perHugePage)..<((place + 1) * perHugePage)].contains { $0 & 1 != 0 }
        }
        let used = Self.resident(gatherer.range).count { $0 & 1 != 0 } * Int(MemoryPlan.page) >> 20
        let isTransparent = gatherer.megabytes > 0 && gatherer.megabytes * 10 >= used * 9
        return PacketMemory(
            pages: isTransparent ? .transparent : .small, transparentMegabytes: gatherer.megabytes,
            usedMegabytes: max(used, gatherer.megabytes),
            reason: gatherer.failure == 0 ? nil : "MADV_COLLAPSE: \(errorText(gatherer.failure))")
    }

    private static func resident(_ range: Range<UInt64>) -> [UInt8] {
        let size = range.upperBound - range.lowerBound
        var pages = [UInt8](repeating: 0, count: Int(size / MemoryPlan.page))
        _ = pe_memory_resident(range.lowerBound, size, &pages)
        return pages
    }
}
