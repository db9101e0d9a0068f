// Where in a VRF's IPv4 addresses there are host routes: packets to other places need not look for one.

public import CLinux
import Wire

/// What readers need of ``HostBlocks``: a word of 64 bits by VRF.
public struct HostBlockView: BitwiseCopyable, @unchecked Sendable {
    @usableFromInline let words: UnsafePointer<UInt64>
    init(words: UnsafePointer<UInt64>) { self.words = words }

    /// False when there is no host route under a ``HostKey`` of a VRF; true when there may be one, and for
    /// IPv6.
    @inlinable @inline(__always)
    public func mayHold(_ key: UInt64) -> Bool {
        // The shift takes the number modulo 64.
        let word = pe_load64_relaxed(words + Int(truncatingIfNeeded: key &>> 48))
        let number = UInt64(truncatingIfNeeded: HostBlockView.number(UInt32(truncatingIfNeeded: key)))
        return word &>> number & 1 != 0 || HostKey.isIPv6(key)
    }
    /// A number for the /16 around an address, of which the lower six bits count: neighbours have different ones.
    @inlinable @inline(__always)
    static func number(_ address: UInt32) -> UInt32 { address &>> 16 ^ address &>> 24 }
}

/// Counts IPv4 host routes by VRF and part of the address space, and tells readers which counts are 0.
///
/// A bit is set before the first route of its part is inserted and cleared after the last one is gone: a
/// reader that finds it clear would not have found a host route at that moment.
final class HostBlocks {
    let view: HostBlockView
    private let words: UnsafeMutablePointer<UInt64>
    private let counts: UnsafeMutablePointer<UInt32>
    private let countBytes: Int

    /// Every index that a reader may hold has a word.
    private static let wordBytes = 65_536 * 8
    private static let name = "parts of VRFs with host routes"

    /// - Parameter vrfs: VRF indexes that are written are below this.
    init(vrfs: Int) throws(TableError) {
        guard let memory = pe_pages(Self.wordBytes) else {
            throw .outOfMemory(table: Self.name, byteCount: Self.wordBytes)
        }
        words = memory.bindMemory(to: UInt64.self, capacity: 65_536)
        countBytes = vrfs * 64 * 4
        guard let memory = pe_pages(countBytes) else {
            pe_pages_free(words, Self.wordBytes)
            throw .outOfMemory(table: Self.name, byteCount: countBytes)
        }
        counts = memory.bindMemory(to: UInt32.self, capacity: vrfs * 64)
        // No VRF: nothing is said of what is not to be looked up.
        words[0] = .max
        view = HostBlockView(words: UnsafePointer(words))
    }
    deinit {
        pe_pages_free(words, Self.wordBytes)
        pe_pages_free(counts, countBytes)
    }

    private func number(_ address: IPv4Address) -> Int { Int(HostBlockView.number(address.rawValue) & 63) }

    /// A host route may be inserted now: readers look for it from here on. Until ``settle(_:_:by:)``.
    func expect(_ vrf: UInt16, _ address: IPv4Address) {
        let word = words + Int(vrf)
        let changed = word.pointee | 1 << UInt64(number(address))
        if changed != word.pointee { pe_store64(word, changed) }
    }
    /// How many host routes more (1, 0 or -1) an insertion or removal has left.
    func settle(_ vrf: UInt16, _ address: IPv4Address, by change: Int) {
        let count = counts + (Int(vrf) * 64 + number(address))
        count.pointee = UInt32(truncatingIfNeeded: Int(count.pointee) + change)
        if count.pointee == 0 {
            pe_store64(words + Int(vrf), words[Int(vrf)] & ~(1 << UInt64(number(address))))
        }
    }
}
