// How a prefix trie changes under its readers: making room for a prefix, painting its words, collapsing.

import CLinux

/// But for wide roots a trie's shape depends on its prefixes alone, not on their history. Consider the prefixes below a
/// word at byte `depth`, all of whose addresses share the bytes before. None: the word is a leaf. One: a
/// test of it. More, with the first `n` whole bytes in common: a branch at byte `n`, behind a test of
/// these bytes when `n` is beyond `depth`; a prefix of just these bytes is what the test's hit gives
/// where nothing longer does. A test's miss is a leaf, and so is the hit of one that ends within a byte.
extension PrefixTrie {
    typealias Slot = UnsafeMutablePointer<UInt64>

    private func publish(_ slot: Slot, _ word: UInt64, epoch: UInt64) {
        let old = slot.pointee
        pe_store64(slot, word)
        nodes.retire(old, epoch: epoch)
    }
    /// Empties a VRF's family in one store.
    func clear(_ root: Slot, epoch: UInt64) {
        let old = root.pointee
        pe_store64(root, TrieWord.miss)
        nodes.retireAll(old, epoch: epoch)
    }
    /// The values that the byte at `depth`, in which `key` ends, has under it.
    private func range(_ key: PrefixKey, depth: Int) -> Range<Int> {
        let first = key.byte(depth)
        return first..<first + 1 << (8 * depth + 8 - key.length)
    }
    /// The same of the first two bytes, for a key of at most 16 bits.
    private func wideRange(_ key: PrefixKey) -> Range<Int> {
        let first = Int(key.high >> 48)
        return first..<first + 1 << (16 - key.length)
    }
    private func entry(_ word: UInt64, _ value: Int) -> Slot {
        Slot(mutating: TrieWord.entry(word, nodes.node(word), value))
    }

    // MARK: Insertion

    /// Makes the words of a new prefix and gives them its value. False without room: nothing changed.
    func place(_ key: PrefixKey, _ leaf: UInt64, epoch: UInt64) -> Bool {
        var slot = root(key)
        var depth = 0
        while key.length > 8 * depth {
            let word = slot.pointee
            let changed: UInt64?
            if !TrieWord.isNode(word) {
                changed = nodes.test(key, length: key.length, hit: leaf, miss: word)
            } else if TrieWord.isTest(word) {
                let node = nodes.node(word), length = Int(TrieWord.length(word))
                if key.length >= length && key.common(node[0], node[1]) >= length && length & 7 == 0 {
                    slot = node + 2
                    depth = length / 8
                    continue
                }
                changed = parting(word, key, leaf, depth: depth)
            } else if TrieWord.isWide(word) {
                // A shorter prefix has words of its own in it.
                guard key.length >= 16 else { break }
                slot = entry(word, Int(key.high >> 48))
                depth = 2
                continue
            } else if key.length >= 8 * depth + 8 {
                let value = key.byte(depth)
                if isAlone(word, value) {
                    slot = entry(word, value)
                    depth += 1
                    continue
                }
                expand(word)
                slots[value] = below(slots[value], key, leaf, depth: depth)
                changed = nodes.branch(slots, runs: TrieRuns(slots, depth: depth), depth: depth)
            } else {
                changed = dividing(word, key, leaf, depth: depth)
            }
            guard nodes.commit() else { return false }
            if let changed { publish(slot, changed, epoch: epoch) }
            break
        }
        // What lies within the prefix, below, has no other shape for it.
        repaint(key, leaf)
        return true
    }

    /// The word for a prefix that goes through or ends at one value of a branch, where a leaf was.
    private func below(_ word: UInt64, _ key: PrefixKey, _ leaf: UInt64, depth: Int) -> UInt64 {
        key.length == 8 * depth + 8 ? leaf : nodes.test(key, length: key.length, hit: leaf, miss: word)
    }
    /// Whether one value of a branch's byte has an entry of its own.
    private func isAlone(_ word: UInt64, _ value: Int) -> Bool {
        TrieWord.isDirect(word) || isStart(word, value) && isStart(word, value + 1)
    }
    private func isStart(_ word: UInt64, _ value: Int) -> Bool {
        value == 256 || nodes.node(word)[value >> 6] >> UInt64(value & 63) & 1 == 1
    }
    /// Writes a branch's 256 words to ``slots``.
    private func expand(_ word: UInt64) {
        let node = nodes.node(word)
        if TrieWord.isDirect(word) {
            slots.update(from: node, count: 256)
            return
        }
        var entry = 3
        for quarter in 0..<4 {
            var bits = node[quarter]
            for value in quarter * 64..<quarter * 64 + 64 {
                entry += Int(bits & 1)
                bits >>= 1
                slots[value] = node[entry]
            }
        }
    }
    private func paintSlots(_ range: Range<Int>, _ leaf: UInt64) {
        for value in range where !TrieWord.isNode(slots[value]) && TrieWord.owner(slots[value]) < TrieWord.owner(leaf) {
            slots[value] = leaf
        }
    }

