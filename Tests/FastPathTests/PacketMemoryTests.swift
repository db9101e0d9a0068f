// Packets lie in transparent huge pages where they can, in small ones where they cannot, and close together.

import CDPDK
import Glibc
import TestSupport
import Testing

@testable import FastPath

private let huge = MemoryPlan.hugePage, page = MemoryPlan.page

@Suite("Plan of memory without reserved pages") struct MemoryPlanTests {
    @Test("memory that is planned begins where a huge page may, at most five pages behind EAL's tables",
        arguments: [1, 64, 97, 108, 143, 144, 250, 252, 833, 2577, 70_000])
    func aligned(wanted: Int) throws {
        let plan = try #require(MemoryPlan(wanted: wanted, base: pe_memory_base(), tables: pe_memory_tables))
        #expect(plan.megabytes >= wanted && plan.megabytes <= wanted + 513)
        #expect(plan.occupied.upperBound % huge == 0)
        #expect(plan.occupied.lowerBound == pe_memory_base() + pe_memory_tables(UInt64(plan.megabytes) << 20))
        #expect(plan.occupied.upperBound - plan.occupied.lowerBound <= 5 * page)
        // An odd megabyte would be left over at the end, which is what EAL gives away first.
        #expect(plan.megabytes % 2 == 0)
    }

    @Test("tables that never end near a huge page, or sizes beyond reason, have no plan") func none() {
        #expect(MemoryPlan(wanted: 100, base: 0, tables: { _ in page }) == nil)
        #expect(MemoryPlan(wanted: 100, base: 1, tables: { _ in huge - page }) == nil)
        #expect(MemoryPlan(wanted: 0, base: 0, tables: { _ in huge }) == nil)
        #expect(MemoryPlan(wanted: .max, base: 0, tables: { _ in huge }) == nil)
        #expect(MemoryPlan(wanted: 100, base: 0, tables: { _ in huge })?.occupied.isEmpty == true)
        #expect(MemoryPlan(wanted: 100, base: .max - 5, tables: { _ in 3 }) == nil)
    }

    @Test("of shared memory only what lies like its file can be covered, of anonymous memory whole huge pages")
    func coverable() {
        func range(_ start: UInt64, _ size: UInt64, offset: UInt64 = 0, isFile: Bool) -> Range<UInt64>? {
            PageGatherer.coverable(
                pe_memory_range(start: start, size: size, offset: offset, is_file: isFile ? 1 : 0))
        }
        #expect(range(4 * huge, 3 * huge, isFile: true) == 4 * huge..<7 * huge)
        #expect(range(4 * huge, 3 * huge + page, isFile: true) == 4 * huge..<7 * huge)
        #expect(range(4 * huge + page, 3 * huge, isFile: true) == nil)
        #expect(range(4 * huge + page, 3 * huge, offset: page, isFile: true) == 5 * huge..<7 * huge)
        #expect(range(4 * huge + page, 3 * huge, isFile: false) == 5 * huge..<7 * huge)
        #expect(range(4 * huge + page, huge, isFile: false) == nil)
        #expect(range(.max - page, 2 * page, isFile: false) == nil)
        #expect(range(.max - huge, huge, isFile: false) == nil)
    }
}

@Suite("Gathering small pages into huge ones") struct PageGathererTests {
    /// What the kernel was asked, and what it says.
    final class Kernel {
        var calls: [Range<UInt64>] = []
        var refuses: (Range<UInt64>) -> Int32 = { _ in 0 }
        func collapse(_ start: UInt64, _ size: UInt64) -> Int32 {
            calls.append(start / huge..<(start + size) / huge)
            return refuses(calls[calls.count - 1])
        }
    }
    let kernel = Kernel()
    func gatherer(_ count: UInt64) -> PageGatherer {
        PageGatherer(range: 0..<count * huge, collapse: kernel.collapse)
    }

    @Test("what is wanted is gathered in few calls, and once") func once() {
        var gatherer = gatherer(40)
        gatherer.gather { $0 >= 20 }
        #expect(kernel.calls == [20..<36, 36..<40])
        #expect(gatherer.megabytes == 40 && gatherer.failure == 0)
        gatherer.gather { $0 % 4 == 0 }
        #expect(Array(kernel.calls[2...]) == [0..<1, 4..<5, 8..<9, 12..<13, 16..<17])
        #expect(gatherer.megabytes == 50)
    }

    @Test("one place that fails does not keep its neighbours from it") func one() {
        kernel.refuses = { $0.contains(3) ? -EBUSY : 0 }
        var gatherer = gatherer(8)
        gatherer.gather { _ in true }
        #expect(gatherer.megabytes == 14 && gatherer.failure == EBUSY)
        #expect(!gatherer.isGathered[3])
    }

