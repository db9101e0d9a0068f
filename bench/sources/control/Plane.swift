// The control plane under test: the daemon's decoder, state, compiler and tables, fed with bytes.

import CGaps
import CLinux
import ControlPlane
import Glibc
import Tables
import Wire

/// What was fed, and how long turns took.
struct FeedTotals {
    var messages = 0
    var seconds = 0.0
    /// Of this thread: what it would have taken on a machine without others.
    var cpuSeconds = 0.0
    /// Longest turn: one chunk decoded, applied and published.
    var longestTurn = 0.0
    var perSecond: Double { seconds > 0 ? Double(messages) / seconds : 0 }
    var perCPUSecond: Double { cpuSeconds > 0 ? Double(messages) / cpuSeconds : 0 }
}

/// Takes streams as the FPM server does, in chunks of at most ``chunk`` bytes; each is one batch.
final class Plane {
    let configuration: Configuration
    let tables: ForwardingTables
    var state: ControlState
    let compiler: TableCompiler
    private var deframer = FPMDeframer()
    private var errors: [String] = []
    static let chunk = 65_536
    private var connection = 1
    private var lead = 0

    convenience init(_ streams: Streams) {
        let links = streams.links()
        let uplinks = (0..<Fabric.gatewayCount).map { streams.fabric.uplink($0) }
        self.init(yaml: streams.configuration, links: links.bytes, uplinks: uplinks)
        apply(.fpmConnected(connection: connection))
    }
    /// - Parameters:
    ///   - links: a kernel dump of the devices.
    ///   - uplinks: interfaces of the ports' exception TAPs.
    init(yaml: String, links: [UInt8], uplinks: [UInt32]) {
        do { configuration = try Configuration(yaml: yaml, file: "fabric.yaml") } catch {
            fail("the fabric's configuration is not valid: \(error)")
        }
        do {
            tables = try ForwardingTables(limits: TableLimits(configuration))
            state = ControlState(configuration: configuration)
            compiler = try TableCompiler(&state, tables: tables, at: ControlLoop.monotonic())
        } catch { fail("no tables: \(error)") }
        for (index, port) in configuration.ports.enumerated() {
            let number = UInt16(truncatingIfNeeded: index)
            apply(.portChanged(port: number, isUp: true, mac: port.mac ?? .zero, mtu: 1600))
        }
        apply(.kernelDumpBegan)
        let decoded = NetlinkDecoder.decode(links)
        if let error = decoded.errors.first { fail("the devices' dump: \(error)") }
        apply(.kernelDumped(decoded.messages))
        apply(.kernelDumpEnded)
        for (index, uplink) in uplinks.enumerated() {
            apply(.exceptionAttached(port: UInt16(index), interface: uplink, name: "u\(index)"))
        }
        flush()
    }

    /// Ends the connection and opens the next: what the old one said is swept when its time is over.
    func reconnect() {
        apply(.fpmDisconnected(connection: connection))
        connection += 1
        deframer = FPMDeframer()
        lead += 600
        apply(.fpmConnected(connection: connection))
        flush()
    }
    /// The clock, ahead of the machine's by what was skipped.
    private var now: Instant {
        let now = ControlLoop.monotonic()
        return Instant(nanoseconds: now.nanoseconds + UInt64(lead) * 1_000_000_000)
    }

    private func apply(_ event: ControlEvent) {
        for case .log(let level, let text) in state.apply(event, at: now)
        where level == .error || level == .warning { errors.append(text) }
    }
    private func flush() {
        for case .log(let level, let text) in compiler.flush(&state, at: now)
        where level == .error { errors.append(text) }
    }

    /// Feeds a part of the connection's stream.
    func feed(_ stream: UnsafeRawBufferPointer) -> FeedTotals {
        var totals = FeedTotals()
        let begin = seconds()
        let cpuBegin = seconds(CLOCK_THREAD_CPUTIME_ID)
        var turn = begin
        var offset = 0
        while offset < stream.count {
            totals.messages += feed(stream, at: &offset)
            let now = seconds()
            totals.longestTurn = max(totals.longestTurn, now - turn)
            turn = now
        }
        totals.seconds = seconds() - begin
        totals.cpuSeconds = seconds(CLOCK_THREAD_CPUTIME_ID) - cpuBegin
        return totals
    }
    /// Feeds the next chunk, one batch, and publishes; returns the messages of the routes and MACs in it.
    func feed(_ stream: UnsafeRawBufferPointer, at offset: inout Int) -> Int {
        let count = min(Self.chunk, stream.count - offset)
        let bytes = UnsafeRawBufferPointer(rebasing: stream[offset..<offset + count])
        offset += count
        var messages = 0
        FPMReader.read(bytes, &deframer, connection: connection) { event in
            switch event {
            case .fpmFrames(_, let taken, _): messages += taken.count
            case .fpmError(_, let text): errors.append(text)
            default: break
            }
            apply(event)
        }
        apply(.tick)
        flush()
        return messages
    }
    func feed(_ stream: StreamWriter) -> FeedTotals { stream.bytes.withUnsafeBytes { feed($0) } }

    /// What went wrong since this was last asked: a measurement of a refused stream says nothing.
    func takeErrors() -> [String] {
        defer { errors = [] }
        return errors
    }
}

/// Seconds of a clock, the monotonic one unless another is named.
func seconds(_ clock: clockid_t = CLOCK_MONOTONIC) -> Double {
    var now = timespec()
    clock_gettime(clock, &now)
    return Double(now.tv_sec) + Double(now.tv_nsec) / 1e9
}

/// Anonymous memory of this process, in bytes: streams are mapped files and do not count.
func residentBytes() -> Int {
    guard let file = fopen("/proc/self/status", "r") else { return 0 }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 256)
    while fgets(&line, 256, file) != nil {
        let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        if text.hasPrefix("RssAnon:") {
            return (Int(text.split(whereSeparator: { !$0.isNumber }).first ?? "0") ?? 0) * 1024
        }
    }
    return 0
}

/// Has the calling thread run on one CPU alone, whatever its parent was held to; false where that is not
/// possible, and the thread stays where it is.
@discardableResult
func pin(_ cpu: Int) -> Bool { gap_pin(Int32(cpu)) == 0 }

/// A thread that ends with its body.
final class BenchThread: @unchecked Sendable {
    private var handle = pthread_t()
    private let body: () -> Void
    init(_ body: @escaping () -> Void) {
        self.body = body
        let unmanaged = Unmanaged.passRetained(self)
        let result = pthread_create(&handle, nil, { raw in
            Unmanaged<BenchThread>.fromOpaque(raw.unsafelyUnwrapped).takeRetainedValue().body()
            return nil
        }, unmanaged.toOpaque())
        if result != 0 { fail("no thread: \(String(cString: strerror(result)))") }
    }
    func join() { pthread_join(handle, nil) }
}

func fail(_ text: String) -> Never {
    let line = Array("bench-control: \(text)\n".utf8)
    _ = line.withUnsafeBytes { write(2, $0.baseAddress, $0.count) }
    exit(1)
}