    /// A branch whose runs do not cross the ends of a prefix that ends in its byte; nil when it is so.
    private func dividing(_ word: UInt64, _ key: PrefixKey, _ leaf: UInt64, depth: Int) -> UInt64? {
        let range = range(key, depth: depth)
        if TrieWord.isDirect(word) || isStart(word, range.lowerBound) && isStart(word, range.upperBound) { return nil }
        expand(word)
        paintSlots(range, leaf)
        return nodes.branch(slots, runs: TrieRuns(slots, depth: depth), depth: depth)
    }

    /// What a test and a prefix that does not lie within it become.
    ///
    /// The test itself stays as it is for readers that are in it: below a new node, where its misses
    /// are fewer, stands a copy.
    private func parting(_ word: UInt64, _ key: PrefixKey, _ leaf: UInt64, depth: Int) -> UInt64 {
        let node = nodes.node(word), length = Int(TrieWord.length(word))
        let tested = PrefixKey(high: node[0], low: node[1], length: length, vrf: key.vrf, isIPv6: key.isIPv6)
        let common = min(key.common(node[0], node[1]), key.length, length)
        let shared = common / 8
        let inner: UInt64
        if key.length == 8 * shared {
            inner = nodes.test(tested, length: length, hit: node[2], miss: leaf)
        } else {
            slots.update(repeating: node[3], count: 256)
            if length <= 8 * shared + 8 {
                for value in range(tested, depth: shared) { slots[value] = node[2] }
            } else {
                slots[tested.byte(shared)] = nodes.test(tested, length: length, hit: node[2], miss: node[3])
            }
            if key.length < 8 * shared + 8 {
                paintSlots(range(key, depth: shared), leaf)
            } else {
                slots[key.byte(shared)] = below(slots[key.byte(shared)], key, leaf, depth: shared)
            }
            inner = nodes.branch(slots, runs: TrieRuns(slots, depth: shared), depth: shared)
        }
        return shared == depth ? inner : nodes.test(key, length: 8 * shared, hit: inner, miss: node[3])
    }

    // MARK: Wide roots

    /// Puts a wide node in the place of a root and of all that decides about the first two bytes; where
    /// there is no room, or one already, the root stays.
    func widen(_ root: Slot, epoch: UInt64) {
        let old = root.pointee
        guard !TrieWord.isWide(old), let number = nodes.wide() else { return }
        fill(nodes.node(number: number), 0..<TrieWord.wideCount, old, depth: 0)
        pe_store64(root, TrieWord.wide(number))
        retireUpper(old, depth: 0, epoch: epoch)
    }
    /// Writes the words that addresses with `range` in their first two bytes reach from `word` at byte `depth`.
    private func fill(_ wide: Slot, _ range: Range<Int>, _ word: UInt64, depth: Int) {
        guard TrieWord.isNode(word), depth < 2 else {
            (wide + range.lowerBound).update(repeating: word, count: range.count)
            return
        }
        guard TrieWord.isTest(word) else {
            let size = range.count / 256
            for value in 0..<256 {
                let first = range.lowerBound + value * size
                fill(wide, first..<first + size, entry(word, value).pointee, depth: depth + 1)
            }
            return
        }
        let node = nodes.node(word), length = Int(TrieWord.length(word)), first = Int(node[0] >> 48)
        fill(wide, range, node[3], depth: 2)
        if length > 16 {
            wide[first] = word
        } else {
            fill(wide, first..<first + 1 << (16 - length), node[2], depth: length / 8)
        }
    }
    /// Retires the nodes that a wide one stands for.
    private func retireUpper(_ word: UInt64, depth: Int, epoch: UInt64) {
        guard TrieWord.isNode(word), depth < 2 else { return }
        if TrieWord.isTest(word) {
            let length = Int(TrieWord.length(word))
            if length > 16 { return }
            retireUpper(nodes.node(word)[2], depth: length / 8, epoch: epoch)
        } else {
            for entry in nodes.entries(word) { retireUpper(entry, depth: depth + 1, epoch: epoch) }
        }
        nodes.retire(word, epoch: epoch)
    }

    // MARK: Painting

