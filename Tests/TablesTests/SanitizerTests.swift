// That ThreadSanitizer sees the accesses of the tables at all: scripts/tsan runs these on purpose.

import CLinux
import Glibc
import Testing
import TestThreads

@testable import Tables

@Suite("ThreadSanitizer")
struct SanitizerTests {
    @Test("the key match is the one that the sanitizer sees", .enabled(if: getenv("PE_EXPECT_SCALAR_MATCH") != nil))
    func scalarMatch() { #expect(pe_match_is_scalar() == 1) }

    /// A key stored without ordering while a lookup matches it: must be reported, or a clean run
    /// says nothing. `PE_PLANT_RACE` is set by scripts/tsan, which expects the report.
    @Test("a planted race in a bucket is found", .enabled(if: getenv("PE_PLANT_RACE") != nil))
    func plantedRace() {
        let bucket = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)
        bucket.initializeMemory(as: UInt64.self, repeating: 0, count: 8)
        let address = UInt(bitPattern: bucket)
        let writer = TestThread {
            UnsafeMutablePointer<UInt64>(bitPattern: address)![2] = 3
        }
        // Long enough for the store, and nothing that would order it.
        usleep(200_000)
        let found = pe_match5(bucket, 3)
        writer.join()
        bucket.deallocate()
        #expect(found == 1 << 2)
    }
}
