// Seeds and kept findings as files: what a fuzzer starts from, and what the everyday tests replay.

import Foundation

/// The fuzz targets by name, as `scripts/fuzz` and `fuzz/regressions` call them.
public enum FuzzTarget: String, CaseIterable, Sendable {
    case control, pipeline, configuration

    /// Runs one input; the pipeline's world is made on first use.
    public func run(_ bytes: UnsafeRawBufferPointer) {
        switch self {
        case .control: ControlFuzz.run(bytes)
        case .pipeline: Self.pipelineFuzz.run(bytes)
        case .configuration: ConfigurationFuzz.run(bytes)
        }
    }
    private nonisolated(unsafe) static let pipelineFuzz: PipelineFuzz = {
        do { return try PipelineFuzz() } catch { fatalError("the pipeline's tables: \(error)") }
    }()

    /// Inputs to start from, made of the repository at `root`.
    public func seeds(root: String) -> [[UInt8]] {
        func read(_ folder: String, _ suffix: String) -> [[UInt8]] {
            let base = "\(root)/\(folder)"
            let names = (FileManager.default.enumerator(atPath: base)?.allObjects as? [String] ?? []).sorted()
            return names.filter { $0.hasSuffix(suffix) }.compactMap { name in
                FileManager.default.contents(atPath: "\(base)/\(name)").map { [UInt8]($0) }
            }
        }
        switch self {
        case .control:
            let recordings = "Tests/ControlPlaneTests/Recordings"
            let dumps = ["links-default.bin", "links-vrf.bin", "links-svd.bin", "links-vlan.bin"]
            return ControlFuzz.seeds(
                fpm: read(recordings, ".bin").filter { $0.first == 1 },
                dumps: dumps.flatMap { read(recordings, $0) })
        case .pipeline: return PipelineFuzz.seeds
        case .configuration:
            let texts = read("packaging/examples", ".yaml") + read("Tests", ".yaml")
            return texts + texts.flatMap(Self.pieces)
        }
    }

    /// The top-level sections of a YAML text, one by one: short inputs mutate better.
    private static func pieces(_ text: [UInt8]) -> [[UInt8]] {
        var pieces: [[UInt8]] = [], current: [UInt8] = []
        for line in text.split(separator: 10, omittingEmptySubsequences: false) {
            if let first = line.first, first != 32, first != 35, !current.isEmpty {
                pieces.append(current)
                current = []
            }
            if line.first != 35 { current += line + [10] }
        }
        return pieces + [current]
    }

    /// Kept findings and their file names.
    public func regressions(root: String) -> [(name: String, bytes: [UInt8])] {
        let folder = "\(root)/fuzz/regressions/\(rawValue)"
        let names = ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).sorted()
        return names.filter { !$0.hasPrefix(".") }.compactMap { name in
            FileManager.default.contents(atPath: "\(folder)/\(name)").map { (name, [UInt8]($0)) }
        }
    }

    /// With `PE_FUZZ_FAULT` set, commits a fault that the fuzzer has to find, and ends the process.
    public func commitFaultIfAsked() {
        guard ProcessInfo.processInfo.environment["PE_FUZZ_FAULT"] != nil else { return }
        switch self {
        case .pipeline: Self.pipelineFuzz.readPastFrame()
        case .control, .configuration:
            // Of a size that the optimiser does not know, and read where it cannot see it.
            let block = [UInt8](ProcessInfo.processInfo.arguments.joined().utf8)
            block.withUnsafeBytes { bytes in
                guard let end = bytes.baseAddress.map({ $0 + bytes.count }) else { return }
                print("not found: byte past the block is \(end.load(as: UInt8.self))")
            }
        }
        exit(0)
    }

    /// With `PE_FUZZ_SEEDS` set, writes the seeds there and ends the process.
    public func writeSeedsIfAsked() {
        let environment = ProcessInfo.processInfo.environment
        guard let folder = environment["PE_FUZZ_SEEDS"], let root = environment["PE_FUZZ_ROOT"] else { return }
        for (number, seed) in seeds(root: root).enumerated() {
            guard FileManager.default.createFile(atPath: "\(folder)/seed-\(number)", contents: Data(seed)) else {
                fatalError("\(folder): cannot be written")
            }
        }
        exit(0)
    }
}
