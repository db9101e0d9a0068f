// Hands out indexes of tables, and takes them back when no worker can hold them any more.

/// Indexes that are handed out once each, and again only when every worker has forgotten them.
struct IndexPool {
    let name: String
    let limit: Int
    private var next: Int
    private var free: [Int] = []
    private var resting: [(index: Int, epoch: UInt64)] = []

    init(name: String, first: Int, limit: Int) {
        self.name = name
        self.limit = limit
        next = first
    }
    mutating func take() throws(TableError) -> Int {
        if let index = free.popLast() { return index }
        guard next < limit else { throw .full(table: name, limit: limit) }
        next += 1
        return next - 1
    }
    mutating func release(_ index: Int, epoch: UInt64) { resting.append((index, epoch)) }
    mutating func reclaim(through epoch: UInt64) {
        guard let first = resting.first, first.epoch <= epoch else { return }
        free += resting.filter { $0.epoch <= epoch }.map(\.index)
        resting.removeAll { $0.epoch <= epoch }
    }
}
