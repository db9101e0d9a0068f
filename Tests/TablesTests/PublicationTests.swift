// Quiescent states, step by step, on one thread: who holds whom up.

import Testing

@testable import Tables

@Suite("Publication (QSBR)")
struct PublicationTests {
    private static func address(_ number: UInt) -> UnsafeRawPointer { UnsafeRawPointer(bitPattern: number * 64)! }

    @Test("a retired snapshot is freed when every online reader was quiescent after it, and not before")
    func grace() {
        let publication = Publication(Self.address(1), readerCount: 2)
        let first = publication.reader(0), second = publication.reader(1)
        first.quiescent()
        second.quiescent()
        var freed = false
        publication.publish(Self.address(2)) { freed = true }
        #expect(first.current == Self.address(2))
        publication.reclaim()
        #expect(!freed)
        first.quiescent()
        publication.reclaim()
        #expect(!freed && publication.retiredCount == 1)
        second.quiescent()
        publication.reclaim()
        #expect(freed && publication.retiredCount == 0)
    }

    @Test("an offline reader does not hold the writer up, and sees the newest snapshot when it is back")
    func offline() {
        let publication = Publication(Self.address(1), readerCount: 2)
        let reader = publication.reader(1)
        reader.quiescent()
        reader.offline()
        var freed = 0
        publication.publish(Self.address(2)) { freed += 1 }
        publication.reclaim()
        #expect(freed == 1)
        reader.quiescent()
        #expect(reader.current == Self.address(2))
        publication.publish(Self.address(3)) { freed += 1 }
        publication.reclaim()
        #expect(freed == 1, "online again, it is waited for")
        reader.quiescent()
        publication.reclaim()
        #expect(freed == 2)
    }

    @Test("snapshots are freed in the order they were retired")
    func order() {
        let publication = Publication(Self.address(1), readerCount: 1)
        let reader = publication.reader(0)
        reader.quiescent()
        var freed: [Int] = []
        for number in 2...5 { publication.publish(Self.address(UInt(number))) { freed.append(number - 1) } }
        publication.reclaim()
        #expect(freed.isEmpty)
        reader.quiescent()
        publication.reclaim()
        #expect(freed == [1, 2, 3, 4])
    }

    @Test("the passed epoch is below what the slowest online reader has announced")
    func passed() {
        let publication = Publication(Self.address(1), readerCount: 2)
        let slow = publication.reader(0), fast = publication.reader(1)
        slow.quiescent()
        let deletion = publication.epoch
        for _ in 0..<5 {
            publication.advance()
            fast.quiescent()
            #expect(publication.reclaim() < deletion)
        }
        slow.quiescent()
        #expect(publication.reclaim() >= deletion)
    }

    @Test("what waits when the publication ends is freed with it")
    func end() {
        var freed = false
        do {
            let publication = Publication(Self.address(1), readerCount: 1)
            publication.reader(0).quiescent()
            publication.publish(Self.address(2)) { freed = true }
            publication.reclaim()
        }
        #expect(freed)
    }
}

@Suite("Index pool")
struct IndexPoolTests {
    @Test("hands each index out once, again after its epoch, and says when it is full")
    func reuse() throws {
        var pool = IndexPool(name: "test", first: 1, limit: 4)
        #expect(try [pool.take(), pool.take(), pool.take()] == [1, 2, 3])
        #expect(throws: TableError.full(table: "test", limit: 4)) { try pool.take() }
        pool.release(2, epoch: 5)
        pool.release(3, epoch: 6)
        pool.reclaim(through: 4)
        #expect(throws: TableError.self) { try pool.take() }
        pool.reclaim(through: 5)
        #expect(try pool.take() == 2)
        #expect(throws: TableError.self) { try pool.take() }
        pool.reclaim(through: 9)
        #expect(try pool.take() == 3)
    }
}
