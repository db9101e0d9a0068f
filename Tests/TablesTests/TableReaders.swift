// Threads that read tables as workers do, while a test changes them.

import TestThreads

@testable import Tables

/// Reads in bursts between quiescent points, on one thread for each reader of `publication`, until `done` is set.
///
/// - Parameter burst: reads, and says how much; `lookups` gets the sum when a thread ends.
func tableReaders(
    of publication: Publication, count: Int = 2, until done: Flag, lookups: Tally, _ burst: @escaping @Sendable () -> Int
) -> [TestThread] {
    (0..<count).map { index in
        let reader = publication.reader(index)
        return TestThread {
            var sum = 0
            while !done.isSet {
                reader.quiescent()
                sum += burst()
            }
            reader.offline()
            lookups.add(sum)
        }
    }
}
