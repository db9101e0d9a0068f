// Replays what fuzzing found, and the seeds that it starts from.

import FuzzTargets
import Testing

@Suite("Fuzz regressions", .serialized)
struct RegressionTests {
    static let root = (#filePath as String).split(separator: "/").dropLast(3).reduce("") { $0 + "/" + $1 }

    @Test("every kept finding and every seed runs without a fault", arguments: FuzzTarget.allCases)
    func replay(target: FuzzTarget) {
        for finding in target.regressions(root: Self.root) {
            finding.bytes.withUnsafeBytes { target.run($0) }
        }
        let seeds = target.seeds(root: Self.root)
        #expect(seeds.count > 5)
        for seed in seeds { seed.withUnsafeBytes { target.run($0) } }
    }
}
