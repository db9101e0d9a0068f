// FPM framing: what is skipped, what ends a connection, and how much is kept.

import Testing

@testable import ControlPlane

@Suite struct FPMDeframerTests {
    private let good: [UInt8] = [1, 1, 0, 8, 0xAA, 0xBB, 0xCC, 0xDD]

    /// The stream fed whole and byte by byte, which must not differ.
    private func deframe(_ stream: [UInt8]) -> Deframed {
        let whole = Deframed([stream[...]])
        #expect(Deframed(stream.indices.map { stream[$0...$0] }) == whole)
        return whole
    }

    @Test func aFrameWithoutMessagesIsAFrame() {
        #expect(deframe([1, 1, 0, 4] + good).frames == [[], Array(good[4...])])
    }

    @Test(arguments: [0, 2, 255] as [UInt8]) func wrongVersionSkipsTheFrame(version: UInt8) {
        let result = deframe(good + [version, 1, 0, 6, 9, 9] + good)
        #expect(result.frames.count == 2)
        #expect(result.faults == [.version(version)] && result.offsets == [8])
    }

    @Test(arguments: [0, 2, 200] as [UInt8]) func wrongTypeSkipsTheFrame(type: UInt8) {
        let result = deframe(good + [1, type, 0, 7, 9, 9, 9] + good)
        #expect(result.frames.count == 2)
        #expect(result.faults == [.type(type)] && result.offsets == [8])
    }

    @Test(arguments: [0, 1, 2, 3] as [UInt8]) func lengthBelowTheHeaderEndsTheStream(length: UInt8) {
        var deframer = FPMDeframer()
        let result = Deframed([(good + [1, 1, 0, length] + good)[...], good[...]], into: &deframer)
        #expect(result.frames.count == 1)
        #expect(result.faults == [.length(UInt16(length))] && result.offsets == [8])
        #expect(deframer.isBroken && deframer.pendingCount == 0)
        #expect(deframe(good + [1, 1, 0, length] + good) == result)
    }

    @Test func theLargestFrameIsKeptUntilItIsCompleteAndNoMore() {
        let body = (0..<65_531).map { UInt8(truncatingIfNeeded: $0) }
        let stream = [1, 1, 0xFF, 0xFF] + body + good
        var deframer = FPMDeframer()
        var frames: [[UInt8]] = []
        var largest = 0
        var start = 0
        while start < stream.count {
            let chunk = stream[start..<min(start + 1000, stream.count)]
            frames += Deframed([chunk], into: &deframer).frames
            largest = max(largest, deframer.pendingCount)
            start += 1000
        }
        #expect(frames == [body, Array(good[4...])])
        #expect(largest < 65_536)
        #expect(deframer.pendingCount == 0 && !deframer.isBroken)
    }

    @Test func aHugeLengthWithoutBytesWaitsAndKeepsOnlyWhatCame() {
        var deframer = FPMDeframer()
        let result = Deframed([[1, 1, 0xFF, 0xFF, 7][...]], into: &deframer)
        #expect(result == Deframed([]))
        #expect(deframer.pendingCount == 5 && !deframer.isBroken)
    }

    @Test func everyTruncationOfARecordedStreamDeliversItsCompleteFrames() throws {
        for stream in try Recording.allStreams() {
            let whole = Recording.payloads(stream)
            var complete = 0
            var end = 4 + (whole.first?.count ?? 0)
            for count in 0...stream.count {
                while complete < whole.count, end <= count {
                    complete += 1
                    if complete < whole.count { end += 4 + whole[complete].count }
                }
                let result = Deframed([stream[0..<count]])
                #expect(result.frames.count == complete)
                #expect(result.faults == [])
            }
        }
    }

    @Test func anyBytesAreSurvived() {
        for seed in UInt64(1)...50 {
            var generator = SeededGenerator(seed: seed)
            var deframer = FPMDeframer()
            for _ in 0..<40 {
                let chunk = (0..<Int.random(in: 0...300, using: &generator)).map { _ in
                    [0, 1, 1, 1, UInt8.random(in: 0...255, using: &generator)].randomElement(using: &generator) ?? 0
                }
                for frame in Deframed([chunk[...]], into: &deframer).frames { _ = NetlinkDecoder.decode(frame) }
                #expect(deframer.pendingCount < 65_536)
            }
        }
    }
}
