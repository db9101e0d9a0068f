// Prefixes to values with longest match, as the control plane keeps routes.

import Wire

/// A dictionary of prefixes that also answers longest-prefix matches: one look-up per prefix length
/// in use, longest first.
struct PrefixTable<Value> {
    private(set) var entries: [IPPrefix: Value] = [:]
    private var v4Lengths = [Int](repeating: 0, count: 33)
    private var v6Lengths = [Int](repeating: 0, count: 129)

    var count: Int { entries.count }
    var isEmpty: Bool { entries.isEmpty }

    /// The value of exactly `prefix`, whose host bits are clear.
    subscript(prefix: IPPrefix) -> Value? {
        get { entries[prefix] }
        _modify {
            let had = entries[prefix] != nil
            yield &entries[prefix]
            let has = entries[prefix] != nil
            if had != has { note(prefix, has ? 1 : -1) }
        }
    }
    subscript(prefix: IPPrefix, default fallback: @autoclosure () -> Value) -> Value {
        get { entries[prefix] ?? fallback() }
        _modify {
            if entries[prefix] == nil { note(prefix, 1) }
            yield &entries[prefix, default: fallback()]
        }
    }
    private mutating func note(_ prefix: IPPrefix, _ change: Int) {
        if prefix.address.isV4 {
            v4Lengths[prefix.length] += change
        } else {
            v6Lengths[prefix.length] += change
        }
    }

    /// Changes every value; nil removes it.
    mutating func updateAll(_ body: (IPPrefix, inout Value) -> Bool) {
        for prefix in Array(entries.keys) {
            guard var value = entries[prefix] else { continue }
            if body(prefix, &value) { self[prefix] = value } else { self[prefix] = nil }
        }
    }

    /// The longest prefix around `address` whose value `accept`s.
    func longestMatch(_ address: IPAddress, where accept: (Value) -> Bool) -> (
        prefix: IPPrefix, value: Value
    )? {
        let lengths = address.isV4 ? v4Lengths : v6Lengths
        for length in stride(from: address.bitCount, through: 0, by: -1) where lengths[length] > 0 {
            guard let prefix = IPPrefix(address, length: length)?.network,
                let value = entries[prefix],
                accept(value)
            else { continue }
            return (prefix, value)
        }
        return nil
    }
}