    /// Gives a prefix's words another leaf, each in place; those of longer prefixes stay.
    func repaint(_ key: PrefixKey, _ leaf: UInt64) {
        var slot = root(key)
        var depth = 0
        path.removeAll(keepingCapacity: true)
        while key.length > 8 * depth {
            let word = slot.pointee
            guard TrieWord.isNode(word) else { return }
            if TrieWord.isWide(word) {
                if key.length < 16 {
                    paint(word, wideRange(key), leaf, below: UInt64(key.length + 1))
                    return
                }
                slot = entry(word, Int(key.high >> 48))
                depth = 2
                continue
            }
            path.append((slot, depth))
            if TrieWord.isTest(word) {
                let length = Int(TrieWord.length(word))
                guard key.length >= length else { return }
                slot = nodes.node(word) + 2
                depth = length / 8
                if key.length == length { break }
            } else if key.length >= 8 * depth + 8 {
                slot = entry(word, key.byte(depth))
                depth += 1
            } else {
                paint(word, range(key, depth: depth), leaf, below: UInt64(key.length + 1))
                return
            }
        }
        paint(slot, leaf, below: UInt64(key.length + 1))
    }

    /// Paints the entries of a branch for some values, with which runs begin and end.
    private func paint(_ word: UInt64, _ range: Range<Int>, _ leaf: UInt64, below limit: UInt64) {
        var entry = entry(word, range.lowerBound)
        let last = self.entry(word, range.upperBound - 1)
        while entry <= last {
            paint(entry, leaf, below: limit)
            entry += 1
        }
    }
    /// Stores `leaf` in every leaf under `slot` whose owner is not above `limit`.
    private func paint(_ slot: Slot, _ leaf: UInt64, below limit: UInt64) {
        let word = slot.pointee
        if !TrieWord.isNode(word) {
            if TrieWord.owner(word) <= limit && word != leaf { pe_store64(slot, leaf) }
        } else if TrieWord.isTest(word) {
            paint(nodes.node(word) + 2, leaf, below: limit)
            paint(nodes.node(word) + 3, leaf, below: limit)
        } else {
            let entries = nodes.entries(word)
            guard let first = entries.baseAddress else { return }
            for index in 0..<entries.count { paint(first + index, leaf, below: limit) }
        }
    }

    // MARK: Collapsing

    /// Gives the nodes on the path of a prefix that was removed their shape without it. Where there is
    /// no room for a smaller node the larger one stays: it answers the same.
    func collapse(_ key: PrefixKey, epoch: UInt64) {
        for (slot, depth) in path.reversed() {
            let word = slot.pointee
            let changed = TrieWord.isTest(word) ? collapsedTest(word) : collapsedBranch(word, key, depth: depth)
            guard nodes.commit(), let changed else { return }
            publish(slot, changed, epoch: epoch)
        }
    }

    /// What a test becomes; nil when it stays.
    private func collapsedTest(_ word: UInt64) -> UInt64? {
        let hit = nodes.node(word)[2], miss = nodes.node(word)[3]
        if hit == miss { return miss }
        // An inner test compares all bits.
        return TrieWord.isTest(hit) && nodes.node(hit)[3] == miss ? hit : nil
    }

    /// What a branch becomes; nil when it stays.
    private func collapsedBranch(_ word: UInt64, _ key: PrefixKey, depth: Int) -> UInt64? {
        expand(word)
        let runs = TrieRuns(slots, depth: depth)
        if runs.count == 1 { return slots[0] }
        if runs.count <= 3, let single = single(runs.starts, key, depth: depth) { return single }
        let isSame =
            TrieWord.isDirect(word)
            ? runs.count >= TrieWord.directCount : runs.count == TrieWord.runCount(word, nodes.node(word))
        return isSame ? nil : nodes.branch(slots, runs: runs, depth: depth, isShrinking: true)
    }

    /// The word of a branch that has one prefix or node, and around it a leaf; nil when it has more.
    private func single(_ starts: [Int], _ key: PrefixKey, depth: Int) -> UInt64? {
        let inner = starts.filter { start in
            TrieWord.isNode(slots[start]) || TrieWord.owner(slots[start]) > UInt64(8 * depth + 1)
        }
        guard inner.count == 1 else { return nil }
        let word = slots[inner[0]]
        let around = slots[inner[0] == 0 ? 255 : 0]
        let found = key.replacing(byte: depth, by: inner[0])
        if !TrieWord.isNode(word) {
            let length = Int(TrieWord.owner(word)) - 1
            return nodes.test(found, length: length, hit: word, miss: around, isShrinking: true)
        }
        if TrieWord.isTest(word) && nodes.node(word)[3] == around { return word }
        return nodes.test(found, length: 8 * depth + 8, hit: word, miss: around, isShrinking: true)
    }
}