    @Test("a kernel that cannot is asked a few times, not for every page",
        arguments: [EINVAL, ENOMEM, EAGAIN, ENOSYS])
    func refused(code: Int32) {
        kernel.refuses = { _ in -code }
        var gatherer = gatherer(4096)
        gatherer.gather { _ in true }
        gatherer.gather { _ in true }
        #expect(kernel.calls.count <= 1 + PageGatherer.failuresAllowed)
        #expect(gatherer.megabytes == 0 && gatherer.failure == code)
    }
}

@Suite("Pages of packets") struct PacketMemoryTests {
    @Test("obstacles are named, and the administrator's never holds") func obstacles() {
        func obstacle(_ enabled: String?, _ shared: String? = "always [never] deny", nics: Bool = false) -> String? {
            PacketMemory.obstacle(enabled: enabled, shared: shared, hasNICs: nics)
        }
        #expect(obstacle("always [madvise] never") == nil)
        #expect(obstacle("[always] madvise never", nil) == nil)
        #expect(obstacle("always madvise [never]")?.contains("says never") == true)
        #expect(obstacle("always [madvise] never", "always never [deny]")?.contains("says deny") == true)
        #expect(obstacle(nil)?.contains("no transparent") == true)
        #expect(obstacle("always [madvise] never", nics: true)?.contains("NIC") == true)
    }

    @Test("text says what is used, how much, and why not") func text() {
        #expect(PacketMemory.reserved.text == "reserved huge pages")
        var memory = PacketMemory(pages: .transparent, transparentMegabytes: 50, usedMegabytes: 52)
        #expect(memory.text == "transparent huge pages: 50 of 52 MB")
        memory.pages = .small
        memory.reason = "why"
        #expect(memory.text == "transparent huge pages: 50 of 52 MB (why)")
        memory.transparentMegabytes = 0
        #expect(memory.text == "4 KB pages (why)")
    }

    @Test("EAL's memory begins where huge pages fit, as planned") func planned() throws {
        let environment = TestEnvironment.shared
        guard TransparentMemory.obstacle(environment.options) == nil else { return }
        var memory = pe_memory_range()
        #expect(pe_memory_range_get(&memory) == 0)
        #expect(PageGatherer.coverable(memory) != nil)
        #expect((memory.start &- memory.offset) % huge == 0 && memory.size % huge == 0)
        #expect(memory.size >> 20 >= environment.options.neededMegabytes)
    }

    @Test("buffers without reserved pages lie behind each other, also across pages", arguments: [2176, 2432, 9216])
    func packed(dataRoom: Int) throws {
        let count = 1000, pool = Pool(count: count, dataRoom: dataRoom)
        var buffers: [UnsafeMutablePointer<pe_mbuf>] = []
        for _ in 0..<count { buffers.append(try #require(pe_mbuf_alloc(pool.pointer))) }
        #expect(pe_mbuf_alloc(pool.pointer) == nil)
        let places = buffers.map { Int(bitPattern: $0) }.sorted()
        let strides = zip(places, places.dropFirst()).map { $1 - $0 }
        #expect(Set(strides).count == 1)
        #expect(strides[0] >= dataRoom + 128 && strides[0] <= dataRoom + 256 + 192)
        for buffer in buffers {
            #expect(Int(buffer.pointee.buf_len) == dataRoom)
            #expect(buffer.pointee.buf_iova == UInt64(UInt(bitPattern: buffer.pointee.buf_addr)))
            memset(buffer.pointee.buf_addr, 0xA5, dataRoom)
        }
        for buffer in buffers {
            #expect(buffer.pointee.data_off == 128 && buffer.pointee.pool == UnsafeMutableRawPointer(pool.pointer))
            pe_mbuf_free(buffer)
        }
        #expect(pool.isFull)
    }

    @Test("a pool's memory comes back with it") func returned() throws {
        // Together far more than EAL has.
        for _ in 0..<40 { #expect(Pool(count: 8191, dataRoom: 2176).isFull) }
    }
}

@Suite("Pages of packets in a process of its own") struct PacketMemoryProcessTests {
    @Test("the size that is given is the size there is; huge pages that do not fit it are done without, and it is said")
    func given() async {
        await #expect(processExitsWith: .success) {
            var options = EnvironmentOptions()
            options.workerCPUs = [0]
            options.hugepages = .never
            options.bufferCount = 2048
            options.memoryMegabytes = 111
            options.filePrefix = "pe-dp-given-\(getpid())"
            let found = try Environment.start(options).memory
            var memory = pe_memory_range()
            guard pe_memory_range_get(&memory) == 0, memory.size == 111 << 20 else { exit(4) }
            guard PageGatherer.coverable(memory) == nil else { exit(5) }
            guard found.pages == .small, found.transparentMegabytes == 0, found.reason != nil else { exit(6) }
            exit(0)
        }
    }
}
