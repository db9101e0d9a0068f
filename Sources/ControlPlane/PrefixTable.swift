// Prefixes to values with longest match, as the control plane keeps routes.

import Wire

/// A dictionary of prefixes that also answers longest-prefix matches: one look-up per prefix length
/// in use, longest first.
struct PrefixTable<Value> {
    private(set) var entries: [IPPrefix: Value] = [:]
    /// The prefixes, while they are few: most look-ups find nothing, and need no hash for it.
    private var few: [IPPrefix] = []
    private static var fewLimit: Int { 8 }
    private var v4Lengths = [Int](repeating: 0, count: 33)
    private var v6Lengths = [Int](repeating: 0, count: 129)

    var count: Int { entries.count }
    var isEmpty: Bool { entries.isEmpty }

    /// The value of exactly `prefix`, whose host bits are clear.
    subscript(prefix: IPPrefix) -> Value? {
        get { mayHave(prefix) ? entries[prefix] : nil }
        _modify {
            let had = entries[prefix] != nil
            yield &entries[prefix]
            settle(prefix, had)
        }
    }
    subscript(prefix: IPPrefix, default fallback: @autoclosure () -> Value) -> Value {
        get { self[prefix] ?? fallback() }
        _modify {
            let had = entries[prefix] != nil
            yield &entries[prefix, default: fallback()]
            settle(prefix, had)
        }
    }
    func contains(_ prefix: IPPrefix) -> Bool { mayHave(prefix) && entries[prefix] != nil }

    private func mayHave(_ prefix: IPPrefix) -> Bool {
        if entries.count <= Self.fewLimit { return few.contains(prefix) }
        return (prefix.address.isV4 ? v4Lengths[prefix.length] : v6Lengths[prefix.length]) > 0
    }
    private mutating func settle(_ prefix: IPPrefix, _ had: Bool) {
        let has = entries[prefix] != nil
        if had == has { return }
        if prefix.address.isV4 {
            v4Lengths[prefix.length] += has ? 1 : -1
        } else {
            v6Lengths[prefix.length] += has ? 1 : -1
        }
        if entries.count > Self.fewLimit {
            few = []
        } else if has && entries.count == few.count + 1 {
            few.append(prefix)
        } else {
            few = Array(entries.keys)
        }
    }

    /// The longest prefix around `address` whose value `accept`s.
    func longestMatch(_ address: IPAddress, where accept: (Value) -> Bool) -> (
        prefix: IPPrefix, value: Value
    )? {
        let lengths = address.isV4 ? v4Lengths : v6Lengths
        for length in stride(from: address.bitCount, through: 0, by: -1) where lengths[length] > 0 {
            guard let prefix = IPPrefix(address, length: length)?.network,
                let value = self[prefix],
                accept(value)
            else { continue }
            return (prefix, value)
        }
        return nil
    }
}
