// The recorded FPM streams and netlink dumps, read from beside this file.

import Foundation

@testable import ControlPlane

/// Recorded input; see Recordings/README.md.
enum Recording {
    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("Recordings")
    static let names = [
        "A-844-default-nhg", "C-844-default-nhg-restarts", "D-844-default-nonhg", "G-844-vrf-nhg",
        "K-1070-default-nhg", "L-1070-default-nonhg", "M2-1070-default-l2restart",
        "Q2-844-oldfpm-restart", "R-1070-svd-nonhg", "Y-1070-vlan-mh",
    ]
    static let linkDumps = ["links-default", "links-vrf", "links-vlan", "links-svd"]

    static func bytes(_ path: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: folder.appendingPathComponent(path)))
    }
    static func text(_ path: String) throws -> String {
        try String(contentsOf: folder.appendingPathComponent(path), encoding: .utf8)
    }
    /// The connections of a recording, in the order they were made.
    static func connections(_ name: String) throws -> [(number: Int, bytes: [UInt8])] {
        var result: [(number: Int, bytes: [UInt8])] = []
        while case let number = result.count + 1,
            let bytes = try? bytes("\(name)/conn-\(number).bin")
        {
            result.append((number, bytes))
        }
        return result
    }
    /// Every stream of every recording.
    static func allStreams() throws -> [[UInt8]] {
        try names.flatMap { try connections($0).map(\.bytes) }
    }
    /// The netlink payloads of a stream's frames, cut by hand.
    static func payloads(_ stream: [UInt8]) -> [[UInt8]] {
        var result: [[UInt8]] = []
        var offset = 0
        while offset + 4 <= stream.count {
            let length = Int(stream[offset + 2]) << 8 | Int(stream[offset + 3])
            result.append(Array(stream[(offset + 4)..<(offset + length)]))
            offset += length
        }
        return result
    }
}

/// What a deframer made of a stream.
struct Deframed: Equatable {
    var frames: [[UInt8]] = []
    var faults: [FPMDeframer.Fault] = []
    var offsets: [UInt64] = []

    /// Feeds the chunks in order.
    init(_ chunks: some Sequence<ArraySlice<UInt8>>, into deframer: inout FPMDeframer) {
        for chunk in chunks {
            chunk.withUnsafeBytes { bytes in
                deframer.feed(bytes) { event in
                    switch event {
                    case .frame(let payload): frames.append(Array(payload))
                    case .fault(let fault, let offset):
                        faults.append(fault)
                        offsets.append(offset)
                    }
                }
            }
        }
    }
    init(_ chunks: some Sequence<ArraySlice<UInt8>>) {
        var deframer = FPMDeframer()
        self.init(chunks, into: &deframer)
    }
}

/// SplitMix64: a small generator whose sequence a seed fixes.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

/// Bytes from text such as `08 00 01 00`; anything that is not two hex digits is skipped.
func hex(_ text: String) -> [UInt8] {
    text.split { $0 == " " || $0 == "\n" }.compactMap { $0.count == 2 ? UInt8($0, radix: 16) : nil }
}
