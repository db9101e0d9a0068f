// Lookups that say how many words or lines they read: for benchmarks and tests; workers' own do not count.

import CLinux

extension BucketView {
    /// The answer of ``value(of:in:)``, and the buckets (cache lines) that were read for it.
    public func countedValue(of key: UInt64) -> (value: UInt32, buckets: Int) {
        var bucket = bucket(of: key)
        var count = 1
        while true {
            let found = pe_match5(bucket, key)
            if found != 0 {
                let offset = 40 + found.trailingZeroBitCount * 4
                return (pe_load32((bucket + offset).assumingMemoryBound(to: UInt32.self)), count)
            }
            let next = pe_load32((bucket + 60).assumingMemoryBound(to: UInt32.self))
            if next == 0 { return (BucketView.miss, count) }
            bucket = buckets + Int(next) << 6
            count += 1
        }
    }
}

extension TrieView {
    /// The answer of ``lookup(vrf:ipv4:)``, and the words that were followed for it.
    public func countedLookup(vrf: UInt16, ipv4 address: UInt32) -> (value: UInt32, words: Int) {
        var word = start(vrf: vrf, ipv4: address)
        var count = 1
        while TrieWord.isNode(word) {
            word = next(word, UInt64(address) << 32)
            count += 1
        }
        return (TrieWord.value(word), count)
    }
    /// The answer of ``lookup(vrf:ipv6:_:)``, and the words that were followed for it.
    public func countedLookup(vrf: UInt16, ipv6 high: UInt64, _ low: UInt64) -> (value: UInt32, words: Int) {
        var word = startIPv6(vrf: vrf)
        var count = 1
        while TrieWord.isNode(word) {
            word = next(word, high, low)
            count += 1
        }
        return (TrieWord.value(word), count)
    }
}
